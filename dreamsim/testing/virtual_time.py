"""An event loop whose time jumps: hours of deadlines and sleeps pass in no time, in the same order every run.

In: nothing; give the class to `anyio.run` as `loop_factory`. Out: a loop whose `time()` is virtual.
Always: time moves only when nothing can run, and then to the next timer. Not for code that waits for threads,
processes or sockets: a timer may go off before they answer.
"""

from __future__ import annotations

import asyncio  # it is a loop of asyncio, which anyio runs on
import selectors
from collections.abc import Mapping
from typing import Any

# asyncio by name: anyio has no virtual clock, and a loop class is what it takes one from.
PATIENCE_S = 3600.0
"""Virtual seconds after which a program that only waits is taken to wait for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`anyio.run(main, backend_options={"loop_factory": VirtualTimeLoop})`."""

    def __init__(self) -> None:
        """A loop at time 0."""
        self._virtual_now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_now

    def jump(self, seconds: float) -> None:
        """Move time on.

        Raises:
            RuntimeError: more than `PATIENCE_S` have passed: what the program waits for never comes.
        """
        self._virtual_now += seconds
        if self._virtual_now > PATIENCE_S:
            raise RuntimeError(f"still waiting after {PATIENCE_S:g} virtual seconds")


class _JumpingSelector(selectors.BaseSelector):
    """Asks the real selector without waiting, and moves the loop's time instead."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._real.select(None)
        events = self._real.select(0)
        if not events and timeout > 0:
            self._loop.jump(timeout)
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()
