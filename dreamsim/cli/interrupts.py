"""Ctrl-C, SIGTERM and a closed terminal: the first asks the run to end, the second kills it.

In: signals. Out: a call of what is to be done. Always: while nothing is registered the set-up is cancelled; the
second signal ends this process and its children at once, without cleaning up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus

from dreamsim.cli import exits
from dreamsim.errors import UsageError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
            with anyio.open_signal_receiver(*_wanted()) as signals:
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


async def interruptible(
    work: Callable[[], Awaitable[None]], interrupts: Interrupts, *, stop_after_s: float | None
) -> None:
    """Do `work` while listening for signals; after `stop_after_s` seconds it is asked to end as by the first one.

    Raises:
        UsageError: as `work` raised it.
    """
    refused: UsageError | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(interrupts.listen)
        if stop_after_s is not None:
            tasks.start_soon(_stop_after, stop_after_s, interrupts)
        try:
            with interrupts.setting_up():
                await work()
        except UsageError as error:
            refused = error  # not through the task group, which would wrap it
        tasks.cancel_scope.cancel()
    if refused is not None:
        raise refused


async def _stop_after(seconds: float, interrupts: Interrupts) -> None:
    await anyio.sleep(seconds)
    await interrupts.request()


def _wanted() -> list[signal.Signals]:
    """Not what was switched off for us: `nohup` ignores SIGHUP, a shell's background jobs ignore SIGINT."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def kill_everything() -> None:
    """End this process and its children now."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(exits.INTERRUPTED)
