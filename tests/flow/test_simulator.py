"""The simulator inside a program: what it delivers, how it ends, how it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from dreamsim.errors import ConfigurationError, EngineError, StoreError, UsageError
from dreamsim.flow.source import FixedTasks
from dreamsim.protocols import Assignment, Environment, EpisodeSession, EpisodeSink, Policy, TaskSource
from dreamsim.records.episode import Episode, Source, episode_id
from dreamsim.records.task import Task
from dreamsim.runtime.clock import Clock, VirtualClock
from dreamsim.runtime.snapshot import Snapshot
from dreamsim.simulator import Simulator
from dreamsim.testing import (
    FaultSchedule,
    FaultyStore,
    MemorySink,
    ScriptedEnvironment,
    ScriptedPolicy,
    scripted_task,
    scripted_tasks,
)
from tests.flow.runs import RUN, RememberedTasks, in_virtual_time

TASKS = scripted_tasks(6)


class Gate:
    """An environment in which all episodes wait until `open` is set; `full` is set when `expected` wait."""

    name = "gate-1"
    source: Source = "dreamed"

    def __init__(self, expected: int = 0) -> None:
        self.open = anyio.Event()
        self.full = anyio.Event()
        self._missing = expected
        self._inner = ScriptedEnvironment()

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        self._missing -= 1
        if self._missing == 0:
            self.full.set()
        await self.open.wait()
        async with self._inner.session(task, episode_id=episode_id, seed=seed) as session:
            yield session


def simulator(
    *,
    environment: Environment | None = None,
    policy: Policy | None = None,
    tasks: TaskSource | None = None,
    sink: EpisodeSink | None = None,
    concurrency: int = 4,
    buffer: int = 4,
    finished: Sequence[str] = (),
    clock: Clock | None = None,
) -> Simulator:
    return Simulator(
        environment=ScriptedEnvironment() if environment is None else environment,
        policy=ScriptedPolicy() if policy is None else policy,
        tasks=FixedTasks(TASKS) if tasks is None else tasks,
        sink=sink,
        run=RUN,
        concurrency=concurrency,
        buffer=buffer,
        finished=finished,
        clock=clock,
    )


async def outcomes(of: Simulator) -> list[str]:
    async with of:
        return [episode.outcome async for episode in of.episodes()]


async def start_and_leave(of: Simulator, *, error: Exception | None = None) -> None:
    """Start a stream, let it come to rest, and leave the block without reading it."""
    async with of:
        of.episodes()
        await anyio.wait_all_tasks_blocked()
        if error is not None:
            raise error


async def test_every_task_is_played() -> None:
    assert await outcomes(simulator()) == ["success"] * 6


async def test_an_episode_is_stored_before_it_is_delivered() -> None:
    sink = MemorySink()
    async with simulator(sink=sink) as running:
        async for episode in running.episodes():
            assert episode.id in sink.episodes


async def test_a_simulator_can_run_several_streams_one_after_the_other() -> None:
    async with simulator() as running:
        first = [episode.id async for episode in running.episodes()]
        second = [episode.id async for episode in running.episodes(FixedTasks(TASKS[:2]))]
    assert (len(first), len(second)) == (6, 2)


async def test_a_second_stream_is_refused_while_the_first_runs() -> None:
    async with simulator() as running:
        running.episodes()
        with pytest.raises(UsageError, match="aclose"):
            running.episodes()


async def test_a_closed_stream_makes_room_for_the_next() -> None:
    async with simulator() as running:
        stream = running.episodes()
        await stream.aclose()
        await stream.aclose()
        assert [episode async for episode in stream] == []
        assert len([episode async for episode in running.episodes()]) == 6


async def test_a_stream_closed_with_episodes_in_it_makes_room_too() -> None:
    async with simulator() as running:
        stream = running.episodes()
        await anyio.wait_all_tasks_blocked()
        await stream.aclose()
        assert len([episode async for episode in running.episodes()]) == 6


async def test_a_simulator_can_be_entered_again() -> None:
    running = simulator()
    assert await outcomes(running) == await outcomes(running)


async def test_episodes_outside_the_block_are_refused() -> None:
    with pytest.raises(UsageError, match="async with"):
        simulator().episodes()


async def test_finished_episodes_are_skipped_and_counted() -> None:
    done = [episode_id(RUN, task.key, 0) for task in TASKS[:4]]
    running = simulator(finished=done)
    assert len(await outcomes(running)) == 2
    assert running.telemetry.snapshot().skipped == 4


async def test_an_exception_of_the_block_leaves_it_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        await start_and_leave(simulator(environment=Gate()), error=KeyError("mine"))


async def test_stopping_a_simulator_that_never_ran_does_nothing() -> None:
    async with simulator() as running:
        await running.stop(drain_seconds=5)


def test_a_slow_consumer_holds_admission() -> None:
    async def main() -> list[int]:
        source = RememberedTasks(TASKS, episodes=100)
        running = simulator(tasks=source, concurrency=3, buffer=2)
        ahead: list[int] = []
        taken = 0
        async with running:
            async for _ in running.episodes():
                taken += 1
                await anyio.sleep(10)
                ahead.append(len(source.given) - taken)
        return ahead

    assert max(in_virtual_time(main)) <= 3 + 2


def test_time_that_admission_is_held_shows_at_the_results_pipe() -> None:
    async def main() -> Snapshot:
        source = RememberedTasks(TASKS, episodes=50)
        async with simulator(tasks=source, concurrency=2, buffer=1, clock=VirtualClock()) as running:
            stream = running.episodes()
            await anyio.sleep(100)
            await anext(stream)
            await anyio.sleep(1)
            return running.telemetry.snapshot()

    (pipe,) = in_virtual_time(main).pipes
    assert (pipe.name, pipe.capacity, pipe.depth) == ("results", 3, 3)
    assert pipe.blocked_s == pytest.approx(100, abs=1)


def test_what_a_slow_consumer_has_not_taken_is_stored_all_the_same() -> None:
    async def main() -> int:
        sink = MemorySink()
        async with simulator(sink=sink, concurrency=3, buffer=2, tasks=FixedTasks(TASKS, repeats=9)) as running:
            running.episodes()
            await anyio.sleep(60)
            return len(sink.episodes)

    assert in_virtual_time(main) == 5


def test_draining_waits_for_what_runs_and_admits_nothing_more() -> None:
    async def main() -> tuple[list[str], float]:
        sink = MemorySink()
        running = simulator(
            environment=ScriptedEnvironment(latency_s=1), sink=sink, tasks=FixedTasks(TASKS, repeats=50), concurrency=6
        )
        async with running:
            stream = running.episodes()
            await anyio.sleep(0.1)
            begun = anyio.current_time()
            await running.stop(drain_seconds=1000)
            left: list[str] = [episode.outcome async for episode in stream]
            assert sorted(left) == sorted(episode.outcome for episode in sink.episodes.values())
            return left, anyio.current_time() - begun

    ended, seconds = in_virtual_time(main)
    assert ended == ["success"] * 6
    assert seconds < 20


def test_stopping_cancels_what_has_not_ended_by_the_deadline_and_stores_it() -> None:
    async def main() -> tuple[list[str | None], float]:
        sink = MemorySink()
        async with simulator(environment=Gate(), sink=sink) as running:
            stream = running.episodes()
            await anyio.sleep(1)
            begun = anyio.current_time()
            await running.stop(drain_seconds=5)
            seconds = anyio.current_time() - begun
            return [sink.episodes[episode.id].error_kind async for episode in stream], seconds

    kinds, seconds = in_virtual_time(main)
    assert kinds == ["cancelled"] * 4
    assert seconds == pytest.approx(5, abs=0.01)


def test_a_stopped_run_goes_on_where_it_stood() -> None:
    async def main() -> tuple[set[str | None], dict[str, int]]:
        sink, source = MemorySink(), RememberedTasks(TASKS, episodes=40)
        async with simulator(environment=ScriptedEnvironment(latency_s=1), tasks=source, sink=sink) as running:
            running.episodes()
            await anyio.sleep(12)
            await running.stop(drain_seconds=0)
        done = [id for id, episode in sink.episodes.items() if episode.error_kind is None]
        assert 0 < len(done) < len(sink.episodes) < 40
        await outcomes(simulator(tasks=RememberedTasks(TASKS, episodes=40), sink=sink, finished=done))
        return {episode.error_kind for episode in sink.episodes.values()}, {id: sink.added[id] for id in done}

    kinds, added = in_virtual_time(main)
    assert kinds == {None}
    assert set(added.values()) == {1}


def test_stopping_from_inside_the_loop_delivers_the_rest() -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        source = RememberedTasks(TASKS, episodes=300)
        async with simulator(environment=ScriptedEnvironment(latency_s=1), tasks=source) as running:
            async for episode in running.episodes():
                seen.append(episode.outcome)
                await running.stop(drain_seconds=100)
        assert len(seen) == len(source.given) < 300
        return seen

    assert set(in_virtual_time(main)) == {"success"}


def test_a_sink_that_fails_ends_the_run_with_its_error() -> None:
    async def main() -> None:
        broken = FaultyStore(MemorySink(), FaultSchedule(0, {"bug": 1.0}))
        await outcomes(simulator(sink=broken))

    with pytest.raises(ValueError, match="scripted bug"):
        in_virtual_time(main)


def test_a_sink_that_hangs_ends_the_run_with_what_to_look_at() -> None:
    async def main() -> None:
        hung = FaultyStore(MemorySink(), FaultSchedule(0, {"hang": 1.0}))
        await outcomes(simulator(sink=hung))

    with pytest.raises(StoreError, match="disk is full"):
        in_virtual_time(main)


def test_leaving_the_block_does_not_wait_for_ever_for_a_sink_that_hangs() -> None:
    async def main() -> float:
        hung = FaultyStore(MemorySink(), FaultSchedule(0, {"hang": 1.0}))
        with pytest.raises(StoreError):
            await start_and_leave(simulator(sink=hung))
        return anyio.current_time()

    assert in_virtual_time(main) < 15


def test_a_sink_hit_by_a_foreign_cancellation_gets_the_episode_again() -> None:
    class Shaken(MemorySink):
        async def add(self, episode: Episode) -> None:
            if not self.added[episode.id]:
                self.added[episode.id] += 1
                raise anyio.get_cancelled_exc_class()
            await super().add(episode)

    sink = Shaken()

    async def main() -> list[str]:
        return await outcomes(simulator(sink=sink))

    assert in_virtual_time(main) == ["success"] * 6
    assert len(sink.episodes) == 6


class Source5:
    """Gives five assignments, then does what it is told."""

    def __init__(self, then: BaseException) -> None:
        self._then = then

    async def assignments(self) -> AsyncIterator[Assignment]:
        for task in TASKS[:5]:
            yield Assignment(task=task)
        raise self._then


async def test_a_source_that_fails_ends_the_run_after_what_it_gave() -> None:
    sink = MemorySink()
    with pytest.raises(OSError, match="curriculum"):
        await outcomes(simulator(tasks=Source5(OSError("no curriculum")), sink=sink))
    assert [episode.outcome for episode in sink.episodes.values()] == ["success"] * 5


async def test_a_source_hit_by_a_foreign_cancellation_does_not_end_the_run_silently() -> None:
    with pytest.raises(Exception, match="task source was hit by a foreign cancellation"):
        await outcomes(simulator(tasks=Source5(anyio.get_cancelled_exc_class()())))


async def test_the_error_of_a_run_that_nobody_reads_is_raised_on_leaving() -> None:
    with pytest.raises(OSError, match="curriculum"):
        await start_and_leave(simulator(tasks=Source5(OSError("no curriculum"))))


async def test_the_same_task_and_repeat_twice_at_once_is_refused() -> None:
    class Twice:
        async def assignments(self) -> AsyncIterator[Assignment]:
            yield Assignment(task=TASKS[0])
            yield Assignment(task=TASKS[0])

    with pytest.raises(UsageError, match="repeat"):
        await outcomes(simulator(tasks=Twice()))


async def test_a_dead_engine_ends_the_run_with_its_error() -> None:
    def dead(task: Task) -> Sequence[str]:
        raise EngineError("the engine's process is gone", recoverable=False)

    source = RememberedTasks(TASKS, episodes=1000)
    with pytest.raises(EngineError, match="is gone"):
        await outcomes(simulator(policy=ScriptedPolicy(dead), tasks=source))
    assert len(source.given) < 100


async def test_2048_episodes_are_alive_at_the_same_moment() -> None:
    gate = Gate(2048)
    task = scripted_task(0)
    async with simulator(environment=gate, tasks=FixedTasks([task], repeats=2100), concurrency=2048) as running:
        stream = running.episodes()
        await gate.full.wait()
        gate.open.set()
        ended = [episode.outcome async for episode in stream]
    assert ended == ["success"] * 2100
    assert running.telemetry.snapshot().alive_peak == 2048


@pytest.mark.parametrize("setting", ["concurrency", "buffer"])
def test_settings_that_must_stand_still_are_refused(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        simulator(**{setting: 0})  # type: ignore[arg-type]
