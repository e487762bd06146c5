"""Real episodes of the scripted world, with reasoning, for tests of trainers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dreamsim.records.episode import Episode, episode_id
from dreamsim.records.task import Task
from dreamsim.testing.world import Position, gold_path, layout_of, scripted_task


def played(task: Task, actions: Sequence[str] | None = None, *, repeat: int = 0) -> Episode:
    """What `actions` lead to, each with a reason of its own; by default the gold path, after an action that fails."""
    position = Position(layout_of(task))
    transitions = []
    for action in ("eat the moon", *gold_path(task)) if actions is None else actions:
        step = position.take_action(action)
        works = "fails" if step.state.elements.get("result") == "That cannot be done." else "works"
        transitions.append(replace(step, reasoning=f"{action}: {works}"))
    ended = transitions[-1].outcome
    return Episode(
        id=episode_id("played", task.key, repeat),
        run="played",
        task=task,
        repeat=repeat,
        source="real",
        purpose="experience",
        transitions=tuple(transitions),
        outcome="truncated" if ended == "running" else ended,
    )


def several(count: int, *, fold: str = "train") -> list[Episode]:
    """Gold episodes of `count` tasks."""
    return [played(scripted_task(seed, fold=fold)) for seed in range(count)]
