"""What holds episodes back: a limit that moves, and a gate that closes.

In: a limit, and who takes and gives places; a wish to pause. Out: who may go on. Always: taking never waits and waiting
never takes, so that whoever has waited looks again; nothing is taken beyond the limit, and a limit that falls below
what is taken takes nothing away by itself.
"""

from __future__ import annotations

import anyio


class Slots:
    """Places, as many as `limit` says now."""

    __slots__ = ("_changed", "_limit", "taken")

    def __init__(self, limit: int) -> None:
        """All free."""
        self._limit = limit
        self.taken = 0
        """Places taken now; more than `limit` for a while, where the limit has fallen."""
        self._changed: anyio.Event | None = None

    @property
    def limit(self) -> int:
        """Most places that may be taken."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self.tell()

    @property
    def free(self) -> bool:
        """Whether one may be taken."""
        return self.taken < self._limit

    def take(self) -> None:
        """Take a place; ask `free` first."""
        self.taken += 1

    def give(self) -> None:
        """Give a place back; whoever waits is told by `tell`."""
        self.taken -= 1

    def tell(self) -> None:
        """Have everyone who waits look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def changed(self) -> None:
        """Wait for the next `tell`."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()


class Gate:
    """Open, or closed until somebody opens it."""

    __slots__ = ("_opened", "closed")

    def __init__(self) -> None:
        """Open."""
        self.closed = False
        """Whether those who come have to wait. Written by `close` and `open` only."""
        self._opened = anyio.Event()

    def close(self) -> None:
        """Hold whoever comes. Idempotent."""
        if not self.closed:
            self.closed = True
            self._opened = anyio.Event()

    def open(self) -> None:
        """Let everyone go on. Idempotent."""
        self.closed = False
        self._opened.set()

    async def wait(self) -> None:
        """Wait while it is closed; it may be closed again by the time that the caller runs."""
        while self.closed:
            await self._opened.wait()
