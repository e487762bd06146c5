"""Adds actions on things that are not there to real episodes, so that an experience model learns to refuse them.

In: a real episode and names of things that exist elsewhere. Out: the episode with further steps, each a failure.
Always: an inserted action names a thing that the present state does not show. In environments where such an action
changes nothing and earns nothing (TextWorldExpress answers `Unknown action`), the inserted step is what the real
environment would have said; use it only there. Episodes are made for training alone, and never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import RESULT, State

FAILED = "failed"


def with_absent(episode: Episode, names: Sequence[str], generator: np.random.Generator, *, share: float) -> Episode:
    """`episode` with a failing action before each of its steps with probability `share`."""
    transitions: list[Transition] = []
    before = episode.task.first_state
    for transition in episode.transitions:
        if generator.random() < share:
            inserted = _failure(before, names, generator)
            if inserted is not None:
                transitions.append(inserted)
        transitions.append(transition)
        before = transition.state
    return replace(episode, transitions=tuple(transitions))


def _failure(before: State, names: Sequence[str], generator: np.random.Generator) -> Transition | None:
    elements = {key: value for key, value in before.elements.items() if key != RESULT}
    name = str(names[int(generator.integers(len(names)))])
    if generator.random() < 0.4:  # half of one name and half of another
        other = str(names[int(generator.integers(len(names)))])
        name = f"{name.split(maxsplit=1)[0]} {other.rsplit(maxsplit=1)[-1]}"
    if name in elements:
        return None
    shown = [key for key, value in elements.items() if value.split()[:1] in (["here"], ["open"], ["closed"])]
    place = str(generator.choice(shown)) if shown else "floor"
    kind = str(generator.choice(["take", "put"], p=[0.65, 0.35]))
    facts = [f"{name}: none"]
    action = f"{kind} {name}"
    if kind == "put":
        action = f"{kind} {name} in {place}"
        facts.append(f"{place}: {elements.get(place, 'none')}")
    return Transition(
        action=action,
        state=State.from_elements({**elements, RESULT: FAILED}),
        reward=0.0,
        outcome="running",
        reasoning="; ".join([*facts, "fails"]),
    )
