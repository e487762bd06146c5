"""One worker process, seen from the event loop.

In: requests from any number of tasks. Out: an answer each, or `WorkerLostError`.
Always:
- nothing here blocks the loop: requests and answers are written and read asynchronously, many under way at once;
- a worker that answers nothing for `silence_s` while something is asked of it counts as hung and is killed;
- once `run` has returned, the process and whatever it started are gone, whatever ended them.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from dreamsim.errors import EnvironmentFailure
from dreamsim.records.strict_json import parse_json
from dreamsim.runtime.addresses import without_keys
from dreamsim_adapters.environments.workers.frames import FRAME_LIMIT, JsonObject, frame_bytes

LEAVING_SECONDS = 3.0
"""Time a worker has to end by itself when its input ends."""
ERRORS_KEPT = 2_000
"""Characters of a worker's standard error kept for messages."""


class WorkerLostError(EnvironmentFailure):
    """The worker that was asked died or hung before it answered."""


@dataclass(slots=True, eq=False)
class _Call:
    answered: anyio.Event = field(default_factory=anyio.Event)
    answer: JsonObject | None = None


class WorkerProcess:
    """One process. `run` it once in a task; `call` it from others."""

    def __init__(self, module: str, *, silence_s: float, start_s: float) -> None:
        """`module` is what it runs; `start_s` is the most time from start to being ready."""
        self.games = 0
        """Games being played in it; whoever plays counts."""
        self.pid: int | None = None
        """While it runs."""
        self.lost = False
        """Set at the first sign of its end; nothing more should be asked of it."""
        self.hello: JsonObject = {}
        """What it told when it was ready."""
        self._module = module
        self._silence_s = silence_s
        self._start_s = start_s
        self._process: Process | None = None
        self._calls: dict[int, _Call] = {}
        self.answered = 0
        """Requests answered so far."""
        self._asked = 0
        self._watch = anyio.CancelScope()
        self._errors = ""
        self._reason: str | None = None

    async def run(self, ready: Callable[[WorkerProcess], None]) -> str:
        """Start, call `ready` when requests can be answered, and go on until the process ends. Returns why it did."""
        try:
            with anyio.CancelScope(shield=True):  # a process must not be started and forgotten
                process = await anyio.open_process(
                    [sys.executable, "-m", self._module],
                    env={
                        **without_keys(os.environ),
                        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
                    },
                    start_new_session=True,  # Ctrl-C is for the run, which ends its workers itself
                )
        except OSError as error:
            return f"a worker could not be started: {error}"
        self._process, self.pid = process, process.pid
        hung = False
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_errors, process.stderr)
                hung = await self._read_answers(process, ready)
                with anyio.move_on_after(0 if hung else LEAVING_SECONDS):
                    await process.wait()
                group.cancel_scope.cancel()
        finally:
            self.lost = True
            self._reason = self._why(hung)
            self._process = self.pid = None
            for call in self._calls.values():
                call.answered.set()
            with anyio.CancelScope(shield=True):
                await _end(process, at_once=hung)
        return self._reason

    async def call(self, request: JsonObject) -> JsonObject:
        """The answer to `request`.

        Raises:
            WorkerLostError: the worker died, hung or was closed before it answered.
            EnvironmentFailure: the game failed; the worker lives.
        """
        number, call = self._asked + 1, _Call()
        self._calls[number] = call
        try:
            await self._send(request)
            await call.answered.wait()
        finally:
            self._calls.pop(number, None)
        if call.answer is None:
            raise WorkerLostError(self._reason or "the worker is gone")
        if "error" in call.answer:
            raise EnvironmentFailure(f"the game failed at {request['op']!r}: {call.answer['error']}")
        return call.answer

    async def post(self, request: JsonObject) -> None:
        """Send `request` and do not wait for the answer; nothing happens when the worker is gone."""
        with contextlib.suppress(WorkerLostError), anyio.move_on_after(1.0, shield=True):
            await self._send(request)

    async def _send(self, request: JsonObject) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise WorkerLostError(self._reason or "the worker is gone")
        self._asked += 1
        if self._asked == self.answered + 1:
            self._watch.deadline = anyio.current_time() + self._silence_s
        try:
            await process.stdin.send(frame_bytes({**request, "id": self._asked}))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            self.lost = True
            raise WorkerLostError(self._reason or "the worker ended") from error

    async def _read_answers(self, process: Process, ready: Callable[[WorkerProcess], None]) -> bool:
        """Hand out answers until there are no more; returns whether the worker hung."""
        assert process.stdout is not None, "started with a pipe"
        stream = BufferedByteReceiveStream(process.stdout)
        self._watch.deadline = anyio.current_time() + self._start_s
        with self._watch:
            while (answer := await _next_frame(stream)) is not None:
                number = answer["id"]
                if number == 0:
                    self.hello = answer
                    self._watch.deadline = math.inf
                    ready(self)
                    continue
                self.answered = number
                waits = self._asked > self.answered
                self._watch.deadline = anyio.current_time() + self._silence_s if waits else math.inf
                call = self._calls.get(number)
                if call is not None:
                    call.answer = answer
                    call.answered.set()
        return self._watch.cancelled_caught

    async def _keep_errors(self, stream: ByteReceiveStream | None) -> None:
        assert stream is not None, "started with a pipe"
        async for chunk in stream:
            self._errors = (self._errors + chunk.decode("utf-8", "replace"))[-ERRORS_KEPT:]

    def _why(self, hung: bool) -> str:
        if hung:
            return f"a worker answered nothing for {self._silence_s if self._asked else self._start_s:g} s"
        code = None if self._process is None else self._process.returncode
        said = self._errors.strip().splitlines()
        return f"a worker ended with code {code}" + (f": {said[-1][:300]}" if said else "")


async def _next_frame(stream: BufferedByteReceiveStream) -> JsonObject | None:
    try:
        size = int.from_bytes(await stream.receive_exactly(4), "big")
        if size > FRAME_LIMIT:
            return None
        answer: Any = parse_json(await stream.receive_exactly(size))
    except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError, ValueError):
        return None
    return answer if isinstance(answer, dict) and type(answer.get("id")) is int else None


async def _end(process: Process, *, at_once: bool) -> None:
    """Close the worker's input, which ends it; kill it and whatever it started if that does not help."""
    if process.stdin is not None:
        with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await process.stdin.aclose()
    left = True
    if not at_once:
        with anyio.move_on_after(LEAVING_SECONDS):
            left = await process.wait() != 0
    if left:
        # The worker leads a process group of its own: this reaches whatever it started, too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    await process.aclose()
