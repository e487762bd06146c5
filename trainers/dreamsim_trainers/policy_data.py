"""Training samples for a policy, cloned from episodes.

In: episodes to imitate, a tokenizer, the policy's settings. Out: samples of token ids and labels.
Always: samples are made by `dreamsim.agents.language_model.PolicyPrompt`, the code that asks at inference; loss
falls on the decisions alone. The growing layout gives one sample per episode, the windowed one a sample per step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dreamsim.agents.language_model import PolicyPrompt, PolicySettings
from dreamsim.protocols import Tokenizer
from dreamsim.records.episode import Episode
from dreamsim_trainers.experience_data import IGNORED, Sample


def policy_samples(
    episodes: Iterable[Episode], tokenizer: Tokenizer, settings: PolicySettings, *, max_tokens: int = 1024
) -> Iterator[Sample]:
    """Every sample of `episodes` that is not longer than `max_tokens`."""
    for episode in episodes:
        steps = list(_steps(episode, tokenizer, settings))
        if settings.window is None and steps:
            # each prompt begins with the whole of the one before: the last holds them all
            yield from _whole(steps, max_tokens)
            continue
        for prompt, answer in steps:
            if len(prompt) + len(answer) <= max_tokens:
                yield Sample(
                    input_ids=np.concatenate([prompt, answer]),
                    labels=np.concatenate([np.full_like(prompt, IGNORED), answer]),
                )


def _steps(
    episode: Episode, tokenizer: Tokenizer, settings: PolicySettings
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    prompt = PolicyPrompt(tokenizer, settings, episode.task)
    admissible: tuple[str, ...] = ()
    for transition in episode.transitions:
        answer = prompt.answer(transition.action)
        yield prompt.ask(admissible), answer
        prompt.append(transition.action, transition.state, answer)
        admissible = transition.admissible


def _whole(steps: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]], max_tokens: int) -> Iterator[Sample]:
    fitting = [step for step in steps if len(step[0]) + len(step[1]) <= max_tokens]
    if not fitting:
        return
    prompt, answer = fitting[-1]
    ids = np.concatenate([prompt, answer])
    labels = np.full_like(ids, IGNORED)
    for before, decided in fitting:
        labels[len(before) : len(before) + len(decided)] = decided
    yield Sample(input_ids=ids, labels=labels)
