"""Same seed, same records: whatever runs beside an episode, and however long its steps take."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.flow.source import CyclingTasks
from dreamsim.runtime.clock import VirtualClock
from dreamsim.simulator import Simulator
from dreamsim.testing import (
    FaultSchedule,
    FaultyEnvironment,
    MemorySink,
    RandomPolicy,
    ScriptedEnvironment,
    scripted_tasks,
)
from tests.flow.runs import in_virtual_time, record

TASKS = scripted_tasks(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the same episodes are interleaved."""

    concurrency: int
    latency_s: float
    store_s: float


WAYS = st.builds(
    Way,
    concurrency=st.integers(1, 30),
    latency_s=st.sampled_from([0.0, 0.1, 3.0]),
    store_s=st.sampled_from([0.0, 1.0]),
)


async def _records(seed: int, way: Way) -> dict[str, object]:
    sink = MemorySink(latency_s=way.store_s)
    schedule = FaultSchedule(seed, {"error": 0.02, "bug": 0.02, "group": 0.02})
    async with Simulator(
        environment=FaultyEnvironment(ScriptedEnvironment(latency_s=way.latency_s), schedule),
        policy=RandomPolicy(),
        tasks=CyclingTasks(TASKS, episodes=25),
        sink=sink,
        run="same",
        concurrency=way.concurrency,
        max_steps=8,
        seed=seed,
        clock=VirtualClock(),
    ) as simulator:
        async for _ in simulator.episodes():
            pass
    return {id: record(episode) for id, episode in sink.episodes.items()}


@settings(max_examples=40)
@given(st.integers(0, 1000), WAYS, WAYS)
def test_the_same_seed_gives_the_same_records(seed: int, one: Way, other: Way) -> None:
    assert in_virtual_time(lambda: _records(seed, one)) == in_virtual_time(lambda: _records(seed, other))


def test_another_seed_gives_other_records() -> None:
    way = Way(concurrency=5, latency_s=0.0, store_s=0.0)
    assert in_virtual_time(lambda: _records(1, way)) != in_virtual_time(lambda: _records(2, way))


def test_repeats_of_a_task_differ() -> None:
    async def play() -> set[tuple[str, ...]]:
        async with Simulator(
            environment=ScriptedEnvironment(),
            policy=RandomPolicy(),
            tasks=CyclingTasks(TASKS[:1], episodes=4),
            run="same",
        ) as simulator:
            return {tuple(t.action for t in episode.transitions) async for episode in simulator.episodes()}

    assert len(in_virtual_time(play)) == 4
