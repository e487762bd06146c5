"""Time that jumps."""

from __future__ import annotations

import time

import anyio
import pytest

from dreamsim.runtime.clock import Clock, RealClock, VirtualClock
from tests.flow.runs import in_virtual_time


def test_an_hour_passes_in_no_time() -> None:
    async def main() -> float:
        await anyio.sleep(3000)
        return VirtualClock().monotonic()

    begun = time.monotonic()
    assert in_virtual_time(main) == pytest.approx(3000)
    assert time.monotonic() - begun < 5


def test_timers_go_off_in_order() -> None:
    async def main() -> list[int]:
        seen: list[int] = []

        async def after(seconds: int) -> None:
            await anyio.sleep(seconds)
            seen.append(seconds)

        async with anyio.create_task_group() as group:
            for seconds in (30, 10, 20):
                group.start_soon(after, seconds)
        return seen

    assert in_virtual_time(main) == [10, 20, 30]


def test_waiting_for_what_never_comes_is_an_error_and_no_endless_loop() -> None:
    async def main() -> None:
        for _ in range(1_000_000):
            await anyio.sleep(60)

    with pytest.raises(RuntimeError, match="virtual seconds"):
        in_virtual_time(main)


def test_the_virtual_clock_follows_the_loop() -> None:
    async def main() -> tuple[float, float]:
        clock = VirtualClock(epoch=1000)
        await anyio.sleep(5)
        return clock.unix(), clock.monotonic()

    assert in_virtual_time(main) == (1005, 5)


def test_the_real_clock_is_the_machines() -> None:
    clock: Clock = RealClock()
    assert abs(clock.unix() - time.time()) < 5
    assert clock.monotonic() <= clock.monotonic()
