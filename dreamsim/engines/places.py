"""Places at an engine, for those who came first.

In: who wants a place (an episode). Out: a place, when one is free. Always:
- no more than `count` places are taken at once, and one that is given back goes to somebody who waits, if anybody does;
- of those who wait, the one goes first who asked first *ever*, not in this turn. So the oldest episodes are played to
  their end while the others wait, and an engine's prefix cache holds the prompts of those it answers. Taking turns,
  thousands of growing prompts would push each other out of it, and each would be read from its beginning at every step.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

import anyio

KEPT: Final = 1 << 16
"""Of so many who asked last it is remembered when they first did."""


@dataclass(slots=True, order=True)
class _Waiter:
    ticket: int
    number: int
    ready: anyio.Event = field(default_factory=anyio.Event, compare=False)
    gone: bool = field(default=False, compare=False)


class Places:
    """Takes the place of a semaphore; use it inside one event loop."""

    def __init__(self, count: int) -> None:
        """All `count` places are free."""
        self._free = count
        self._heap: list[_Waiter] = []
        self._tickets: dict[str, int] = {}
        self._asked = 0
        self.waiting = 0
        """How many wait."""

    def ticket(self, who: str) -> int:
        """When `who` asked first: the smaller, the earlier."""
        found = self._tickets.get(who)
        if found is None:
            if len(self._tickets) >= KEPT:
                del self._tickets[next(iter(self._tickets))]
            found = self._tickets[who] = self._asked
        self._asked += 1
        return found

    def take_nowait(self) -> bool:
        """Whether there was a place; it is taken then."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self, ticket: int) -> None:
        """Take a place, as soon as there is one for whoever has this `ticket`."""
        if self.take_nowait():
            return
        self._asked += 1
        waiter = _Waiter(ticket, self._asked)
        heapq.heappush(self._heap, waiter)
        self.waiting += 1
        try:
            await waiter.ready.wait()
        except BaseException:
            if waiter.ready.is_set():
                self.give()  # it came at the same moment
            else:
                waiter.gone = True
                self.waiting -= 1
            raise

    def give(self) -> None:
        """Give a place back."""
        while self._heap:
            waiter = heapq.heappop(self._heap)
            if not waiter.gone:
                self.waiting -= 1
                waiter.ready.set()
                return
        self._free += 1
