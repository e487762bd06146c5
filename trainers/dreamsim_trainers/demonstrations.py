"""Stored episodes as sequences to imitate, or as pairs of a better and a worse one.

In: stored episodes of any policy. Out: samples of ids and labels; preference pairs.
Always:
- what a language model generated is kept as it is; what another policy did (gold, random) is laid out by the prompt
  that asks at inference (`policy_data`);
- loss falls on decisions alone; a pair is two episodes of one task of which one succeeded and the other did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from dreamsim.agents.language_model import PolicySettings
from dreamsim.flow.batches import layout
from dreamsim.flow.groups import unusable
from dreamsim.protocols import Tokenizer
from dreamsim.records.episode import Episode
from dreamsim.runtime.seeds import generator
from dreamsim_trainers.experience_data import IGNORED, Sample
from dreamsim_trainers.policy_data import policy_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """Two ways to go about one task."""

    task_key: str
    """The task's key."""
    chosen: Sample
    """The better one."""
    rejected: Sample
    """The worse one."""


def demonstration_samples(
    episode: Episode, tokenizer: Tokenizer, settings: PolicySettings, *, max_tokens: int
) -> list[Sample]:
    """The sequences of one episode that are not longer than `max_tokens`."""
    if unusable(episode) is not None:  # no engine's tokens are known
        return list(policy_samples([episode], tokenizer, settings, max_tokens=max_tokens))
    decisions = [step.decision for step in episode.transitions if step.decision is not None]
    return [
        Sample(input_ids=one.token_ids, labels=np.where(one.loss_mask, one.token_ids, np.int32(IGNORED)))
        for one in layout(decisions)
        if len(one) <= max_tokens
    ]


def preference_pairs(
    episodes: Sequence[Episode],
    tokenizer: Tokenizer,
    settings: PolicySettings,
    *,
    per_task: int = 4,
    max_tokens: int = 1024,
    seed: int = 0,
) -> list[PreferencePair]:
    """Pairs of a success and a failure (or a truncation) of the same task.

    Where an episode is one growing sequence the pair is of whole episodes, as in trajectory-level DPO (ETO, arXiv
    2403.02502, Eq. 5). Where each step has its own prompt, it is of the first decision that differs after the same
    prompt: there alone the two can be compared.

    Args:
        episodes: of any tasks and outcomes; errors are passed over.
        tokenizer: of the policy.
        settings: how the policy is asked.
        per_task: most pairs of one task; which ones is drawn from `seed`.
        max_tokens: longer sequences are passed over.
        seed: root of the draw.
    """
    by_task: dict[str, tuple[list[Episode], list[Episode]]] = {}
    for episode in episodes:
        if episode.outcome != "error" and episode.transitions:
            good, bad = by_task.setdefault(episode.task.key, ([], []))
            (good if episode.outcome == "success" else bad).append(episode)
    made: list[PreferencePair] = []
    for key, (good, bad) in by_task.items():
        every = [(better, worse) for better in good for worse in bad]
        order = generator(seed, "pairs", key).permutation(len(every))[:per_task]
        for better, worse in (every[place] for place in order):
            pair = _pair(
                key,
                demonstration_samples(better, tokenizer, settings, max_tokens=max_tokens),
                demonstration_samples(worse, tokenizer, settings, max_tokens=max_tokens),
                whole=settings.window is None,
            )
            made += [] if pair is None else [pair]
    return made


def _pair(key: str, better: list[Sample], worse: list[Sample], *, whole: bool) -> PreferencePair | None:
    """The first sequences that can be compared and differ; None where there are none."""
    for chosen, rejected in zip_longest(better, worse):
        if chosen is None or rejected is None:
            return None
        if np.array_equal(chosen.input_ids, rejected.input_ids):
            if whole:
                return None
            continue
        if not whole and not np.array_equal(_prompt(chosen), _prompt(rejected)):
            return None  # the same action led elsewhere: what follows cannot be compared
        return PreferencePair(task_key=key, chosen=chosen, rejected=rejected)
    return None


def _prompt(sample: Sample) -> NDArray[np.int32]:
    return sample.input_ids[: int(np.argmax(sample.labels != IGNORED))]
