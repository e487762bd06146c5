"""The watchdog: how late the event loop is, and which episodes do not move.

In: a run's telemetry. Out: lag samples, `telemetry.stuck`, and one warning in the log for every stall.
Always: costs a few microseconds per sample and nothing per step; walks the tasks only when an episode has been still
for long; an episode that waits because the run is paused is not still.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import structlog

from dreamsim.runtime.snapshot import PAUSED, StuckEpisode
from dreamsim.runtime.telemetry import LiveEpisode, Telemetry

SAMPLE_SECONDS = 0.05
LOOK_SECONDS = 5.0
"""Longest time between two looks at the episodes; shorter where stalls of that length are asked for."""
STUCK_SECONDS = 300.0
"""Thousands of episodes on a CPU wait a minute and more for each answer: that is a queue, not a fault."""
NAMED_AT_MOST = 5
LINKS_SHOWN = 8


log = structlog.get_logger()


async def watch(telemetry: Telemetry, stuck_seconds: float = STUCK_SECONDS) -> None:
    """Sample until cancelled; name episodes that have been at one station for `stuck_seconds`."""
    samples = max(1, round(min(LOOK_SECONDS, stuck_seconds / 2) / SAMPLE_SECONDS))
    told: set[tuple[str, float]] = set()
    while True:
        for _ in range(samples):
            due = anyio.current_time() + SAMPLE_SECONDS
            await anyio.sleep_until(due)
            telemetry.sampled(max(0.0, anyio.current_time() - due))
        telemetry.look()
        still = find_still(telemetry, stuck_seconds)
        new = [live for live in still if (live.id, live.since) not in told]
        told = {(live.id, live.since) for live in still}
        telemetry.stalled, telemetry.stuck = len(still), whereabouts(telemetry, still[:NAMED_AT_MOST])
        for said in describe_stalls(whereabouts(telemetry, new)):
            log.warning("episodes.stalled", text=said)


def find_still(telemetry: Telemetry, seconds: float) -> list[LiveEpisode]:
    """The live episodes that have been at one station for `seconds`, the longest first."""
    now = telemetry.clock.monotonic()
    still = [live for live in telemetry.live.values() if now - live.since >= seconds and live.station != PAUSED]
    return sorted(still, key=lambda live: live.since)


def find_stuck(telemetry: Telemetry, stuck_seconds: float) -> tuple[StuckEpisode, ...]:
    """The live episodes that have not moved for `stuck_seconds`, the longest first, a few of them."""
    return whereabouts(telemetry, find_still(telemetry, stuck_seconds)[:NAMED_AT_MOST])


def whereabouts(telemetry: Telemetry, episodes: Sequence[LiveEpisode]) -> tuple[StuckEpisode, ...]:
    """What each of `episodes` awaits. Walks all tasks, if there is an episode."""
    if not episodes:
        return ()
    now = telemetry.clock.monotonic()
    coroutines: Mapping[str | None, Any] = {task.name: task.coro for task in anyio.get_running_tasks()}
    found = []
    for live in episodes:
        frames = list(_frames(coroutines.get(f"episode {live.id}")))
        found.append(
            StuckEpisode(
                episode_id=live.id,
                task_key=live.task_key,
                step=live.step,
                station=live.station,
                what=_what(frames) or live.station,
                seconds=now - live.since,
                awaiting=" > ".join(_shown(*link) for link in frames[-LINKS_SHOWN:]),
            )
        )
    return tuple(found)


def describe_stalls(stalls: Sequence[StuckEpisode]) -> Iterator[str]:
    """One line for all that await the same: the one that has waited longest, and how many others there are."""
    alike = defaultdict(list)
    for stall in stalls:
        alike[stall.what].append(stall)
    for what, found in alike.items():
        first = max(found, key=lambda stall: stall.seconds)
        others = f"; {len(found) - 1} others like it" if len(found) > 1 else ""
        yield (
            f"episode {first.episode_id}: step {first.step}, awaiting {what} for {first.seconds:.0f} s{others}"
            + (f" ({first.awaiting})" if first.awaiting else "")
        )


def _frames(coroutine: Any) -> Iterator[tuple[str, FrameType]]:
    """The links of a chain of awaits, from a task's own coroutine on: qualified name and frame."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            yield coroutine.__qualname__, frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)


def _shown(name: str, frame: FrameType) -> str:
    return f"{name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"


def _what(frames: Sequence[tuple[str, FrameType]]) -> str:
    """What is awaited, where the last of the parts that count time is known; else nothing."""
    for name, frame in reversed(frames):
        if name == "MeasuredEngine.generate":
            return f"{frame.f_locals.get('role', 'an')} engine"
        if name == "MeasuredRetriever.retrieve":
            return "retrieval"
    return ""
