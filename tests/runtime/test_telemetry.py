"""What is counted, and what is told about it."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import numpy as np
import pytest

from dreamsim.flow.source import FixedTasks
from dreamsim.protocols import Engine, Retriever
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.runtime.clock import VirtualClock
from dreamsim.runtime.measured import MeasuredEngine, MeasuredRetriever
from dreamsim.runtime.memory import resident_mib
from dreamsim.runtime.snapshot import Snapshot, StationUse, StuckEpisode, TokenCount
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.runtime.watchdog import find_stuck, watch
from dreamsim.simulator import Simulator
from dreamsim.testing import MemorySink, ScriptedEnvironment, ScriptedPolicy, gold_path, scripted_tasks
from tests.flow.runs import in_virtual_time


def station(seconds: float) -> StationUse:
    return StationUse(seconds=seconds, own_seconds=seconds, visits=1, inside=0)


def test_the_bottleneck_is_where_most_time_is_spent() -> None:
    snapshot = Snapshot(stations={"policy": station(3), "environment": station(5), "store": station(2)})
    assert snapshot.bottleneck() == "environment"
    assert snapshot.station_shares() == {"environment": 0.5, "policy": 0.3, "store": 0.2}


def test_before_anything_happened_there_is_no_bottleneck_and_no_share() -> None:
    nothing = Snapshot()
    assert (nothing.bottleneck(), nothing.station_shares(), nothing.success_share) == (None, {}, None)
    assert TokenCount().cached_share is None


def test_an_error_is_no_failure_of_the_policy() -> None:
    snapshot = Snapshot(done=10, outcomes={"success": 4, "failure": 3, "truncated": 1, "error": 2})
    assert snapshot.success_share == 0.5


def test_rates_are_of_the_time_between_two_snapshots() -> None:
    earlier = Snapshot(elapsed_s=10, steps=100, done=5, tokens={"policy": TokenCount(prompt=50, generated=10)})
    later = Snapshot(elapsed_s=12, steps=300, done=9, tokens={"policy": TokenCount(prompt=90, generated=30)})
    rates = later.since(earlier)
    assert (rates.steps_per_s, rates.episodes_per_s) == (100, 2)
    assert (rates.prompt_tokens_per_s, rates.generated_tokens_per_s) == (20, 10)


def test_time_inside_a_nested_station_is_not_the_outer_ones_own() -> None:
    async def main() -> Snapshot:
        telemetry = Telemetry(clock=VirtualClock())
        with telemetry.station("environment").visit():
            await anyio.sleep(1)
            with telemetry.station("experience").visit():
                await anyio.sleep(4)
        return telemetry.snapshot()

    stations = in_virtual_time(main).stations
    assert (stations["environment"].seconds, stations["environment"].own_seconds) == (5, 1)
    assert stations["experience"].own_seconds == 4


def test_who_is_inside_a_station_counts_up_to_now() -> None:
    async def main() -> StationUse:
        telemetry = Telemetry(clock=VirtualClock())
        for _ in range(3):
            telemetry.station("policy").enter()
            await anyio.sleep(1)
        return telemetry.snapshot().stations["policy"]

    use = in_virtual_time(main)
    assert (use.inside, use.visits, use.seconds) == (3, 3, 6)


def test_a_run_is_counted_as_it_happened() -> None:
    tasks = scripted_tasks(5)

    async def main() -> Snapshot:
        async with Simulator(
            environment=ScriptedEnvironment(latency_s=2),
            policy=ScriptedPolicy(latency_s=1),
            tasks=FixedTasks(tasks, repeats=2),
            sink=MemorySink(latency_s=0.5),
            run="counted",
            concurrency=4,
            clock=VirtualClock(),
        ) as simulator:
            async for _ in simulator.episodes():
                pass
            return simulator.telemetry.snapshot()

    snapshot = in_virtual_time(main)
    steps = 2 * sum(len(gold_path(task)) for task in tasks)
    assert (snapshot.admitted, snapshot.done, snapshot.alive_peak, snapshot.concurrency) == (10, 10, 4, 4)
    assert (snapshot.steps, snapshot.steps_by_source, snapshot.sources) == (steps, {"dreamed": steps}, {"dreamed": 10})
    assert snapshot.stations["policy"].seconds == pytest.approx(steps)
    assert snapshot.stations["store"].seconds == pytest.approx(5)
    assert snapshot.bottleneck() == "environment"
    assert snapshot.lag.samples > 100
    assert snapshot.lag.max_s == 0


def test_a_stuck_episode_is_named_with_what_it_awaits() -> None:
    class Library:
        async def never(self) -> None:
            await anyio.sleep_forever()

    async def main() -> tuple[StuckEpisode, ...]:
        telemetry = Telemetry(clock=VirtualClock())
        live = telemetry.admitted("e1", "t1")
        live.station, live.step = "policy", 4
        async with anyio.create_task_group() as group:
            group.start_soon(Library().never, name="episode e1")
            group.start_soon(watch, telemetry, 60)
            await anyio.sleep(90)
            stuck = telemetry.stuck
            group.cancel_scope.cancel()
        return stuck

    (stuck,) = in_virtual_time(main)
    assert (stuck.episode_id, stuck.task_key, stuck.step, stuck.station) == ("e1", "t1", 4, "policy")
    assert "Library.never (test_telemetry.py:" in stuck.awaiting
    assert 60 <= stuck.seconds <= 90


def test_episodes_that_move_are_not_stuck() -> None:
    async def main() -> tuple[StuckEpisode, ...]:
        telemetry = Telemetry(clock=VirtualClock())
        telemetry.admitted("e1", "t1")
        await anyio.sleep(1)
        return find_stuck(telemetry, 60)

    assert in_virtual_time(main) == ()


def test_memory_is_told_in_mib() -> None:
    assert 10 < resident_mib() < 100_000


class FixedEngine(Engine):
    """Answers three tokens after a second."""

    name = "fixed"
    version = "1"
    max_model_len = 100

    async def generate(self, request: GenerationRequest) -> Completion:
        await anyio.sleep(1)
        return Completion(
            token_ids=np.arange(3, dtype=np.int32),
            logprobs=np.zeros(3, dtype=np.float32),
            finish_reason="stop",
            prompt_tokens=len(request.prompt_token_ids),
            cached_tokens=2,
        )


def test_a_measured_engine_counts_tokens_by_role_and_time_of_nested_roles() -> None:
    async def main() -> Snapshot:
        telemetry = Telemetry(clock=VirtualClock())
        engine = MeasuredEngine(FixedEngine(), telemetry)
        assert (engine.name, engine.version, engine.max_model_len) == ("fixed", "1", 100)
        for role in ("policy", "experience", "experience"):
            await engine.generate(
                GenerationRequest(
                    request_id=role,
                    prompt_token_ids=np.zeros(4, dtype=np.int32),
                    sampling=Sampling(max_tokens=3),
                    seed=0,
                    role=role,
                )
            )
        return telemetry.snapshot()

    snapshot = in_virtual_time(main)
    assert snapshot.tokens["experience"] == TokenCount(requests=2, prompt=8, generated=6, cached=4)
    assert snapshot.tokens["policy"].cached_share == 0.5
    assert {name: use.seconds for name, use in snapshot.stations.items()} == {"experience": 2}


def test_a_measured_retriever_takes_the_time_of_a_search() -> None:
    class Nothing(Retriever):
        async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
            await anyio.sleep(2)
            return ()

    async def main() -> Sequence[float]:
        telemetry = Telemetry(clock=VirtualClock())
        await MeasuredRetriever(Nothing(), telemetry).retrieve(ExperienceQuery(state=(), action="x", k=1))
        return [use.seconds for use in telemetry.snapshot().stations.values()]

    assert in_virtual_time(main) == [2]
