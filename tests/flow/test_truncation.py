"""An environment that ends an episode early: stored as truncated, with what happened so far."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dreamsim.errors import TruncationError
from dreamsim.flow.rollout import Rollout, RolloutSettings
from dreamsim.protocols import Assignment, EpisodeSession
from dreamsim.records.episode import Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.testing import RandomPolicy, ScriptedEnvironment, scripted_task

pytestmark = pytest.mark.anyio


class Doubtful:
    """The scripted environment, which will not say what the step `after` leads to."""

    name = "doubtful-1"
    source: Source = "dreamed"

    def __init__(self, after: int) -> None:
        self._inner = ScriptedEnvironment()
        self._after = after

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        async with self._inner.session(task, episode_id=episode_id, seed=seed) as session:
            yield DoubtfulSession(session, self._after)


class DoubtfulSession:
    def __init__(self, inner: EpisodeSession, steps: int) -> None:
        self._inner = inner
        self._left = steps

    @property
    def state(self) -> State:
        return self._inner.state

    @property
    def admissible(self) -> tuple[str, ...]:
        return self._inner.admissible

    async def step(self, action: str) -> Transition:
        if not self._left:
            raise TruncationError("too uncertain")
        self._left -= 1
        return await self._inner.step(action)


@pytest.mark.parametrize("after", [0, 2])
async def test_an_episode_that_the_environment_ends_early_is_truncated_and_keeps_its_steps(after: int) -> None:
    telemetry, task = Telemetry(), scripted_task(0)
    rollout = Rollout(
        environment=Doubtful(after),
        policy=RandomPolicy(),
        settings=RolloutSettings(run="r", max_steps=9),
        telemetry=telemetry,
    )
    live = telemetry.admitted("e", task.key)
    episode = await rollout.play(Assignment(task=task), live)
    assert (episode.outcome, episode.error_kind, len(episode.transitions)) == ("truncated", None, after)
    assert telemetry.counters["truncated_early"] == 1
