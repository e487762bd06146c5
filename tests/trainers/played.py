"""Real episodes of the scripted world, with reasoning, for tests of trainers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dreamsim.records.episode import Episode, Transition, episode_id
from dreamsim.records.state import State
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


def numbered() -> Episode:
    """A game whose things have numbers: drawers 1 to 3 and 12, mugs 1 and 2."""
    first = State.of(["at: room", "drawer: 1 2 3 12"])
    task = Task(environment="numbers", instruction="put a mug in drawer", first_state=first, fold="train")
    seen = State.of(["at: drawer 12", "mug 1: in drawer 12", "mug 2: in drawer 12"])
    held = State.of(["at: drawer 12", "mug 1: held", "mug 2: in drawer 12"])
    fails = State.of([*held.lines, "result: failed"])
    steps = (
        Transition(action="go to drawer 12", state=seen, reward=0.0, outcome="running", reasoning="at: room; works"),
        Transition(action="take mug 1 from drawer 12", state=held, reward=0.0, outcome="running", reasoning="works"),
        Transition(action="take mug 4 from drawer 12", state=fails, reward=0.0, outcome="running", reasoning="fails"),
    )
    return Episode(
        id="numbered",
        run="numbered",
        task=task,
        repeat=0,
        source="real",
        purpose="experience",
        transitions=steps,
        outcome="truncated",
    )
