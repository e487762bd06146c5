"""Nothing is left behind in the program that embeds a simulator, however it leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import anyio
import pytest
import uvloop

from dreamsim.flow.source import FixedTasks
from dreamsim.records.episode import Episode
from dreamsim.simulator import Simulator
from dreamsim.testing import MemorySink, ScriptedEnvironment, ScriptedPolicy, scripted_tasks

TASKS = scripted_tasks(4)
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


class AnnouncingSink(MemorySink):
    """Says when the first episode is in."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = anyio.Event()

    async def add(self, episode: Episode) -> None:
        await super().add(episode)
        self.begun.set()


def slow(sink: MemorySink | None = None) -> Simulator:
    """Steps of a few milliseconds, so that episodes run when the block is left."""
    return Simulator(
        environment=ScriptedEnvironment(latency_s=0.003),
        policy=ScriptedPolicy(),
        tasks=FixedTasks(TASKS, repeats=1000),
        sink=sink,
        run="embedded",
        concurrency=16,
        buffer=4,
    )


OTHERS: set[threading.Thread] = set()
"""Threads that were there before the test: other tests' engines may leave some to the interpreter."""


@pytest.fixture(autouse=True)
def threads_of_others() -> None:
    OTHERS.clear()
    OTHERS.update(threading.enumerate())


def left_behind() -> tuple[int, int]:
    """Tasks beside this one, and threads beside the main one."""
    return len(asyncio.all_tasks()) - 1, len(set(threading.enumerate()) - OTHERS)


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=request.param)


def test_breaking_out_of_the_loop_leaves_nothing(runner: asyncio.Runner) -> None:
    async def main() -> tuple[int, int]:
        async with slow() as simulator:
            async for _ in simulator.episodes():
                break
        return left_behind()

    with runner:
        assert runner.run(main()) == (0, 0)


def test_cancelling_the_callers_task_stores_what_ran_and_leaves_nothing(runner: asyncio.Runner) -> None:
    sink = AnnouncingSink()
    simulator = slow(sink)

    async def consume() -> None:
        async with simulator:
            async for _ in simulator.episodes():
                pass

    async def main() -> tuple[int, int]:
        task = asyncio.create_task(consume())
        await sink.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return left_behind()

    with runner:
        assert runner.run(main()) == (0, 0)
    assert any(episode.error_kind == "cancelled" for episode in sink.episodes.values())
    assert simulator.telemetry.snapshot().admitted == len(sink.episodes)


def test_a_timeout_of_the_callers_is_the_callers(runner: asyncio.Runner) -> None:
    async def consume() -> None:
        async with asyncio.timeout(0.03), slow() as simulator:
            async for _ in simulator.episodes():
                pass

    async def main() -> tuple[int, int]:
        with pytest.raises(TimeoutError):
            await consume()
        assert (current := asyncio.current_task()) is not None
        assert current.cancelling() == 0
        return left_behind()

    with runner:
        assert runner.run(main()) == (0, 0)


def test_the_callers_task_group_goes_on(runner: asyncio.Runner) -> None:
    async def main() -> int:
        done = 0

        async def other_work() -> None:
            nonlocal done
            for _ in range(20):
                await asyncio.sleep(0)
            done += 1

        async with asyncio.TaskGroup() as group, slow() as simulator:
            group.create_task(other_work())
            async for _ in simulator.episodes():
                break
        return done

    with runner:
        assert runner.run(main()) == 1


def test_killing_every_task_of_the_loop_still_accounts_for_every_episode() -> None:
    sink = AnnouncingSink()
    simulator = slow(sink)

    async def consume() -> None:
        async with simulator:
            async for _ in simulator.episodes():
                pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        await sink.begun.wait()
        me = asyncio.current_task()
        for other in asyncio.all_tasks() - {me}:
            other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert simulator.telemetry.snapshot().admitted == len(sink.episodes)


def test_opening_and_closing_many_times_leaves_nothing() -> None:
    async def main() -> tuple[int, int]:
        for _ in range(50):
            async with slow() as simulator:
                await anext(simulator.episodes())
        return left_behind()

    assert asyncio.run(main()) == (0, 0)
