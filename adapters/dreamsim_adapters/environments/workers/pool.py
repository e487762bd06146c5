"""A pool of worker processes: many games at once, none on the event loop.

In: games to play (`play`) and questions that need no game (`ask`). Out: what the games show.
Always:
- a worker that dies or hangs is started again, at most `restarts` times without `SOUND` answers in between; the games
  it held are begun again elsewhere and replayed, and an episode notices nothing unless the replay differs from what it
  has seen;
- an action under which `TRIES` workers in turn are lost ends its episode with `EnvironmentFailure`, not the run;
- leaving the pool ends every process and whatever these started.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from dreamsim.errors import ConfigurationError, EnvironmentFailure, UsageError
from dreamsim_adapters.environments.workers.frames import JsonObject
from dreamsim_adapters.environments.workers.process import WorkerLostError, WorkerProcess

TRIES = 3
"""Workers that may be lost under one request."""
SOUND = 1_000
"""A worker that has answered so many requests was sound: its end does not count against `restarts`."""


class ProcessPool:
    """Workers for as many games as are asked for. Use it as `async with ProcessPool(...) as pool:`."""

    def __init__(
        self,
        module: str,
        *,
        workers: int | None = None,
        games_per_worker: int = 512,
        silence_s: float = 30.0,
        start_s: float = 60.0,
        restarts: int = 5,
    ) -> None:
        """Nothing starts before `async with`.

        Args:
            module: what the processes run.
            workers: processes; by default, and at most, one per core that this process may use.
            games_per_worker: games alive in one process; more wait.
            silence_s: a worker that answers nothing for so long, while asked, counts as hung.
            start_s: most time until a new worker is ready.
            restarts: how often in a row each worker may be started again.

        Raises:
            ConfigurationError: a value makes no sense.
        """
        for name, value in (("workers", 1 if workers is None else workers), ("games_per_worker", games_per_worker)):
            if value < 1:
                raise ConfigurationError(f"{name} must be at least 1, or no game could ever be played")
        if silence_s <= 0 or start_s <= 0 or restarts < 0:
            raise ConfigurationError("silence_s and start_s must be positive, restarts not negative")
        cores = len(os.sched_getaffinity(0))
        self.size: int = cores if workers is None else min(workers, cores)
        """Number of worker processes."""
        self.lost = 0
        """Workers that died or hung so far."""
        self._module = module
        self._silence_s = silence_s
        self._start_s = start_s
        self._restarts = restarts
        self._places = anyio.Semaphore(self.size * games_per_worker, fast_acquire=True)
        self._ready: list[WorkerProcess] = []
        self._keepers = 0
        self._why = ""
        self._changed = anyio.Event()
        self._numbers = itertools.count(1)
        self._group: TaskGroup | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that are ready."""
        return tuple(worker.pid for worker in self._ready if worker.pid is not None and not worker.lost)

    async def hello(self) -> JsonObject:
        """What a worker told when it was ready; waits for one."""
        return (await self._worker()).hello

    @asynccontextmanager
    async def play(self, opening: JsonObject, *, said: str, loaded: str | None = None) -> AsyncIterator[Replayable]:
        """Begin a game; leaving the context frees its place.

        Args:
            opening: the fields of the request that begins it.
            said: what to call the game in messages.
            loaded: games of the same name go to the same worker, which has loaded it then; by default, a game goes to
                the worker with the fewest.

        Raises:
            EnvironmentFailure: no worker could begin it.
        """
        async with self._places:
            game = Replayable(self, opening, said, loaded)
            try:
                await game.begin()
                yield game
            finally:
                await game.leave()

    async def ask(self, request: JsonObject, *, said: str, loaded: str | None = None) -> JsonObject:
        """The answer to a request that belongs to no game; `said` is what to call it in messages, `loaded` as above.

        Raises:
            EnvironmentFailure: no worker could tell.
        """
        lost = ""
        for _ in range(TRIES):
            worker = await self._worker(loaded)
            try:
                return await worker.call(request)
            except WorkerLostError as error:
                lost = str(error)
        raise EnvironmentFailure(f"no {said}: {lost}")

    async def _worker(self, loaded: str | None = None) -> WorkerProcess:
        """The worker that has loaded it, or that with the fewest games; waits while all are being started again."""
        if self._group is None:
            raise UsageError("enter the pool first: `async with` it")
        while not (usable := [worker for worker in self._ready if not worker.lost]):
            if not self._keepers:
                raise EnvironmentFailure(
                    f"every worker was lost {self._restarts + 1} times; the last time: {self._why}"
                )
            await self._changed.wait()
        if loaded is not None:
            return usable[zlib.crc32(loaded.encode()) % len(usable)]
        return min(usable, key=lambda worker: worker.games)

    async def _keep(self) -> None:
        """One worker, started again when it is lost."""
        try:
            left = self._restarts
            while left >= 0:
                worker = WorkerProcess(self._module, silence_s=self._silence_s, start_s=self._start_s)
                try:
                    why = await worker.run(self._on_ready)
                finally:
                    if worker in self._ready:
                        self._ready.remove(worker)
                self._why = why
                self.lost += 1
                left = self._restarts if worker.answered >= SOUND else left - 1
        finally:
            self._keepers -= 1
            self._tell()

    def _on_ready(self, worker: WorkerProcess) -> None:
        self._ready.append(worker)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise UsageError("a pool cannot be entered while it is in use")
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._keepers = self.size
        for index in range(self.size):
            self._group.start_soon(self._keep, name=f"{self._module} {index}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        group = self._group
        assert group is not None, "left without having been entered"
        group.cancel_scope.cancel()
        try:
            # The block's own exception is not given to the group, which would wrap it.
            await group.__aexit__(None, None, None)
        except anyio.get_cancelled_exc_class():
            if not isinstance(error, anyio.get_cancelled_exc_class()):
                raise
        finally:
            self._group = None


class Replayable:
    """One game being played, taken up again elsewhere when its worker is lost. Made by `ProcessPool.play`."""

    __slots__ = ("_actions", "_loaded", "_number", "_opening", "_pool", "_said", "_worker", "opened", "shown")

    def __init__(self, pool: ProcessPool, opening: JsonObject, said: str, loaded: str | None) -> None:
        self._loaded = loaded
        self._pool = pool
        self._opening = opening
        self._said = said
        self._worker: WorkerProcess | None = None
        self._number = 0
        self._actions: list[str] = []
        self.opened: JsonObject = {}
        """What beginning it was answered with."""
        self.shown: JsonObject | None = None
        """What the game shows now; after the beginning, the same as `opened`."""

    async def begin(self) -> None:
        """Have the game set up."""
        await self._ask(None)

    async def step(self, action: str) -> JsonObject:
        """Take `action`, and return what the game shows then.

        Raises:
            EnvironmentFailure: the game failed or could not be taken up again after its worker was lost.
        """
        shown = await self._ask(action)
        self._actions.append(action)
        return shown

    async def leave(self) -> None:
        """Free what the worker holds."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.games -= 1
            await worker.post({"op": "close", "session": self._number})

    async def _ask(self, action: str | None) -> JsonObject:
        lost = ""
        for _ in range(TRIES):
            try:
                if self._worker is None:
                    await self._take_up(await self._pool._worker(self._loaded))
                if action is not None:
                    self.shown = await self._call(action)
            except WorkerLostError as error:
                await self.leave()
                lost = str(error)
                continue
            assert self.shown is not None, "set by taking the game up"
            return self.shown
        doing = "the start" if action is None else f"the action {action!r:.80}"
        raise EnvironmentFailure(f"{doing} of {self._said} lost {TRIES} workers in turn; the last one: {lost}")

    async def _take_up(self, worker: WorkerProcess) -> None:
        """Begin the game in `worker` and bring it where it was."""
        self._worker, self._number = worker, next(self._pool._numbers)
        worker.games += 1
        self.opened = shown = _shown(await worker.call({"op": "open", "session": self._number, **self._opening}))
        for action in self._actions:
            shown = await self._call(action)
        if self.shown is not None and shown != self.shown:
            raise EnvironmentFailure(f"{self._said} was lost with its worker, and its replay went differently")
        self.shown = shown

    async def _call(self, action: str) -> JsonObject:
        assert self._worker is not None, "taken up before"
        return _shown(await self._worker.call({"op": "step", "session": self._number, "action": action}))


def _shown(answer: JsonObject) -> JsonObject:
    return {key: value for key, value in answer.items() if key != "id"}
