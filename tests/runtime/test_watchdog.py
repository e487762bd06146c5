"""The watchdog: what a stalled episode awaits, in words, and how often that is said."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
from structlog.testing import capture_logs

from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.runtime.clock import VirtualClock
from dreamsim.runtime.measured import MeasuredEngine
from dreamsim.runtime.snapshot import PAUSED
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.runtime.watchdog import watch
from tests.flow.runs import in_virtual_time


class Silent:
    """An engine that never answers."""

    name = version = "silent"
    max_model_len = 100

    async def generate(self, request: GenerationRequest) -> Completion:
        await anyio.sleep_forever()
        raise AssertionError


async def ask(telemetry: Telemetry, role: str) -> None:
    request = GenerationRequest(
        request_id="r", prompt_token_ids=np.zeros(1, np.int32), sampling=Sampling(max_tokens=1), seed=0, role=role
    )
    await MeasuredEngine(Silent(), telemetry).generate(request)


def stalled(*, episodes: int, seconds: float, station: str = "environment") -> tuple[list[Any], Telemetry]:
    """What is logged while `episodes` episodes await the experience model for `seconds`, stalls counting from 60 s."""

    async def main() -> Telemetry:
        telemetry = Telemetry(clock=VirtualClock())
        async with anyio.create_task_group() as group:
            for number in range(episodes):
                live = telemetry.admitted(f"e{number}", "t")
                live.station, live.step = station, 7
                group.start_soon(ask, telemetry, "experience", name=f"episode e{number}")
            group.start_soon(watch, telemetry, 60)
            await anyio.sleep(seconds)
            group.cancel_scope.cancel()
        return telemetry

    with capture_logs() as logs:
        telemetry = in_virtual_time(main)
    return [entry for entry in logs if entry["event"] == "episodes.stalled"], telemetry


def test_a_stall_is_told_once_with_step_and_what_is_awaited() -> None:
    logs, telemetry = stalled(episodes=4, seconds=500)
    (entry,) = logs
    assert entry["text"].startswith("episode e0: step 7, awaiting experience engine for 6")
    assert "; 3 others like it (" in entry["text"]
    assert "Silent.generate (test_watchdog.py:" in entry["text"]
    assert entry["log_level"] == "warning"
    assert (telemetry.stalled, telemetry.stuck[0].what) == (4, "experience engine")


def test_nothing_is_told_before_the_threshold_or_of_a_paused_run() -> None:
    assert stalled(episodes=2, seconds=59)[0] == []
    assert stalled(episodes=2, seconds=500, station=PAUSED)[0] == []


def test_a_run_in_which_nothing_moves_is_told_apart_from_one_that_moves() -> None:
    async def main() -> tuple[float, float]:
        telemetry = Telemetry(clock=VirtualClock())
        async with anyio.create_task_group() as group:
            group.start_soon(watch, telemetry, 60)
            telemetry.admitted("e", "t")
            await anyio.sleep(100)
            still = telemetry.snapshot().still_s
            telemetry.stepped("dreamed")
            moved = telemetry.snapshot().still_s
            group.cancel_scope.cancel()
        return still, moved

    still, moved = in_virtual_time(main)
    assert 90 <= still <= 100
    assert moved == 0.0
