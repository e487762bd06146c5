"""An engine that is started again when it dies, with a queue in front of it whose time is nobody's.

In: how to start an engine. Out: an `Engine` that answers as long as one can be started.
Always:
- a request that was with an engine when it died is asked again, as it was, once the next one answers: its episode has
  everything before it in memory (prompt, books, transitions), so that it goes on at the step it was at, and only the
  tokens of that one answer are made twice. Nothing is read from the store for it;
- an engine that is started again has the weights it was given last before it answers anybody;
- it is started again `restarts` times at most, and failing to start counts; then every request, those that wait too,
  fails with an `EngineDeadError` that says why the last one died;
- at most `at_once` requests are with the engine, first come first served; what waits here, and what waits for an
  engine to start, is not the episode's own time (`runtime.own_time`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, cast

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from dreamsim.engines.adapted import AdapterEngine
from dreamsim.errors import ConfigurationError, EngineDeadError, EngineError
from dreamsim.protocols import Engine, WeightsReceiver
from dreamsim.records.completion import Completion, GenerationRequest
from dreamsim.records.load import EngineLoad
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.runtime.own_time import not_counted

Opening = Callable[[], Awaitable[AbstractAsyncContextManager[Engine]]]

log = structlog.get_logger()


class RestartingEngine:
    """Stands for whichever engine is alive. Made by `open_restarting_engine`."""

    def __init__(self, opening: Opening, *, restarts: int, at_once: int | None) -> None:
        self._opening = opening
        self._most = restarts
        self._places = None if at_once is None else anyio.Semaphore(at_once, fast_acquire=True)
        self._engine: Engine | None = None
        self._last: Engine
        self._problem: EngineError | None = None
        self._changed = anyio.Event()
        self._died = anyio.Event()
        self._why = ""
        self._updates: dict[str | None, WeightsUpdate] = {}
        self.restarts = 0
        """Times that an engine was started after another one had died."""
        self.waiting = 0
        """Requests that wait for a place."""

    @property
    def name(self) -> str:
        """The model's name, for provenance."""
        return self._last.name

    @property
    def version(self) -> str:
        """Version of the weights in use, or last in use while none is."""
        return self._last.version

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._last.max_model_len

    def adapter_version(self, adapter: str) -> str:
        """Version that requests for `adapter` are answered with.

        Raises:
            EngineError: there is no such adapter.
        """
        return cast(AdapterEngine, self._last).adapter_version(adapter)

    @property
    def alive(self) -> Engine:
        """The engine behind it, the last one where none lives: for what is particular to its kind."""
        return self._last

    async def load(self) -> EngineLoad | None:
        """How busy the engine is, those that wait here included; None where it does not tell, or none lives."""
        tell = getattr(self._engine, "load", None)
        if tell is None:
            return None
        load: EngineLoad | None = await tell()
        return None if load is None else dataclasses.replace(load, waiting=load.waiting + self.waiting)

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer `request`; asked again where an engine died over it. Cancelling the call aborts it in the engine.

        Raises:
            EngineError: generation failed; an `EngineDeadError` when no engine can be started any more.
            ContextOverflowError: prompt and answer do not fit.
        """
        places = self._places
        if places is None:
            return await self._ask(request)
        try:
            places.acquire_nowait()
        except anyio.WouldBlock:
            self.waiting += 1
            try:
                with not_counted():
                    await places.acquire()
            finally:
                self.waiting -= 1
        try:
            return await self._ask(request)
        finally:
            places.release()

    async def _ask(self, request: GenerationRequest) -> Completion:
        while True:
            engine = self._engine or await self._next()
            try:
                return await engine.generate(request)
            except EngineDeadError as error:
                self._report(engine, error)

    async def load_weights(self, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Have the engine take weights, and every one that is started after it.

        Raises:
            EngineError: they could not be loaded, also not by an engine started again.
            ConfigurationError: the engine takes none, or none of this kind; nothing has changed.
        """
        await self._load(None, update, in_flight)

    async def load_adapter(self, adapter: str, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """The same for one adapter.

        Raises:
            EngineError: they could not be loaded.
            ConfigurationError: there is no such adapter, or the weights are none; nothing has changed.
        """
        await self._load(adapter, update, in_flight)

    async def _load(self, adapter: str | None, update: WeightsUpdate, in_flight: InFlight) -> None:
        engine = self._engine or await self._next()
        before = self._updates.get(adapter)
        self._updates[adapter] = update  # whoever is started from here on has them
        try:
            await _loaded(engine, adapter, update, in_flight)
        except EngineError as error:
            if error.recoverable:
                self._forget(adapter, before)
                raise
            # It may hold half of them: as good as dead. The next one begins with them.
            self._report(engine, error)
            await self._next()
        except ConfigurationError:
            self._forget(adapter, before)
            raise

    def _forget(self, adapter: str | None, before: WeightsUpdate | None) -> None:
        if before is None:
            self._updates.pop(adapter, None)
        else:
            self._updates[adapter] = before

    async def _next(self) -> Engine:
        """The engine that lives, once one does.

        Raises:
            EngineDeadError: none will.
        """
        with not_counted():
            while True:
                engine = self._engine
                if engine is not None:
                    return engine
                if self._problem is not None:
                    raise EngineDeadError(str(self._problem)) from self._problem
                await self._changed.wait()

    def _report(self, engine: Engine, error: EngineError) -> None:
        if engine is self._engine:
            self._engine, self._why = None, str(error)
            self._died.set()

    async def serve(self, *, task_status: TaskStatus[None]) -> None:
        """Start engines, one after the other, until they may not be started any more or this is cancelled."""
        await self._serve_one(task_status)
        while self.restarts < self._most:
            self.restarts += 1
            log.warning("engine.restarting", number=self.restarts, most=self._most, reason=self._why)
            try:
                await self._serve_one(None)
            except Exception as error:  # noqa: BLE001 - it counts as one more that died
                self._why = f"it could not be started again: {error}"
        said = f"the engine died and was started again {self.restarts} times: {self._why}"
        self._problem = EngineDeadError(said if self.restarts else self._why)
        self._tell()

    async def _serve_one(self, task_status: TaskStatus[None] | None) -> None:
        """Open an engine, let it answer until it dies, close it."""
        died = self._died = anyio.Event()
        try:
            async with await self._opening() as engine:
                for adapter, update in self._updates.items():
                    await _loaded(engine, adapter, update, "drain")
                self._engine = self._last = engine
                self._tell()
                if task_status is not None:
                    task_status.started()
                try:
                    await died.wait()
                finally:
                    self._engine = None
        except Exception as error:
            if not died.is_set():
                raise
            log.warning("engine.close_failed", reason=str(error))  # the dead need not be closed well

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def _loaded(engine: Engine, adapter: str | None, update: WeightsUpdate, in_flight: InFlight) -> None:
    holder: Any = engine
    if adapter is not None:
        await cast(AdapterEngine, holder).load_adapter(adapter, update, in_flight=in_flight)
    elif hasattr(holder, "load_weights"):
        await cast(WeightsReceiver, holder).load_weights(update, in_flight=in_flight)
    else:
        raise ConfigurationError(f"{engine.name} takes no new weights while it runs")


class open_restarting_engine(AbstractAsyncContextManager[RestartingEngine]):  # noqa: N801 - used like a function
    """Start an engine, and another one whenever it dies; the last one is closed when the context is left.

    An error of the block is raised as it is; so is what kept the first engine from starting.
    """

    def __init__(self, opening: Opening, *, restarts: int, at_once: int | None = None) -> None:
        """Nothing starts before it is entered.

        Args:
            opening: gives a context that starts an engine when it is entered; called once for each.
            restarts: most engines started after the first.
            at_once: most requests with the engine at the same moment; None is any number.

        Raises:
            ConfigurationError: a number makes no sense.
        """
        if restarts < 0:
            raise ConfigurationError("restarts must not be negative; 0 ends the run when the engine dies")
        if at_once is not None and at_once < 1:
            raise ConfigurationError("at_once must be at least 1, or no request could ever be answered")
        self._engine = RestartingEngine(opening, restarts=restarts, at_once=at_once)
        self._group: TaskGroup

    async def __aenter__(self) -> RestartingEngine:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        try:
            await self._group.start(self._engine.serve)
        except BaseException:
            await self._leave()
            raise
        return self._engine

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None and issubclass(kind, anyio.get_cancelled_exc_class()):
            self._group.cancel_scope.cancel()
            return await self._group.__aexit__(kind, error, trace)
        # The block's own error is not given to the group, which would wrap it.
        await self._leave()
        return None

    async def _leave(self) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)
