"""A key-value cache for the scripted engine: what does not fit waits, and what grows too large is preempted.

In: requests with the lengths of their prompt and answer. Out: the time they take, waiting and computing anew included.
Always:
- running requests never hold more tokens than there are; a request that could never fit is refused;
- as in vLLM, requests begin in the order they came, and when one cannot grow the one that began last loses everything
  and comes first in the queue;
- a request that is cancelled gives back what it holds.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio

from dreamsim.errors import ContextOverflowError
from dreamsim.records.load import EngineLoad

BLOCK: Final = 16
"""Tokens by which an answer grows."""


class _Request:
    __slots__ = ("begun", "held", "prompt", "running", "scope")

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt
        self.held = 0
        self.running = False
        self.begun = anyio.Event()
        self.scope = anyio.CancelScope()


class ScriptedCache:
    """Room for `tokens` tokens of at most `width` requests at once."""

    def __init__(self, *, tokens: int, width: int = 256) -> None:
        """Empty."""
        self._tokens = tokens
        self._width = width
        self._used = 0
        self._running: list[_Request] = []
        self._queue: deque[_Request] = deque()
        self.preemptions = 0
        """Times that a running request lost what was computed for it."""

    def load(self) -> EngineLoad:
        """How full it is."""
        return EngineLoad(
            running=len(self._running),
            waiting=len(self._queue),
            cache_use=self._used / self._tokens,
            preemptions=self.preemptions,
        )

    async def compute(self, prompt: int, generated: int, *, prompt_s: float, token_s: float) -> None:
        """Compute one request: `prompt_s` for its prompt and `token_s` for each token of the answer, from the beginning
        each time that it is preempted.

        Raises:
            ContextOverflowError: it does not fit into the cache.
        """
        if prompt + generated > self._tokens:
            raise ContextOverflowError(f"{prompt + generated} tokens in a cache of {self._tokens}")
        request = _Request(prompt)
        self._queue.append(request)
        try:
            while not await self._once(request, generated, prompt_s, token_s):
                pass
        finally:
            self._leave(request)

    async def _once(self, request: _Request, generated: int, prompt_s: float, token_s: float) -> bool:
        """Wait for room and compute; False if it was preempted."""
        self._begin_those_that_fit()
        while not request.running:
            await request.begun.wait()
        with request.scope as scope:
            await anyio.sleep(prompt_s)
            for first in range(0, generated, BLOCK):
                grown = min(BLOCK, generated - first)
                await anyio.sleep(grown * token_s)
                self._grow(request, grown)
        return not scope.cancel_called

    def _begin_those_that_fit(self) -> None:
        while self._queue and len(self._running) < self._width:
            first = self._queue[0]
            if self._used + first.prompt > self._tokens:
                return
            self._queue.popleft()
            self._running.append(first)
            self._used += first.prompt
            first.held, first.running, first.scope = first.prompt, True, anyio.CancelScope()
            first.begun.set()

    def _grow(self, request: _Request, tokens: int) -> None:
        while request.running and self._used + tokens > self._tokens:
            self._preempt(self._running[-1])
        if request.running:
            request.held += tokens
            self._used += tokens

    def _preempt(self, request: _Request) -> None:
        self.preemptions += 1
        self._stop(request)
        request.begun = anyio.Event()
        request.scope.cancel()
        self._queue.appendleft(request)

    def _stop(self, request: _Request) -> None:
        self._running.remove(request)
        self._used -= request.held
        request.held, request.running = 0, False

    def _leave(self, request: _Request) -> None:
        if request.running:
            self._stop(request)
        elif request in self._queue:
            self._queue.remove(request)
        self._begin_those_that_fit()
