"""A run that was halted, and whoever goes on with it: together they play what one run would have played."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from dreamsim.cli.interrupts import Interrupts
from dreamsim.cli.play import UntilInterrupted
from dreamsim.errors import DreamsimError, EngineDeadError, EnvironmentFailure
from dreamsim.evaluation.success import GameSettings, play_games
from dreamsim.flow.archive import was_cut_off
from dreamsim.flow.failures import FailurePolicy
from dreamsim.protocols import EpisodeSession
from dreamsim.records.episode import Episode, Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.clock import VirtualClock
from dreamsim.simulator import Simulator
from dreamsim.store.store import open_store
from dreamsim.testing import MemorySink, ScriptedEnvironment, ScriptedPolicy, scripted_tasks
from tests.flow.runs import RUN, RememberedTasks, in_virtual_time

TASKS = scripted_tasks(6)
Act = Callable[[Simulator], None]


class Broken:
    """The scripted environment, in which every step after `at_s` seconds fails, until it is repaired."""

    name = "broken-1"
    source: Source = "dreamed"

    def __init__(self, error: Exception, *, at_s: float) -> None:
        self._inner = ScriptedEnvironment(latency_s=1.0)
        self._error, self._at_s = error, at_s
        self.repaired = False

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        async with self._inner.session(task, episode_id=episode_id, seed=seed) as session:
            yield _Breaking(session, self)

    def strike(self) -> None:
        if not self.repaired and anyio.current_time() >= self._at_s:
            raise self._error


class _Breaking:
    def __init__(self, session: EpisodeSession, environment: Broken) -> None:
        self._session, self._environment = session, environment

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def admissible(self) -> tuple[str, ...]:
        return self._session.admissible

    async def step(self, action: str) -> Transition:
        transition = await self._session.step(action)
        self._environment.strike()
        return transition


async def sitting(
    environment: Broken, failures: FailurePolicy, sink: MemorySink, act: Act | None = None, *, at_s: float = 1.5
) -> None:
    """Play what `sink` does not hold of 24 episodes, 4 at once; `act` happens after `at_s` seconds."""
    simulator = Simulator(
        environment=environment,
        policy=ScriptedPolicy(),
        tasks=RememberedTasks(TASKS, episodes=24),
        sink=UntilInterrupted(sink, Interrupts()),
        run=RUN,
        concurrency=4,
        failures=failures,
        finished=frozenset(sink.episodes),
        clock=VirtualClock(),
    )

    async def later() -> None:
        await anyio.sleep(at_s)
        if act is not None:
            act(simulator)

    async with anyio.create_task_group() as group:
        group.start_soon(later)
        await exhaust(simulator)
        group.cancel_scope.cancel()


async def exhaust(simulator: Simulator) -> None:
    """Play to the end."""
    async with simulator:
        async for _ in simulator.episodes():
            pass


def halted_and_resumed(
    error: Exception, failures: FailurePolicy, act: Act | None = None, *, at_s: float = 2.5
) -> tuple[dict[str, Episode], dict[str, Episode]]:
    """What is stored when the run was halted, and when it was gone on with."""
    sink, environment = MemorySink(), Broken(error, at_s=at_s)

    async def main() -> dict[str, Episode]:
        try:
            await sitting(environment, failures, sink, act)
        except* DreamsimError:
            pass
        first = dict(sink.episodes)
        environment.repaired = True
        await sitting(environment, FailurePolicy(), sink)
        return first

    return in_virtual_time(main), sink.episodes


def make_some_wait(simulator: Simulator) -> None:
    """Cut three episodes off, to be played again later; there is room for one at once."""
    simulator.control.requeue_youngest(3)
    simulator.control.set_ceiling(1)


@pytest.mark.parametrize(
    "failures", [FailurePolicy(most=0), FailurePolicy(on_failure="fail_fast")], ids=["max_failures", "fail_fast"]
)
def test_what_waited_when_a_run_was_halted_is_played_by_whoever_goes_on(failures: FailurePolicy) -> None:
    first, all_of_them = halted_and_resumed(EnvironmentFailure("worker died"), failures, make_some_wait)
    assert {one.error_kind for one in first.values()} <= {None, "environment"}
    assert len(all_of_them) == 24
    assert [one.error_kind for one in all_of_them.values() if one.error_kind] == ["environment"]


@pytest.mark.parametrize("act", [None, make_some_wait], ids=["playing", "waiting"])
def test_what_a_dead_engine_ended_is_played_by_whoever_goes_on(act: Act | None) -> None:
    first, all_of_them = halted_and_resumed(EngineDeadError("the process is gone"), FailurePolicy(), act, at_s=6.5)
    assert 0 < len(first) < 24
    assert {one.outcome for one in first.values()} == {"success"}
    assert len(all_of_them) == 24
    assert {one.outcome for one in all_of_them.values()} == {"success"}


def test_an_episode_that_a_dead_engine_ended_says_so_and_that_it_is_owed() -> None:
    sink = MemorySink()

    async def main() -> None:
        simulator = Simulator(
            environment=Broken(EngineDeadError("the process is gone"), at_s=0.0),
            policy=ScriptedPolicy(),
            tasks=RememberedTasks(TASKS, episodes=1),
            sink=sink,
            run=RUN,
        )
        await exhaust(simulator)

    with pytest.raises(EngineDeadError):
        in_virtual_time(main)
    (episode,) = sink.episodes.values()
    assert was_cut_off(episode)
    assert episode.error_kind == "engine"
    assert (episode.error_message or "").endswith("the process is gone")


async def test_an_evaluation_that_a_dead_engine_ended_is_played_again(tmp_path: Path) -> None:
    environment = Broken(EngineDeadError("the process is gone"), at_s=0.0)
    settings = GameSettings(run="e", max_steps=20)
    async with open_store(tmp_path / "store.sqlite", encoder=None) as store:
        with pytest.raises(EngineDeadError):
            await play_games(environment, ScriptedPolicy(), TASKS[:2], settings, store)
        environment.repaired = True
        played = await play_games(environment, ScriptedPolicy(), TASKS[:2], settings, store)
    assert [one.outcome for one in played] == ["success"] * 2
