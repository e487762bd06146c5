"""Supervised training of a causal language model on ready-made samples, with TRL's SFTTrainer.

In: samples of ids and labels, a model (a tiny one from scratch, or any Hugging Face causal LM, with or without LoRA).
Out: a checkpoint directory that transformers and vLLM load.
Always:
- Nothing is tokenized here: ids come from the code that builds prompts at inference.
- Training resumes from its last checkpoint when the same output directory is given again, and ends with the same
  weights as if it had never stopped.
- What is trained is float32, computed under bfloat16 autocast; frozen weights below an adapter stay as they were
  loaded.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamsim.errors import ConfigurationError, MissingExtraError
from dreamsim.runtime.seeds import seed_of
from dreamsim_trainers.experience_data import IGNORED, Sample
from dreamsim_trainers.induction import install_induction

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig, SFTTrainer


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """Shape of a Qwen2 trained from scratch. The default has 3.3 million parameters."""

    hidden_size: int = 256
    """Width of the residual stream."""
    layers: int = 4
    """Number of blocks."""
    heads: int = 4
    """Heads; `hidden_size / heads` must be a head size the engine has kernels for (32, 64, 80, 96, 128, ...)."""
    intermediate_size: int = 640
    """Width of the gated MLP."""
    induction: bool = True
    """Whether two layers begin with induction heads in place (`dreamsim_trainers.induction`)."""

    @classmethod
    def parse(cls, text: str) -> TinyShape:
        """Read `width,layers,heads,MLP width`.

        Raises:
            ConfigurationError: the text is not four whole numbers.
        """
        try:
            width, layers, heads, intermediate = (int(number) for number in text.split(","))
        except ValueError:
            raise ConfigurationError(f"a shape is four whole numbers, such as 256,4,4,640; not {text!r}") from None
        return cls(hidden_size=width, layers=layers, heads=heads, intermediate_size=intermediate)


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
    compile: bool = False
    """Compile the forward pass with torch.compile: a quarter more tokens a second on a CPU; needs a C++ compiler."""
    threads: int = 0
    """Threads for CPU training; 0 is torch's own choice."""
    lora: LoraShape | None = None
    """Train a LoRA adapter only; for fine-tunes."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Written beside the weights: command, data recipe, whatever made them."""


def tiny_model(
    vocabulary_size: int, shape: TinyShape, *, pad_token_id: int, end_token_id: int, seed: int
) -> PreTrainedModel:
    """A Qwen2 from scratch with tied embeddings.

    Raises:
        ConfigurationError: the width is not a multiple of the heads.
    """
    _require_training()
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    if shape.hidden_size % shape.heads:
        raise ConfigurationError(f"hidden_size {shape.hidden_size} must be a multiple of heads {shape.heads}")
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        initializer_range=0.05,
        pad_token_id=pad_token_id,
        bos_token_id=None,
        eos_token_id=end_token_id,
    )
    model = Qwen2ForCausalLM(config)
    if shape.induction:
        install_induction(model, seed=seed)
    return model


def load_for_training(model: str) -> PreTrainedModel:
    """Any Hugging Face causal LM, by directory or hub name; on a GPU in its checkpoint's type, on a CPU in float32.

    Whoever trains its weights makes them float32 first (`train`, `train_dpo`, `optimisation.Learner`).
    """
    _require_training()
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        model, trust_remote_code=False, dtype="auto" if torch.cuda.is_available() else torch.float32
    )


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample],
    settings: TrainSettings,
) -> Path:
    """Train `model` on `samples`; write weights, tokenizer and `provenance.json` to `settings.output`, and return it.

    Raises:
        ConfigurationError: there are no samples.
        MissingExtraError: the training packages are not installed.
    """
    _require_training()
    import torch
    from transformers.trainer_utils import get_last_checkpoint

    if not samples:
        raise ConfigurationError("there is nothing to train on: the data holds no step of the wanted kind")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.lora is None:  # a small step on a bfloat16 weight would be rounded away; PEFT makes adapters float32
        model.float()
    if settings.compile:
        model.forward = torch.compile(model.forward, dynamic=True)
    work = settings.output / "training"
    order = Order(
        lengths=tuple(len(sample.input_ids) for sample in samples),
        batch_size=settings.batch_size * settings.accumulation,
        steps=settings.steps,
        seed=settings.seed,
    )
    trainer = _trainer_class(order)(
        model=model,
        args=_sft_config(settings, work),
        train_dataset=_dataset(samples),
        data_collator=Padding(pad_token_id=int(tokenizer.pad_token_id or 0)),
        processing_class=tokenizer,
        peft_config=_peft(settings.lora),
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(work)) if work.is_dir() else None)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trained.to(torch.bfloat16).save_pretrained(str(settings.output))
    tokenizer.save_pretrained(str(settings.output))
    losses = [entry for entry in trainer.state.log_history if "loss" in entry]
    provenance = {
        **settings.provenance,
        "training": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(settings).items()},
        "samples": len(samples),
        "final_loss": losses[-1]["loss"] if losses else None,
    }
    provenance["training"].pop("provenance")
    (settings.output / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    return settings.output


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order of samples over a whole training: every sample once, then once more, those of like length together.

    It is the same whenever it is asked for, so that a resumed training skips to where it stopped. (transformers' own
    order hangs on the state of torch's generator, which is another one after an interruption.)
    """

    lengths: Sequence[int]
    """Tokens of each sample."""
    batch_size: int
    """Samples of one optimizer step on one device."""
    steps: int
    """Optimizer steps."""
    seed: int
    """Seed of the order."""
    devices: int = 1
    """Devices that share the samples."""

    def __len__(self) -> int:
        """Samples shown, repetitions counted."""
        return self.steps * self.batch_size * self.devices

    def __iter__(self) -> Iterator[int]:
        """Numbers of samples."""
        import torch
        from transformers.trainer_pt_utils import get_length_grouped_indices

        wanted = len(self)
        for epoch in itertools.count():
            draw = torch.Generator().manual_seed(seed_of(self.seed, "order", epoch))
            yield from get_length_grouped_indices(self.lengths, self.batch_size, generator=draw)[:wanted]
            wanted -= len(self.lengths)
            if wanted <= 0:
                return


def _trainer_class(order: Order) -> type[SFTTrainer]:
    """SFTTrainer with our order of samples, and with the model's own loss: its fused head and metrics cost a tiny model
    a third of the time."""
    from trl import SFTTrainer

    class OwnLossTrainer(SFTTrainer):  # type: ignore[misc]  # trl has no types
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return replace(order, devices=self.args.world_size)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            outputs = model(**inputs, use_cache=False, num_items_in_batch=num_items_in_batch)
            return (outputs.loss, outputs) if return_outputs else outputs.loss

    return OwnLossTrainer


def _sft_config(settings: TrainSettings, work: Path) -> SFTConfig:
    import torch
    from trl import SFTConfig

    return SFTConfig(
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
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        logging_steps=settings.log_steps,
        save_steps=settings.save_steps,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=settings.gradient_checkpointing,
        max_length=None,
        packing=False,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """Joins samples to a batch, padded on the right.

    There is no attention mask: a causal model never looks at what stands to the right, and without a mask attention
    takes its fast path (a quarter more tokens a second on CPU).
    """

    pad_token_id: int
    """Id to pad with; the loss leaves it out."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors `input_ids` and `labels`, each of shape [batch, longest] with longest a multiple of 32."""
        import torch

        # few lengths: kernels are prepared anew for every shape
        longest = -(-max(len(row["input_ids"]) for row in rows) // 32) * 32
        shape = (len(rows), longest)
        ids = np.full(shape, self.pad_token_id, dtype=np.int64)
        labels = np.full(shape, IGNORED, dtype=np.int64)
        for number, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[number, :length] = row["input_ids"]
            labels[number, :length] = row["labels"]
        return {
            "input_ids": torch.from_numpy(ids),
            "labels": torch.from_numpy(labels),
        }


def _dataset(samples: Sequence[Sample]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict(
        {
            "input_ids": [sample.input_ids for sample in samples],
            "labels": [sample.labels for sample in samples],
        }
    )


def _peft(lora: LoraShape | None) -> Any:
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.target_modules, task_type="CAUSAL_LM")


def _require_training() -> None:
    try:
        import datasets  # noqa: F401 - only to see whether it is there
        import transformers  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(str(error.name), extra="train", purpose="training") from error
