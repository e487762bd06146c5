"""An environment without a model: the text world of `dreamsim.testing.world`.

In: tasks made by `scripted_task`. Out: sessions whose transitions depend on task and actions alone.
Always: never fails by itself; takes no time unless a latency is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from dreamsim.errors import EpisodeFinishedError
from dreamsim.records.episode import Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import seed_of
from dreamsim.testing.world import Position, layout_of


class ScriptedEnvironment:
    """Plays scripted tasks, any number at once."""

    def __init__(self, *, source: Source = "dreamed", latency_s: float = 0.0) -> None:
        """Each step takes between half and one and a half times `latency_s`, by the episode's seed."""
        self._source: Source = source
        self._latency_s = latency_s

    @property
    def name(self) -> str:
        """Name and version."""
        return "scripted-1"

    @property
    def source(self) -> Source:
        """What the episodes are counted as."""
        return self._source

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[ScriptedSession]:
        """Begin an episode."""
        yield ScriptedSession(Position(layout_of(task)), seed=seed, latency_s=self._latency_s)


class ScriptedSession:
    """One episode in the text world."""

    __slots__ = ("_admissible", "_latency_s", "_over", "_position", "_seed", "_state", "_steps")

    def __init__(self, position: Position, *, seed: int, latency_s: float) -> None:
        self._position = position
        self._seed = seed
        self._latency_s = latency_s
        self._steps = 0
        self._over = False
        self._state = position.state()
        self._admissible = position.admissible()

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def admissible(self) -> tuple[str, ...]:
        """Every action that changes something now."""
        return self._admissible

    async def step(self, action: str) -> Transition:
        """Take `action`."""
        if self._over:
            raise EpisodeFinishedError("the episode is over; begin another one")
        if self._latency_s:
            share = seed_of(self._seed, "latency", self._steps) % 1000 / 1000
            await anyio.sleep(self._latency_s * (0.5 + share))
        transition = self._position.take_action(action)
        self._steps += 1
        self._over = transition.done
        self._state, self._admissible = transition.state, transition.admissible
        return transition
