"""SFT: the baseline that imitates stored successes (DreamGym, arXiv 2511.03773, section 5).

In: stored episodes, a policy's checkpoint. Out: a checkpoint directory.
Loss: -(1/n) sum log pi(token) over the n tokens of decisions in a batch, by TRL's SFTTrainer (`causal_lm.train`).
Always: held-out folds and evaluation episodes are refused; real and other transitions are counted in `provenance.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dreamsim.agents.language_model import PolicySettings
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode
from dreamsim_trainers.causal_lm import TinyShape, TrainSettings, train
from dreamsim_trainers.demonstrations import demonstration_samples
from dreamsim_trainers.experience_model import check_folds, model_and_tokenizer, write_prompting
from dreamsim_trainers.policy import policy_prompting


@dataclass(frozen=True, slots=True, kw_only=True)
class SftTraining:
    """What to imitate, and how."""

    model: str
    """Checkpoint of the policy to go on from (directory or hub name)."""
    train: TrainSettings
    """How to train."""
    settings: PolicySettings = field(default_factory=lambda: PolicySettings(window=None, begin_action=True))
    """How the policy is asked."""
    max_tokens: int = 1024
    """Longest sequence."""
    folds: tuple[str, ...] = ("train",)
    """Folds that may be learned from."""


def train_sft(episodes: Sequence[Episode], wanted: SftTraining) -> Path:
    """Imitate the successes among `episodes`; returns the checkpoint directory.

    Raises:
        ConfigurationError: there is no success, or an episode of a held-out fold is among them.
    """
    check_folds(episodes, wanted.folds)
    good = [episode for episode in episodes if episode.outcome == "success"]
    if not good:
        raise ConfigurationError("there is no successful episode to imitate among those given")
    model, pretrained = model_and_tokenizer(good, wanted.model, TinyShape(), wanted.train)
    tokenizer = load_tokenizer(str(wanted.train.output))
    made = [
        sample
        for episode in good
        for sample in demonstration_samples(episode, tokenizer, wanted.settings, max_tokens=wanted.max_tokens)
    ]
    provenance = {**wanted.train.provenance, "kind": "sft", "from": wanted.model, **transition_counts(episodes)}
    output = train(model, pretrained, made, replace(wanted.train, provenance=provenance))
    write_prompting(output, policy_prompting(wanted.settings))
    return output


def transition_counts(episodes: Sequence[Episode]) -> dict[str, Any]:
    """How much experience a baseline was given, also what it did not use: it had to be collected all the same."""
    steps = {"real": 0, "dreamed": 0}
    for episode in episodes:
        steps[episode.source] += len(episode.transitions)
    return {"episodes": len(episodes), "real_steps": steps["real"], "dreamed_steps": steps["dreamed"]}
