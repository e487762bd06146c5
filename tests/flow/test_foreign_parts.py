"""Parts of somebody else whose names and steps no record can be made of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from dreamsim.protocols import EpisodeSession
from dreamsim.records.episode import Transition
from dreamsim.records.task import Task
from dreamsim.testing import MemorySink, ScriptedEnvironment, ScriptedPolicy
from tests.flow.test_simulator import outcomes, simulator


class Nameless(ScriptedPolicy):
    """A policy that cannot say its name once it has played."""

    @property
    def name(self) -> str:
        raise ConnectionResetError("the model's server is gone")


class Boastful(ScriptedEnvironment):
    """An environment whose steps hold what no step can hold."""

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:  # type: ignore[override]
        async with super().session(task, episode_id=episode_id, seed=seed) as session:
            yield _Boasting(session)


class _Boasting:
    def __init__(self, session: EpisodeSession) -> None:
        self._session = session
        self.state, self.admissible = session.state, session.admissible

    async def step(self, action: str) -> Transition:
        transition = await self._session.step(action)
        self.state, self.admissible = transition.state, transition.admissible
        return replace(transition, trust=cast("Any", "none needed"))


@pytest.mark.parametrize(
    ("parts", "said"),
    [({"policy": Nameless()}, "server is gone"), ({"environment": Boastful()}, "'str' object has no attribute")],
    ids=["policy", "environment"],
)
async def test_what_no_record_can_be_made_of_fails_its_episode_and_not_the_run(
    parts: dict[str, Any], said: str
) -> None:
    sink = MemorySink()
    assert await outcomes(simulator(sink=sink, **parts)) == ["error"] * 6
    assert {one.error_kind for one in sink.episodes.values()} == {"unexpected"}
    assert all(said in (one.error_message or "") for one in sink.episodes.values())
