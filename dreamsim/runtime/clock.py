"""Time: what o'clock it is, and how long something took.

In: nothing. Out: a `Clock`. Always: code that asks for the time asks a clock, so that a test can decide what
time it is; sleeping and deadlines are anyio's and follow the event loop's time, which `VirtualClock` reads.
"""

from __future__ import annotations

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """Tells the time."""

    def unix(self) -> float:
        """Seconds since 1970, for records."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment, never going back: for durations. Deadlines follow anyio's time."""
        ...


class RealClock:
    """The machine's clock."""

    __slots__ = ()

    def unix(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()


class VirtualClock:
    """The time of the running loop, from a fixed epoch: with a loop of virtual time, records repeat exactly.

    Use it with `dreamsim.testing.virtual_time.VirtualTimeLoop`, whose time jumps to the next timer when idle.
    """

    __slots__ = ("_epoch",)

    def __init__(self, epoch: float = 1_700_000_000.0) -> None:
        self._epoch = epoch

    def unix(self) -> float:
        """The epoch plus the loop's time."""
        return self._epoch + anyio.current_time()

    def monotonic(self) -> float:
        """The loop's time."""
        return anyio.current_time()
