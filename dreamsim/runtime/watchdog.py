"""The watchdog: how late the event loop is, and which episodes do not move.

In: a run's telemetry. Out: lag samples and `telemetry.stuck`.
Always: costs a few microseconds per sample; walks the tasks only when an episode has been still for long.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from dreamsim.runtime.snapshot import StuckEpisode
from dreamsim.runtime.telemetry import Telemetry

SAMPLE_SECONDS = 0.05
LOOK_EVERY_SAMPLES = 100
STUCK_SECONDS = 300.0
"""Thousands of episodes on a CPU wait a minute and more for each answer: that is a queue, not a fault."""
NAMED_AT_MOST = 5
LINKS_SHOWN = 8


async def watch(telemetry: Telemetry, stuck_seconds: float = STUCK_SECONDS) -> None:
    """Sample until cancelled; name episodes that have been at one station for `stuck_seconds`."""
    while True:
        for _ in range(LOOK_EVERY_SAMPLES):
            due = anyio.current_time() + SAMPLE_SECONDS
            await anyio.sleep_until(due)
            telemetry.sampled(max(0.0, anyio.current_time() - due))
        telemetry.stuck = find_stuck(telemetry, stuck_seconds)


def find_stuck(telemetry: Telemetry, stuck_seconds: float) -> tuple[StuckEpisode, ...]:
    """The live episodes that have not moved for `stuck_seconds`, the longest first, a few of them."""
    now = telemetry.clock.monotonic()
    still = [live for live in telemetry.live.values() if now - live.since >= stuck_seconds]
    if not still:
        return ()
    still.sort(key=lambda live: live.since)
    awaited = {task.name: task.coro for task in anyio.get_running_tasks()}
    return tuple(
        StuckEpisode(
            episode_id=live.id,
            task_key=live.task_key,
            step=live.step,
            station=live.station,
            seconds=now - live.since,
            awaiting=_awaits(awaited, f"episode {live.id}"),
        )
        for live in still[:NAMED_AT_MOST]
    )


def _awaits(coroutines: Mapping[str | None, Any], task_name: str) -> str:
    """The last links of a task's chain of awaits, as `function (file:line) > function (file:line)`."""
    coroutine, chain = coroutines.get(task_name), []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            chain.append(f"{coroutine.__qualname__} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})")
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return " > ".join(chain[-LINKS_SHOWN:])
