"""The gate that requests pass one way or another while an engine's weights are changed.

In: requests, and swaps of weights. Out: answers, each made by the weights that its caller is told.
Always:
- while a swap is on, no request begins; with `drain` and `abort` none is in flight either;
- a request that a swap aborted is asked again once the swap is over: its caller only waits longer;
- swaps are one at a time, and the gate opens again whatever happens to them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from dreamsim.records.weights import InFlight
from dreamsim.runtime.own_time import not_counted

T = TypeVar("T")


class WeightsGate:
    """Of one engine, or of one adapter of it."""

    def __init__(self, *, drain_seconds: float | None = None) -> None:
        """`drain_seconds`: what is not finished after so long is aborted, and so asked again; None waits for ever."""
        self._drain_seconds = drain_seconds
        self._opens: anyio.Event | None = None
        self._idle = anyio.Event()
        self._asked: set[anyio.CancelScope] = set()
        self._turn = anyio.Lock()
        self.repeated = 0
        """Requests that were asked again because a swap aborted them."""

    async def through(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives; called again when a swap aborted it. Cancelling this cancels `ask`."""
        while True:
            while self._opens is not None:
                with not_counted():
                    await self._opens.wait()
            with anyio.CancelScope() as scope:
                self._asked.add(scope)
                try:
                    return await ask()
                finally:
                    self._asked.discard(scope)
                    if not self._asked:
                        self._idle.set()
            self.repeated += 1

    @asynccontextmanager
    async def closed(self, in_flight: InFlight) -> AsyncIterator[None]:
        """Closed to new requests inside; entered when those in flight are finished or aborted, unless they are kept."""
        async with self._turn:
            self._opens = opens = anyio.Event()
            try:
                if in_flight == "abort":
                    self._abort()
                if in_flight != "keep":
                    await self._drained()
                yield
            finally:
                self._opens = None
                opens.set()

    async def _drained(self) -> None:
        with anyio.move_on_after(self._drain_seconds):
            await self._emptied()
        self._abort()
        await self._emptied()

    async def _emptied(self) -> None:
        while self._asked:
            self._idle = anyio.Event()
            await self._idle.wait()

    def _abort(self) -> None:
        for scope in self._asked:
            scope.cancel()
