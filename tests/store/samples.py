"""Episodes for the tests of the store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import RetrievalError
from dreamsim.records.episode import Episode, Purpose, Source, Transition, episode_id
from dreamsim.records.experience import ExperienceQuery
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.store.lexical import LexicalEncoder
from dreamsim.store.store import Store

OBJECTS = ("apple", "key", "lamp", "mug", "shirt", "spoon")
PLACES = ("in box", "in fridge", "on table", "held")
VERBS = ("take", "open", "eat", "examine")


def make_episode(
    number: int,
    *,
    steps: int = 3,
    run: str = "run",
    repeat: int = 0,
    environment: str = "house",
    fold: str = "train",
    source: Source = "real",
    purpose: Purpose = "experience",
) -> Episode:
    """Episode `number`: its own task, in rooms that it shares with others."""
    first = state_of(number, 0)
    task = Task(environment=environment, instruction=f"task {number}", first_state=first, fold=fold, seed=number)
    return Episode(
        id=episode_id(run, task.key, repeat),
        run=run,
        task=task,
        repeat=repeat,
        source=source,
        purpose=purpose,
        transitions=tuple(
            Transition(action=action_of(number, step), state=state_of(number, step + 1), reward=0.0, outcome="running")
            for step in range(steps)
        ),
        outcome="truncated",
    )


def state_of(number: int, step: int) -> State:
    """The state of episode `number` before step `step`."""
    lines = [f"at: room {number % 5}"]
    for place, thing in enumerate(OBJECTS):
        lines.append(f"{thing}: {PLACES[(number * 7 + step * 3 + place * number) % len(PLACES)]}")
    return State.of(lines)


def action_of(number: int, step: int) -> str:
    """The action of episode `number` at step `step`."""
    return f"{VERBS[(number + step) % len(VERBS)]} {OBJECTS[(number * 3 + step) % len(OBJECTS)]}"


def query_like(number: int, step: int = 0, **changes: Any) -> ExperienceQuery:
    """The query of step `step` of episode `number`."""
    values: dict[str, Any] = {"state": state_of(number, step).lines, "action": action_of(number, step), "k": 4}
    return ExperienceQuery(**(values | changes))


async def ids_of(store: Store, query: ExperienceQuery) -> list[str]:
    """Ids of what a query finds."""
    return [experience.id for experience in await store.retrieve(query)]


class CountingEncoder(LexicalEncoder):
    """The default encoder, counting what it is asked; fails while `broken`."""

    def __init__(self, dimension: int = 128) -> None:
        super().__init__(dimension)
        self.calls: list[int] = []
        self.threads: set[int] = set()
        self.broken = False

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.broken:
            raise RetrievalError("the encoder is broken")
        self.calls.append(len(texts))
        self.threads.add(threading.get_ident())
        return super().encode(texts)
