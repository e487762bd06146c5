"""Ctrl-C and SIGTERM: the first asks the run to end, the second kills it.

In: signals. Out: a call of what is to be done. Always: while nothing is registered the set-up is cancelled; the
second signal ends this process and its children at once, without cleaning up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskStatus

from dreamsim.cli.summary import EXIT_INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Listens for signals; `requested` tells whether one came."""

    def __init__(self, *, kill: Callable[[], None] | None = None) -> None:
        """`kill` is what the second signal does; by default the end of the process."""
        self.requested = False
        """Whether the run was asked to end."""
        self._kill = kill_everything if kill is None else kill
        self._set_up = anyio.CancelScope()
        self._on_first: Callable[[], Awaitable[None]] | None = None

    async def listen(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Handle signals until cancelled."""
        async with anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(*SIGNALS) as signals:
                task_status.started()
                async for _ in signals:
                    if self.requested:
                        self._kill()
                    tasks.start_soon(self.request)

    async def request(self) -> None:
        """Ask the run to end, as the first signal does."""
        self.requested = True
        if self._on_first is None:
            self._set_up.cancel()
        else:
            await self._on_first()

    def setting_up(self) -> anyio.CancelScope:
        """Enter this around the set-up and the run: the first signal cancels it until `call_first`."""
        return self._set_up

    def call_first(self, action: Callable[[], Awaitable[None]] | None) -> None:
        """From now on the first signal calls `action` instead."""
        self._on_first = action


def kill_everything() -> None:
    """End this process and its children now."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(EXIT_INTERRUPTED)


class interrupts_held:  # noqa: N801 - used like a function
    """While open, this thread and the processes it starts do not get Ctrl-C.

    An engine's process lives in our process group, so the terminal would interrupt it together with us, and every
    episode in flight would fail instead of ending. A process inherits the mask and keeps it.
    """

    def __enter__(self) -> Self:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


@contextmanager
def ignored() -> Iterator[None]:
    """While open, the signals do nothing: for the last writes of a run."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
