"""What a failed episode means for itself and for the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from dreamsim.errors import ConfigurationError, EngineDeadError, TooManyFailuresError
from dreamsim.flow.failures import FailurePolicy
from dreamsim.protocols import EpisodeSession
from dreamsim.records.episode import Episode, Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.clock import VirtualClock
from dreamsim.runtime.own_time import not_counted
from dreamsim.simulator import Simulator
from dreamsim.testing import Fault, MemorySink, ScriptedEnvironment, ScriptedPolicy, scripted_tasks
from dreamsim.testing.faults import commit_fault
from tests.flow.runs import RUN, RememberedTasks, in_virtual_time

TASKS = scripted_tasks(6)


class Shaky:
    """The scripted environment; the second step of an episode's first tries fails."""

    name = "shaky-1"
    source: Source = "dreamed"

    def __init__(self, fault: Fault | BaseException, *, tries: int, only: str = "") -> None:
        self._inner = ScriptedEnvironment()
        self._fault, self._tries, self._only = fault, tries, only
        self.opened: Counter[str] = Counter()
        self.seeds: list[int] = []

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        id = episode_id.partition(".")[0]
        self.opened[id] += 1
        self.seeds.append(seed)
        fails = self.opened[id] <= self._tries and task.instruction.startswith(self._only)
        async with self._inner.session(task, episode_id=episode_id, seed=seed) as session:
            yield _Shaking(session, self._fault if fails else None)


class _Shaking:
    def __init__(self, session: EpisodeSession, fault: Fault | BaseException | None) -> None:
        self._session, self._fault, self._steps = session, fault, 0

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def admissible(self) -> tuple[str, ...]:
        return self._session.admissible

    async def step(self, action: str) -> Transition:
        self._steps += 1
        if self._fault is not None and self._steps == 2:
            if isinstance(self._fault, BaseException):
                raise self._fault
            await commit_fault(self._fault)
        return await self._session.step(action)


class Played:
    """A run and what came of it."""

    def __init__(self, environment: Shaky, policy: FailurePolicy, *, episodes: int = 6, concurrency: int = 2) -> None:
        self.environment, self.sink = environment, MemorySink()
        self.source = RememberedTasks(TASKS, episodes=episodes)
        self.delivered: list[Episode] = []
        self.error: Exception | None = None
        self.seconds = 0.0
        self._how = {"failures": policy, "concurrency": concurrency}
        in_virtual_time(self._play)

    async def _play(self) -> None:
        simulator = Simulator(
            environment=self.environment,
            policy=ScriptedPolicy(latency_s=1.0),
            tasks=self.source,
            sink=self.sink,
            run=RUN,
            episode_seconds=100.0,
            clock=VirtualClock(),
            **self._how,  # type: ignore[arg-type]
        )
        try:
            async with simulator:
                async for episode in simulator.episodes():
                    self.delivered.append(episode)
        except TooManyFailuresError as error:
            self.error = error
        self.seconds = anyio.current_time()
        self.counters = simulator.telemetry.snapshot().counters

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(episode.outcome for episode in self.sink.episodes.values())


@pytest.mark.parametrize("fault", ["error", "bug", "foreign", "disconnect"])
def test_what_failed_around_an_episode_is_played_again_and_stored_once(fault: Fault) -> None:
    played = Played(Shaky(fault, tries=2), FailurePolicy(on_failure="retry", retries=2))
    assert played.outcomes == {"success": 6}
    assert set(played.sink.added.values()) == {1}
    assert sorted(played.sink.added) == sorted(played.source.given_ids)
    assert played.counters["retried"] == 12


def test_the_steps_of_failed_tries_are_counted_by_where_they_were_made() -> None:
    played = Played(Shaky("error", tries=2), FailurePolicy(on_failure="retry", retries=2))
    assert played.counters["retried_dreamed_steps"] == 6 * 2 * 1
    assert "retried_real_steps" not in played.counters


def test_the_steps_of_the_last_try_are_those_of_the_episode_and_not_counted_twice() -> None:
    played = Played(Shaky("error", tries=99), FailurePolicy(on_failure="retry", retries=2))
    assert played.counters["retried_dreamed_steps"] == 6 * 2 * 1
    assert {len(episode.transitions) for episode in played.sink.episodes.values()} == {1}


@pytest.mark.parametrize("fault", ["group", "hang"])
def test_what_the_models_made_of_an_episode_is_not_played_again(fault: Fault) -> None:
    played = Played(Shaky(fault, tries=1), FailurePolicy(on_failure="retry", retries=2))
    assert played.outcomes == {"error": 6}
    assert set(played.environment.opened.values()) == {1}


def test_an_episode_that_fails_every_time_is_stored_as_failed() -> None:
    played = Played(Shaky("error", tries=99), FailurePolicy(on_failure="retry", retries=3))
    assert played.outcomes == {"error": 6}
    assert set(played.environment.opened.values()) == {4}


def test_each_try_has_seeds_of_its_own() -> None:
    played = Played(Shaky("error", tries=1), FailurePolicy(on_failure="retry", retries=1))
    assert len(set(played.environment.seeds)) == len(played.environment.seeds) == 12


def test_waits_between_tries_grow_and_are_bounded() -> None:
    policy = FailurePolicy(on_failure="retry", retries=9, backoff_s=1.0)
    for failures, base in ((1, 1.0), (2, 2.0), (4, 8.0)):
        assert 0.5 * base <= policy.wait_s(7, failures) <= 1.5 * base
    assert policy.wait_s(7, 50) <= 90.0


def test_recording_is_what_happens_without_a_policy() -> None:
    played = Played(Shaky("error", tries=99), FailurePolicy())
    assert played.outcomes == {"error": 6}
    assert played.error is None


def test_failing_fast_ends_the_run_with_the_first_failure() -> None:
    played = Played(Shaky("error", tries=99), FailurePolicy(on_failure="fail_fast"), episodes=60)
    kinds = Counter(episode.error_kind for episode in played.sink.episodes.values())
    assert isinstance(played.error, TooManyFailuresError)
    assert kinds["environment"] <= 2  # two were being played
    assert sorted(played.sink.added) == sorted(played.source.given_ids)
    assert len(played.source.given) < 10


def test_one_failure_too_many_begins_nothing_new_and_finishes_what_runs() -> None:
    played = Played(Shaky("error", tries=99), FailurePolicy(most=5), episodes=60)
    assert str(played.error).startswith("6 episodes failed and 5 are allowed")
    assert "cancelled" not in {episode.error_kind for episode in played.sink.episodes.values()}
    assert 6 <= len(played.sink.episodes) < 12
    assert sorted(played.sink.added) == sorted(played.source.given_ids)


def test_as_many_failures_as_are_allowed_change_nothing() -> None:
    played = Played(Shaky("error", tries=99), FailurePolicy(most=6))
    assert (played.error, len(played.delivered)) == (None, 6)


def test_a_dead_engine_is_not_tried_again() -> None:
    shaky = Shaky(EngineDeadError("gone"), tries=99)
    with pytest.raises(EngineDeadError):
        Played(shaky, FailurePolicy(on_failure="retry", retries=5), episodes=2)
    assert set(shaky.opened.values()) == {1}


@pytest.mark.parametrize("settings", [{"retries": 0}, {"backoff_s": -1.0}, {"most": -1}])
def test_policies_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        FailurePolicy(**settings)  # type: ignore[arg-type]


def test_waiting_for_others_does_not_use_up_an_episodes_time() -> None:
    class Queued(ScriptedEnvironment):
        @asynccontextmanager
        async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:  # type: ignore[override]
            async with super().session(task, episode_id=episode_id, seed=seed) as session:
                yield _Queueing(session, None)

    class _Queueing(_Shaking):
        async def step(self, action: str) -> Transition:
            with not_counted():
                await anyio.sleep(100.0)
            await anyio.sleep(1.0)
            return await super().step(action)

    async def main(seconds: float) -> list[str | None]:
        simulator = Simulator(
            environment=Queued(),
            policy=ScriptedPolicy(),
            tasks=RememberedTasks(TASKS, episodes=3),
            run=RUN,
            episode_seconds=seconds,
        )
        async with simulator:
            return [episode.error_kind async for episode in simulator.episodes()]

    assert in_virtual_time(lambda: main(60.0)) == [None] * 3
    assert in_virtual_time(lambda: main(1.5)) == ["timeout"] * 3  # computing still counts
