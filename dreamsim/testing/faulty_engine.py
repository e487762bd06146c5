"""An engine that fails on a schedule, and a clock that jumps.

In: an engine that works, a `FaultSchedule`. Out: an engine that keeps the protocol when it answers at all.
Always: the n-th call of one request id meets the n-th fault of that id; a dead engine answers nothing any more, and
what is started in its place (another `FaultyEngine` with the same schedule) goes on in the schedule.
"""

from __future__ import annotations

import dataclasses

import anyio
import numpy as np

from dreamsim.errors import EngineDeadError, EngineError
from dreamsim.protocols import Engine
from dreamsim.records.completion import Completion, GenerationRequest
from dreamsim.runtime.clock import Clock, RealClock
from dreamsim.runtime.seeds import generator, seed_of
from dreamsim.testing.faults import Fault, FaultSchedule, commit_fault

ENGINE_FAULTS: tuple[Fault, ...] = (
    "error",
    "bug",
    "group",
    "hang",
    "slow",
    "garbage",
    "truncated",
    "disconnect",
    "foreign",
    "dead",
    "clock_jump",
)
"""What can happen to an engine."""
LONGEST_JUMP_S = 3600.0


class JumpingClock:
    """A clock that can be made to jump: the time of day both ways, monotonic time forward alone."""

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock`, the machine's by default, until somebody jumps."""
        self._clock: Clock = RealClock() if clock is None else clock
        self._unix = 0.0
        self._monotonic = 0.0

    def unix(self) -> float:
        """Seconds since 1970, as far as it has jumped."""
        return self._clock.unix() + self._unix

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return self._clock.monotonic() + self._monotonic

    def jump(self, seconds: float) -> None:
        """Someone sets the time of day; a jump forward is also what a machine does that had been asleep."""
        self._unix += seconds
        self._monotonic += max(0.0, seconds)


class FaultyEngine:
    """An engine whose answers fail, are late, or are wrong."""

    def __init__(
        self,
        engine: Engine,
        schedule: FaultSchedule,
        *,
        clock: JumpingClock | None = None,
        vocabulary_size: int = 256,
    ) -> None:
        """`engine`, with faults.

        Args:
            engine: answers.
            schedule: says when it does not.
            clock: jumps when a `clock_jump` is due; None: nothing jumps.
            vocabulary_size: garbage is made of the token ids below it.
        """
        self._engine = engine
        self._schedule = schedule
        self._clock = clock
        self._vocabulary_size = vocabulary_size
        self.dead = False
        """Whether it answers nothing any more."""
        self.in_flight: set[anyio.CancelScope] = set()
        """Calls that are waiting now."""

    @property
    def name(self) -> str:
        """As the engine's."""
        return self._engine.name

    @property
    def version(self) -> str:
        """As the engine's."""
        return self._engine.version

    @property
    def max_model_len(self) -> int:
        """As the engine's."""
        return self._engine.max_model_len

    def die(self) -> None:
        """The process is gone: every call that waits fails, and so does every later one."""
        self.dead = True
        for scope in self.in_flight:
            scope.cancel()

    async def generate(self, request: GenerationRequest) -> Completion:
        """Fail, or answer `request`, perhaps with noise.

        Raises:
            EngineError: as the schedule says, an `EngineDeadError` after a death; or what the engine raised.
        """
        fault = None if self.dead else self._schedule.due(request.request_id, ENGINE_FAULTS)
        if fault == "dead":
            self.die()
        if not self.dead:
            with anyio.CancelScope() as scope:
                self.in_flight.add(scope)
                try:
                    return await self._answer(request, fault)
                finally:
                    self.in_flight.discard(scope)
        raise EngineDeadError("the scripted engine died")

    async def _answer(self, request: GenerationRequest, fault: Fault | None) -> Completion:
        if fault == "clock_jump" and self._clock is not None:
            share = seed_of(0, "jump", request.request_id) % 2001 / 1000 - 1
            self._clock.jump(share * LONGEST_JUMP_S)
        elif fault is not None:
            await commit_fault(fault, error=EngineError, slow_s=self._schedule.slow_s, what="engine")
        completion = await self._engine.generate(request)
        if fault == "garbage":
            return self._garbled(request, completion)
        if fault == "truncated":
            half = len(completion.token_ids) // 2
            return dataclasses.replace(
                completion,
                token_ids=completion.token_ids[:half],
                logprobs=completion.logprobs[:half],
                finish_reason="length",
            )
        return completion

    def _garbled(self, request: GenerationRequest, completion: Completion) -> Completion:
        drawn = generator(request.seed, "garbage")
        size = min(request.sampling.max_tokens, int(drawn.integers(1, 64)))
        return dataclasses.replace(
            completion,
            token_ids=drawn.integers(self._vocabulary_size, size=size).astype(np.int32),
            logprobs=-drawn.exponential(5.0, size).astype(np.float32),
            finish_reason="stop",
        )
