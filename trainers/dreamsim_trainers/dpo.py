"""DPO: the baseline that prefers stored successes over stored failures of the same task.

In: stored episodes, a policy's checkpoint. Out: a checkpoint directory.
Loss: -log sigmoid(beta [(log pi(y+) - log ref(y+)) - (log pi(y-) - log ref(y-))]), Eq. 7 of arXiv 2305.18290, by TRL's
DPOTrainer; log pi(y) sums over the tokens of decisions alone, over a whole episode (as in ETO, arXiv 2403.02502).
Always: held-out folds and evaluation episodes are refused; the reference is the checkpoint that training began with;
what is trained is float32, computed under bfloat16 autocast.

Deviations from TRL: nothing is tokenized there, and the mask of what counts comes with the data, because in an episode
of many steps the agent's tokens are not one stretch at the end. A training that is interrupted begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamsim.agents.language_model import PolicySettings
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode
from dreamsim_trainers.causal_lm import TinyShape, TrainSettings, load_for_training
from dreamsim_trainers.demonstrations import PreferencePair, preference_pairs
from dreamsim_trainers.experience_data import IGNORED
from dreamsim_trainers.experience_model import check_folds, model_and_tokenizer, write_prompting
from dreamsim_trainers.policy import policy_prompting
from dreamsim_trainers.sft import transition_counts

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoTraining:
    """What to prefer, and how."""

    model: str
    """Checkpoint of the policy to go on from (directory or hub name)."""
    train: TrainSettings
    """How to train; its batch size counts pairs."""
    beta: float = 0.1
    """How dear it is to leave the reference."""
    per_task: int = 4
    """Most pairs of one task."""
    settings: PolicySettings = field(default_factory=lambda: PolicySettings(window=None, begin_action=True))
    """How the policy is asked."""
    max_tokens: int = 1024
    """Longest sequence."""
    folds: tuple[str, ...] = ("train",)
    """Folds that may be learned from."""


def train_dpo(episodes: Sequence[Episode], wanted: DpoTraining) -> Path:
    """Prefer successes over failures of the same task; returns the checkpoint directory.

    Raises:
        ConfigurationError: no task has both, or an episode of a held-out fold is among them.
    """
    import torch
    from datasets import Dataset

    check_folds(episodes, wanted.folds)
    settings = wanted.train
    model, pretrained = model_and_tokenizer(episodes, wanted.model, TinyShape(), settings)
    pairs = preference_pairs(
        episodes,
        load_tokenizer(str(settings.output)),
        wanted.settings,
        per_task=wanted.per_task,
        max_tokens=wanted.max_tokens,
        seed=settings.seed,
    )
    if not pairs:
        raise ConfigurationError("no task has both a success and a failure: collect some with a mistaken policy")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    reference = None
    if settings.lora is None:  # a small step on a bfloat16 weight would be rounded away; PEFT makes adapters float32
        model.float()
        reference = load_for_training(wanted.model).float()  # computes as the policy does: they agree before step 1
    trainer = _trainer_class()(
        model=model,
        ref_model=reference,
        args=_config(wanted),
        train_dataset=Dataset.from_list([_row(pair) for pair in pairs]),
        data_collator=PairPadding(pad_token_id=int(pretrained.pad_token_id or 0)),
        processing_class=pretrained,
        peft_config=_peft(settings),
    )
    trainer.train()
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trained.to(torch.bfloat16).save_pretrained(str(settings.output))
    pretrained.save_pretrained(str(settings.output))
    write_prompting(settings.output, policy_prompting(wanted.settings))
    provenance = {
        **settings.provenance,
        "kind": "dpo",
        "from": wanted.model,
        "beta": wanted.beta,
        "pairs": len(pairs),
        **transition_counts(episodes),
    }
    (settings.output / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    return settings.output


def _row(pair: PreferencePair) -> dict[str, Any]:
    return {
        "chosen_ids": pair.chosen.input_ids,
        "chosen_mask": pair.chosen.labels != IGNORED,
        "rejected_ids": pair.rejected.input_ids,
        "rejected_mask": pair.rejected.labels != IGNORED,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPadding:
    """Joins pairs to a batch: first all chosen sequences, then all rejected ones, padded on the right."""

    pad_token_id: int
    """Id to pad with."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors `input_ids`, `attention_mask` and `completion_mask`, each of shape [2 * pairs, longest]."""
        import torch

        sides = [(row[f"{side}_ids"], row[f"{side}_mask"]) for side in ("chosen", "rejected") for row in rows]
        shape = (len(sides), max(len(ids) for ids, _ in sides))
        made = {name: np.zeros(shape, dtype=np.int64) for name in ("input_ids", "attention_mask", "completion_mask")}
        made["input_ids"][:] = self.pad_token_id
        for place, (ids, mask) in enumerate(sides):
            made["input_ids"][place, : len(ids)] = ids
            made["attention_mask"][place, : len(ids)] = 1
            made["completion_mask"][place, : len(ids)] = mask
        return {name: torch.from_numpy(column) for name, column in made.items()}


def _trainer_class() -> Any:
    """DPOTrainer that takes its data as it is."""
    from trl import DPOTrainer

    class ReadyPairsTrainer(DPOTrainer):  # type: ignore[misc]  # trl has no types
        def _prepare_dataset(self, dataset: Any, *rest: Any) -> Any:
            return dataset

    return ReadyPairsTrainer


def _config(wanted: DpoTraining) -> Any:
    import torch
    from trl import DPOConfig

    settings = wanted.train
    return DPOConfig(
        output_dir=str(settings.output / "training"),
        beta=wanted.beta,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=settings.log_steps,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=settings.gradient_checkpointing,
        max_length=None,
        remove_unused_columns=False,
    )


def _peft(settings: TrainSettings) -> Any:
    if settings.lora is None:
        return None
    from peft import LoraConfig

    shape = asdict(settings.lora)
    return LoraConfig(
        r=shape["rank"], lora_alpha=shape["alpha"], target_modules=shape["target_modules"], task_type="CAUSAL_LM"
    )
