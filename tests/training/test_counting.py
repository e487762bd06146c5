"""What is counted as done in the real environment: all of it, also what nobody learns from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from dreamsim.errors import EnvironmentFailure
from dreamsim.flow.alarms import Alarm
from dreamsim.flow.failures import FailurePolicy
from dreamsim.flow.mixing import ShareSchedule
from dreamsim.protocols import EpisodeSession
from dreamsim.records.episode import Source, Transition, episode_id
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.training import Line
from dreamsim.store.store import open_store
from dreamsim.testing.environment import ScriptedEnvironment
from dreamsim.training.loop import Training
from tests.training.worlds import SETTINGS, Holding, RememberingTrainer, parts, train

pytestmark = pytest.mark.anyio
REAL = replace(SETTINGS, real_share=ShareSchedule.parse(["1"]), group_deadline_s=1.0, evaluate_every=100)


async def first_episode(directory: Path) -> str:
    """The id of the first episode that a training of `REAL` plays."""
    async with open_store(directory / "store.sqlite", encoder=None) as store:
        task = await parts(store, RememberingTrainer()).tasks.choose("real")
    return episode_id(REAL.run, task.key, 0)


async def with_a_late_episode(directory: Path, *, opened_at: int, steps: int = 4) -> list[Line]:
    """Train; one episode of the first round begins only after update `opened_at`."""
    held = Holding(await first_episode(directory / "other"))

    async def report(line: Line, alarms: Sequence[Alarm]) -> None:
        if line["update"] == opened_at:
            held.opened.set()
            await anyio.wait_all_tasks_blocked()

    async with open_store(directory / "store.sqlite", encoder=None) as store:
        made = replace(parts(store, RememberingTrainer()), environments={"real": held})
        settings = replace(REAL, steps=steps)
        return await Training(made, settings, directory=directory, report=report).run()


async def stored_steps(directory: Path) -> int:
    async with open_store(directory / "store.sqlite", encoder=None, read_only=True) as store:
        return (await store.counts(REAL.run)).only(source="real").steps


async def test_a_real_episode_that_comes_after_its_group_was_learned_from_is_counted(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    history = await with_a_late_episode(tmp_path, opened_at=1)
    assert history[-1]["total_episodes"] == 4 * 2 * 3
    assert history[-1]["total_real_transitions"] == await stored_steps(tmp_path)


async def test_a_real_episode_that_came_after_the_last_update_is_counted_by_who_goes_on(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    await with_a_late_episode(tmp_path, opened_at=2, steps=2)
    history, _ = await train(tmp_path, replace(REAL, steps=3))
    assert history[-1]["total_episodes"] == 3 * 2 * 3
    assert history[-1]["total_real_transitions"] == await stored_steps(tmp_path)


class Shaky:
    """The scripted environment, real; the second step of each episode's first try fails. Counts what was done in it."""

    name = "shaky-1"
    source: Source = "real"

    def __init__(self) -> None:
        self._inner = ScriptedEnvironment(source="real")
        self.steps = 0

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        async with self._inner.session(task, episode_id=episode_id, seed=seed) as session:
            yield _Shaking(session, self, fails="." not in episode_id)


class _Shaking:
    def __init__(self, session: EpisodeSession, counter: Shaky, *, fails: bool) -> None:
        self._session, self._counter, self._fails, self._steps = session, counter, fails, 0

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def admissible(self) -> tuple[str, ...]:
        return self._session.admissible

    async def step(self, action: str) -> Transition:
        self._steps += 1
        if self._fails and self._steps == 2:
            raise EnvironmentFailure("shaky")
        transition = await self._session.step(action)
        self._counter.steps += 1
        return transition


RETRY = FailurePolicy(on_failure="retry", retries=1, backoff_s=0.0)


@pytest.mark.parametrize("lag", [0, 1])
async def test_real_steps_of_failed_tries_are_counted(tmp_path: Path, lag: int) -> None:
    shaky = Shaky()
    async with open_store(tmp_path / "store.sqlite", encoder=None) as store:
        made = replace(parts(store, RememberingTrainer()), environments={"real": shaky})
        settings = replace(REAL, failures=RETRY, lag=lag)
        history = await Training(made, settings, directory=tmp_path).run()
    assert history[-1]["total_real_transitions"] == shaky.steps > await stored_steps(tmp_path)


async def test_failed_tries_stay_within_the_budget(tmp_path: Path) -> None:
    shaky = Shaky()
    async with open_store(tmp_path / "store.sqlite", encoder=None) as store:
        made = replace(parts(store, RememberingTrainer()), environments={"real": shaky})
        settings = replace(REAL, steps=50, failures=RETRY, max_real_transitions=100)
        history = await Training(made, settings, directory=tmp_path).run()
    assert history[-1]["total_real_transitions"] == shaky.steps <= 100
    assert shaky.steps > 100 - 2 * (3 * 6 * 2)
