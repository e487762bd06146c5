"""An episode's own time: what its limit counts, and what it does not.

In: a cancel scope whose deadline is the episode's limit; parts that say when they make an episode wait. Out: a limit
that stands still meanwhile. Always:
- waiting for others (a place at the engine, weights being swapped, an engine being started again, a server that asks
  to come back later) is not the episode's time; what is computed for it is;
- the limit stands still as long as at least one of an episode's tasks waits so, and never runs backwards;
- nothing is done, and a microsecond spent, where nobody waits or no episode is being played.

    with not_counted():
        await places.acquire()
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import anyio


class OwnTime:
    """The limit of one episode."""

    __slots__ = ("_left", "_scope", "_since", "_waiting", "waited_s")

    def __init__(self, scope: anyio.CancelScope) -> None:
        """The limit is the deadline of `scope`, now and later."""
        self._scope = scope
        self._waiting = 0
        self._left = math.inf
        self._since = 0.0
        self.waited_s = 0.0
        """Time that was not counted so far, seconds."""

    def begin_waiting(self) -> None:
        """One of the episode's tasks waits for others."""
        self._waiting += 1
        if self._waiting == 1:
            self._since = anyio.current_time()
            self._left = self._scope.deadline - self._since
            self._scope.deadline = math.inf

    def end_waiting(self) -> None:
        """It goes on."""
        self._waiting -= 1
        if self._waiting == 0:
            now = anyio.current_time()
            self.waited_s += now - self._since
            self._scope.deadline = now + self._left


OWN_TIME: ContextVar[OwnTime | None] = ContextVar("dreamsim_own_time", default=None)
"""The episode that the present task plays; its subtasks inherit it."""


@contextmanager
def own_time(scope: anyio.CancelScope) -> Iterator[OwnTime]:
    """What this task and its subtasks do inside is an episode's whose limit is the deadline of `scope`."""
    own = OwnTime(scope)
    token = OWN_TIME.set(own)
    try:
        yield own
    finally:
        OWN_TIME.reset(token)


@contextmanager
def not_counted() -> Iterator[None]:
    """The time inside is not the episode's own."""
    own = OWN_TIME.get()
    if own is None:
        yield
        return
    own.begin_waiting()
    try:
        yield
    finally:
        own.end_waiting()
