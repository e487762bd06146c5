"""Clones a policy from episodes (supervised fine-tuning on decisions).

In: episodes to imitate. Out: a checkpoint directory with weights, tokenizer, `provenance.json` and `dreamsim.json`.
Always: episodes of held-out folds and evaluation episodes are refused; only what succeeded is imitated, unless asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dreamsim.agents.language_model import PolicySettings
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode
from dreamsim_trainers.causal_lm import TinyShape, TrainSettings, train
from dreamsim_trainers.experience_model import check_folds, model_and_tokenizer, write_prompting
from dreamsim_trainers.policy_data import policy_samples
from dreamsim_trainers.renaming import carried_names, rename_episode


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTraining:
    """What to clone, and how."""

    model: str = "tiny"
    """`tiny` for a model from scratch, else a Hugging Face model to fine-tune (directory or hub name)."""
    tokenizer: str | None = None
    """Directory of a tokenizer for a tiny model; None makes one from the episodes."""
    shape: TinyShape = field(default_factory=TinyShape)
    """Shape of a tiny model."""
    settings: PolicySettings = field(default_factory=lambda: PolicySettings(window=None, begin_action=True))
    """How the policy will be asked."""
    successes_only: bool = True
    """Whether only successful episodes are imitated."""
    variants: int = 1
    """How often each episode is laid out; renamed ones under other names each time."""
    rename_share: float = 0.0
    """Share of these whose things are renamed (`dreamsim_trainers.renaming`), so that names are copied from the state
    instead of remembered; for tiny models."""
    rename_keep: tuple[str, ...] = ()
    """Names that keep their meaning and so are never renamed."""
    max_tokens: int = 1024
    """Longest sample."""
    folds: tuple[str, ...] = ("train",)
    """Folds that may be learned from."""
    train: TrainSettings
    """How to train."""

    def __post_init__(self) -> None:
        if self.variants < 1 or not 0 <= self.rename_share <= 1:
            raise ConfigurationError("variants must be at least 1, and rename_share from 0 to 1")


def train_policy(episodes: Sequence[Episode], wanted: PolicyTraining) -> Path:
    """Clone a policy from `episodes`; returns the checkpoint directory.

    Raises:
        ConfigurationError: nothing to imitate, or an episode of a held-out fold among the data.
    """
    check_folds(episodes, wanted.folds)
    imitated = [episode for episode in episodes if not wanted.successes_only or episode.outcome == "success"]
    if not imitated:
        raise ConfigurationError("no successful episode to imitate: collect some with the policy `gold`")
    model, pretrained = model_and_tokenizer(
        imitated, wanted.model, wanted.shape, wanted.train, tokenizer=wanted.tokenizer
    )
    tokenizer = load_tokenizer(str(wanted.train.output))
    made = list(policy_samples(varied(imitated, wanted), tokenizer, wanted.settings, max_tokens=wanted.max_tokens))
    provenance = {
        **wanted.train.provenance,
        "kind": "policy",
        "from": wanted.model,
        "episodes": len(imitated),
        "real_steps": sum(len(episode.transitions) for episode in imitated),
    }
    output = train(model, pretrained, made, replace(wanted.train, provenance=provenance))
    write_prompting(output, policy_prompting(wanted.settings))
    return output


def varied(episodes: Sequence[Episode], wanted: PolicyTraining) -> Iterator[Episode]:
    """Every episode `wanted.variants` times, a share of them renamed; each draw depends on seed and place alone."""
    names = carried_names(episodes, keep=wanted.rename_keep) if wanted.rename_share else set()
    for variant in range(wanted.variants):
        for place, episode in enumerate(episodes):
            generator = np.random.default_rng([wanted.train.seed, variant, place])
            renamed = generator.random() < wanted.rename_share
            yield rename_episode(episode, names, generator) if renamed else episode


def policy_prompting(settings: PolicySettings) -> dict[str, Any]:
    """What `dreamsim.json` says of a policy: the settings it was trained with."""
    return {
        "layout": "plain",
        "window": settings.window,
        "show_admissible": settings.show_admissible,
        "begin_action": settings.begin_action,
        "max_tokens": settings.max_tokens,
    }
