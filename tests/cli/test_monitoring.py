"""`/metrics` and `/health` of a live run, fetched over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import anyio
import anyio.lowlevel
import pytest

from dreamsim.cli.monitoring import serving_metrics
from dreamsim.errors import UsageError
from dreamsim.runtime.snapshot import Snapshot
from dreamsim.simulator import Simulator
from dreamsim.testing import RandomPolicy, ScriptedEnvironment, scripted_tasks
from tests.flow.runs import RUN, RememberedTasks

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(snapshot: Callable[[], Snapshot], *, stall_s: float = 60.0) -> AsyncIterator[str]:
    async with serving_metrics(snapshot, host="127.0.0.1", port=0, stall_s=stall_s) as address:
        yield address


async def fetch(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def test_the_numbers_of_a_live_run_are_served_as_prometheus_reads_them() -> None:
    simulator = Simulator(
        environment=ScriptedEnvironment(latency_s=0.05),
        policy=RandomPolicy(),
        tasks=RememberedTasks(scripted_tasks(5), episodes=40),
        run=RUN,
        concurrency=8,
    )
    async with simulator as running, served(simulator.telemetry.snapshot) as address:
        stream = running.episodes()
        for _ in range(3):
            await anext(stream)
        status, kind, page = await fetch(f"{address}/metrics")
        healthy = await fetch(f"{address}/health")
        await stream.aclose()
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert samples["dreamsim_episodes_alive"] == samples["dreamsim_episodes_limit"] == "8"
    assert float(samples["dreamsim_steps_total"]) > 0
    assert float(samples['dreamsim_station_seconds_total{station="environment"}']) > 0
    assert (
        sum(float(told) for name, told in samples.items() if name.startswith("dreamsim_episodes_finished_total")) >= 3
    )
    assert (healthy[0], json.loads(healthy[2])) == (200, {"status": "ok", "reason": "running"})


@pytest.mark.parametrize(
    ("now", "status", "reason"),
    [
        (Snapshot(paused=True), 200, "paused"),
        (Snapshot(alive=5, still_s=59.0), 200, "running"),
        (Snapshot(alive=5, still_s=61.0), 503, "stalled: nothing has moved for 61 s"),
        (Snapshot(engine_dead="vLLM is dead"), 503, "engine dead: vLLM is dead"),
    ],
)
async def test_health_says_what_is_wrong(now: Snapshot, status: int, reason: str) -> None:
    async with served(lambda: now) as address:
        told = await fetch(f"{address}/health")
    assert (told[0], json.loads(told[2])["reason"]) == (status, reason)


async def test_an_address_that_is_taken_is_refused_with_the_setting_to_change() -> None:
    async with served(Snapshot) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(UsageError, match=r"cannot be served .*run\.metrics_port"):
            async with serving_metrics(Snapshot, host="127.0.0.1", port=port, stall_s=1.0):
                pass


async def test_nothing_but_the_two_pages_is_served() -> None:
    async with served(Snapshot) as address:
        assert [(await fetch(f"{address}{path}"))[0] for path in ("/", "/../etc/passwd", "/metrics/x")] == [404] * 3
        await anyio.lowlevel.checkpoint()
