"""Supervised training of a causal language model on ready-made samples, with TRL's SFTTrainer.

In: samples of ids and labels, a model (a tiny one from scratch, or any Hugging Face causal LM, with or without LoRA).
Out: a checkpoint directory that transformers and vLLM load.
Always:
- Nothing is tokenized here: ids come from the code that builds prompts at inference.
- Training resumes from its last checkpoint when the same output directory is given again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamsim.errors import ConfigurationError, MissingExtraError
from dreamsim_trainers.experience_data import IGNORED, Sample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """Shape of a Llama trained from scratch. The default has about 2 million parameters."""

    hidden_size: int = 192
    """Width of the residual stream."""
    layers: int = 5
    """Number of blocks."""
    heads: int = 6
    """Query heads; `hidden_size / heads` must be a head size the engine has kernels for (32, 64, 80, 96, 128, ...)."""
    key_value_heads: int = 3
    """Key and value heads; fewer make the KV cache smaller."""
    intermediate_size: int = 512
    """Width of the gated MLP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraShape:
    """A LoRA fine-tune instead of a full one."""

    rank: int = 16
    """Rank r of the update B A."""
    alpha: int = 32
    """Scale: the update is multiplied by alpha / r."""
    target_modules: str = "all-linear"
    """As in PEFT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How to train."""

    output: Path
    """Checkpoint directory to write."""
    steps: int
    """Optimizer steps."""
    batch_size: int = 16
    """Sequences per optimizer step on one device."""
    accumulation: int = 1
    """Gradient accumulation: the batch is this many times larger."""
    learning_rate: float = 2e-3
    """Peak; cosine decay to a tenth."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.05
    """AdamW's."""
    seed: int = 0
    """Seed of initial weights and of the order of samples."""
    save_steps: int = 500
    """A resumable checkpoint every so many steps."""
    log_steps: int = 50
    """A line of loss every so many steps."""
    gradient_checkpointing: bool = False
    """Recompute activations: less memory, more time."""
    threads: int = 0
    """Threads for CPU training; 0 is torch's own choice."""
    lora: LoraShape | None = None
    """Train a LoRA adapter only; for fine-tunes."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Written beside the weights: command, data recipe, whatever made them."""


def tiny_llama(vocabulary_size: int, shape: TinyShape, *, pad_token_id: int, end_token_id: int, seed: int) -> PreTrainedModel:
    """A Llama with random weights and tied embeddings."""
    _require_training()
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if shape.hidden_size % shape.heads or shape.heads % shape.key_value_heads:
        raise ConfigurationError(
            f"hidden_size {shape.hidden_size} must be a multiple of heads {shape.heads}, and heads of "
            f"key_value_heads {shape.key_value_heads}"
        )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=pad_token_id,
        bos_token_id=None,
        eos_token_id=end_token_id,
    )
    return LlamaForCausalLM(config)


def load_for_training(model: str) -> PreTrainedModel:
    """Any Hugging Face causal LM, by directory or hub name."""
    _require_training()
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model)


def train(model: PreTrainedModel, samples: Sequence[Sample], settings: TrainSettings, *, pad_token_id: int) -> Path:
    """Train `model` on `samples` and write it to `settings.output`, with `provenance.json`. Returns that directory."""
    _require_training()
    import torch
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTConfig, SFTTrainer

    if not samples:
        raise ConfigurationError("there is nothing to train on: the data holds no step of the wanted kind")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    work = settings.output / "training"
    cuda = torch.cuda.is_available()
    config = SFTConfig(
        output_dir=str(work),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not cuda,
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=settings.log_steps,
        save_steps=settings.save_steps,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=settings.gradient_checkpointing,
        max_length=None,
        packing=False,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=_dataset(samples),
        data_collator=_Padding(pad_token_id),
        processing_class=_NoTokenizer(pad_token_id),  # type: ignore[arg-type]
        peft_config=_peft(settings.lora),
    )
    last = get_last_checkpoint(str(work)) if work.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    trainer.model.save_pretrained(str(settings.output))
    (settings.output / "provenance.json").write_text(
        json.dumps(
            {**settings.provenance, "training": _jsonable(asdict(settings)), "samples": len(samples)}, indent=1
        )
    )
    return settings.output
