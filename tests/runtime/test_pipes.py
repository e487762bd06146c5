"""Named, bounded channels."""

from __future__ import annotations

import anyio
import pytest

from dreamsim.runtime.pipes import Pipe
from tests.flow.runs import in_virtual_time


def pipe_of(capacity: int) -> Pipe[int]:
    return Pipe("numbers", capacity, now=anyio.current_time)


async def test_items_come_out_in_order_and_the_end_is_the_only_stop_signal() -> None:
    pipe = pipe_of(3)
    with pipe.sender as sender, pipe.receiver:
        for number in range(3):
            await sender.send(number)
        sender.close()
        assert [number async for number in pipe.receiver] == [0, 1, 2]
        with pytest.raises(anyio.EndOfStream):
            await pipe.receiver.receive()


async def test_a_full_pipe_takes_nothing_more_at_once() -> None:
    pipe = pipe_of(1)
    pipe.sender.send_nowait(1)
    with pytest.raises(anyio.WouldBlock):
        pipe.sender.send_nowait(2)
    assert pipe.statistics().sent == 1
    pipe.close()


def test_time_spent_waiting_for_room_is_counted() -> None:
    async def main() -> tuple[float, int]:
        pipe = pipe_of(1)

        async def take_late() -> None:
            await anyio.sleep(3)
            await pipe.receiver.receive()

        async with anyio.create_task_group() as group:
            group.start_soon(take_late)
            await pipe.sender.send(1)
            await pipe.sender.send(2)
        statistics = pipe.statistics()
        pipe.close()
        return statistics.blocked_s, statistics.depth

    assert in_virtual_time(main) == (3, 1)


async def test_receiving_goes_on_until_every_sender_is_closed() -> None:
    pipe = pipe_of(4)
    second = pipe.sender.clone()
    pipe.sender.close()
    second.send_nowait(7)
    second.close()
    assert [number async for number in pipe.receiver] == [7]
    pipe.close()


async def test_sending_to_nobody_is_an_error() -> None:
    pipe = pipe_of(1)
    pipe.receiver.close()
    with pytest.raises(anyio.BrokenResourceError):
        await pipe.sender.send(1)
    pipe.close()


async def test_a_pipe_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="numbers"):
        pipe_of(0)
