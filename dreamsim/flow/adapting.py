"""Keeps a collector's limit where the engines' load wants it.

In: engines that tell their load, a collector. Out: its limit moved, its youngest episodes requeued. Always: an engine
that does not tell is left out and asked again at the next look; until one has told something the ceiling is the limit,
and while none tells anything the limit stays where it is; a look waits for no engine longer than `LOAD_S`; while the
run is paused nothing is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import anyio
import anyio.lowlevel

from dreamsim.flow.collector import Collector
from dreamsim.flow.concurrency import LOOK_S, Look, decide, first_state
from dreamsim.records.load import EngineLoad
from dreamsim.runtime.boundary import Boundary
from dreamsim.runtime.limits import Gate
from dreamsim.runtime.telemetry import Telemetry

LOAD_S = 2.0
"""Longest time that an engine may take to tell its load."""


@runtime_checkable
class LoadTelling(Protocol):
    """An engine that tells how busy it is; the number of live episodes then follows its load."""

    async def load(self) -> EngineLoad | None:
        """How busy the engine is now; None where that cannot be told. What it raises counts as None."""
        ...


class Adaptation:
    """The controller of one collector."""

    def __init__(
        self,
        engines: Sequence[LoadTelling],
        *,
        telemetry: Telemetry,
        gate: Gate,
        requeue: bool = True,
    ) -> None:
        """Ready to `run`.

        Args:
            engines: those that tell their load; an engine that serves several roles once.
            telemetry: is told of loads, limits and cuts.
            gate: closed while the run is paused.
            requeue: whether episodes may be cut off to be played again; if not, a lower limit waits until they end.
        """
        self._engines = tuple({id(engine): engine for engine in engines}.values())
        self._telemetry = telemetry
        self._gate = gate
        self._requeue = requeue

    async def run(self, collector: Collector) -> None:
        """Look, decide and act until the collector has finished."""
        state = first_state(collector.ceiling)
        before = await self._loads()
        while True:
            if not collector.adaptive and any(load is not None for load in before):
                collector.adaptive = True
                collector.limit = state.limit
            with anyio.move_on_after(LOOK_S):
                await collector.finished.wait()
                return
            now = await self._loads()
            if not collector.adaptive:
                state = first_state(collector.ceiling, alive=collector.alive)
            elif not self._gate.closed:
                looks = [Look.since(old, new) for old, new in zip(before, now, strict=True) if new is not None]
                decision = decide(state, looks, alive=collector.alive, ceiling=collector.ceiling)
                state, collector.limit = decision.state, decision.state.limit
                self._telemetry.counters["limit_cuts"] += decision.reason == "cut"
                if self._requeue and decision.requeue:
                    collector.requeue_youngest(decision.requeue)
            before = [old if new is None else new for old, new in zip(before, now, strict=True)]

    async def _loads(self) -> list[EngineLoad | None]:
        loads: list[EngineLoad | None] = [await self._load(engine) for engine in self._engines]
        self._telemetry.loads = tuple(load for load in loads if load is not None)
        return loads

    async def _load(self, engine: LoadTelling) -> EngineLoad | None:
        load: EngineLoad | None = None
        # Whatever goes wrong here, generation will say it better; but our own cancellation must pass.
        with Boundary(), anyio.move_on_after(LOAD_S):
            load = await engine.load()
        await anyio.lowlevel.checkpoint_if_cancelled()
        return load
