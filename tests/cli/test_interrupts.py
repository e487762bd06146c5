from __future__ import annotations

import os
import signal

import anyio
import pytest

from dreamsim.cli.interrupts import Interrupts

pytestmark = pytest.mark.anyio


async def test_the_first_signal_during_set_up_cancels_it() -> None:
    interrupts = Interrupts()
    async with anyio.create_task_group() as tasks:
        await tasks.start(interrupts.listen)
        with anyio.fail_after(5), interrupts.setting_up() as scope:
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep_forever()
        tasks.cancel_scope.cancel()
    assert scope.cancelled_caught
    assert interrupts.requested


async def test_what_nohup_switched_off_stays_off() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(Interrupts().listen)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            tasks.cancel_scope.cancel()
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_the_first_signal_later_calls_what_was_registered_and_the_second_kills() -> None:
    called, killed = anyio.Event(), anyio.Event()
    interrupts = Interrupts(kill=killed.set)

    async def stop() -> None:
        called.set()
        await anyio.sleep_forever()  # a second signal must be heard meanwhile

    interrupts.call_first(stop)
    async with anyio.create_task_group() as tasks:
        await tasks.start(interrupts.listen)
        with anyio.fail_after(5):
            os.kill(os.getpid(), signal.SIGINT)
            await called.wait()
            assert not killed.is_set()
            os.kill(os.getpid(), signal.SIGINT)
            await killed.wait()
        tasks.cancel_scope.cancel()
