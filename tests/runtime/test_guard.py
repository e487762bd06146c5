"""Cancellations: ours pass, foreign ones become errors, and nobody's disappear."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from dreamsim.errors import EngineError, EpisodeCancelledError
from dreamsim.runtime.guard import guarded


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


async def test_the_result_comes_through() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(3)
    assert await guarded(future, waiting_for="a number") == 3


async def test_an_error_comes_through_as_it_is() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("theirs"))
    with pytest.raises(ValueError, match="theirs"):
        await guarded(future, waiting_for="a number")


async def test_a_future_that_the_library_cancels_is_an_engine_error() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.cancel)
    with pytest.raises(EngineError, match="the answer to r1"):
        await guarded(future, waiting_for="the answer to r1")


async def test_siblings_live_on_when_the_library_cancels_one() -> None:
    ended: list[str] = []

    async def one() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.cancel)
        with pytest.raises(EngineError):
            await guarded(future, waiting_for="an answer")
        ended.append("one")

    async def other() -> None:
        await anyio.wait_all_tasks_blocked()
        ended.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(other)
    assert sorted(ended) == ["one", "other"]


async def test_a_cancelled_scope_passes() -> None:
    passed = False
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await guarded(_never(), waiting_for="nothing")
        except asyncio.CancelledError:
            passed = True
            raise
    assert passed
    assert scope.cancelled_caught


async def test_a_deadline_passes() -> None:
    with anyio.move_on_after(0) as scope:
        await guarded(_never(), waiting_for="nothing")
    assert scope.cancelled_caught


async def test_a_task_of_a_group_that_is_cancelled_past_anyio_raises() -> None:
    tasks: list[asyncio.Task[None] | None] = []
    caught: list[BaseException] = []

    async def episode() -> None:
        tasks.append(asyncio.current_task())
        try:
            await guarded(_never(), waiting_for="an answer")
        except EpisodeCancelledError as error:
            caught.append(error)
        await anyio.lowlevel.checkpoint()  # the task goes on: the cancellation is used up

    async with anyio.create_task_group() as group:
        group.start_soon(episode)
        await anyio.wait_all_tasks_blocked()
        assert tasks[0] is not None
        tasks[0].cancel()
    assert [str(error) for error in caught] == ["the task was cancelled from outside while waiting for an answer"]


async def test_a_task_of_the_embedding_program_is_cancelled_as_asyncio_does() -> None:
    task = asyncio.create_task(guarded(_never(), waiting_for="an answer"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_timeout_of_the_embedding_program_is_a_timeout() -> None:
    async def program() -> None:
        async with asyncio.timeout(0):
            await guarded(_never(), waiting_for="an answer")

    with pytest.raises(TimeoutError):
        await asyncio.create_task(program())
