"""Every assignment that was taken ends in exactly one stored episode, whatever goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.runtime.snapshot import Snapshot
from dreamsim.simulator import Simulator
from dreamsim.testing import (
    FAULTS,
    FaultSchedule,
    FaultyEnvironment,
    FaultyPolicy,
    MemorySink,
    RandomPolicy,
    ScriptedEnvironment,
    scripted_tasks,
)
from tests.flow.runs import RUN, RememberedTasks, in_virtual_time

TASKS = scripted_tasks(7)
Ending = Literal["exhaust", "break", "stop", "cancel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run: how much, how badly and how it is ended."""

    seed: int
    episodes: int
    concurrency: int
    buffer: int
    fault_rate: float
    latency_s: float
    store_s: float
    consume_s: float
    ending: Ending
    after: int
    drain_s: float


PLANS = st.builds(
    Plan,
    seed=st.integers(0, 10_000),
    episodes=st.integers(0, 60),
    concurrency=st.integers(1, 20),
    buffer=st.integers(1, 8),
    fault_rate=st.sampled_from([0.0, 0.01, 0.05]),
    latency_s=st.sampled_from([0.0, 0.1, 2.0]),
    store_s=st.sampled_from([0.0, 0.3]),
    consume_s=st.sampled_from([0.0, 0.5]),
    ending=st.sampled_from(["exhaust", "break", "stop", "cancel"]),
    after=st.integers(0, 40),
    drain_s=st.sampled_from([0.0, 1.0, 30.0]),
)


class Run:
    """A run of a plan, and what came of it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.source = RememberedTasks(TASKS, episodes=plan.episodes)
        self.sink = MemorySink(latency_s=plan.store_s)
        self.delivered: list[str] = []
        schedule = FaultSchedule(plan.seed, dict.fromkeys(FAULTS, plan.fault_rate))
        environment = ScriptedEnvironment(latency_s=plan.latency_s)
        self.simulator = Simulator(
            environment=FaultyEnvironment(environment, schedule),
            policy=FaultyPolicy(RandomPolicy(), schedule),
            tasks=self.source,
            sink=self.sink,
            run=RUN,
            concurrency=plan.concurrency,
            buffer=plan.buffer,
            max_steps=8,
            seed=plan.seed,
            episode_seconds=60.0,
        )

    async def play(self) -> None:
        """Run to the planned end."""
        with anyio.CancelScope() as scope:
            async with self.simulator as simulator:
                async for episode in simulator.episodes():
                    self.delivered.append(episode.id)
                    await anyio.sleep(self.plan.consume_s)
                    if len(self.delivered) == self.plan.after + 1:
                        if self.plan.ending == "break":
                            break
                        if self.plan.ending == "stop":
                            await simulator.stop(drain_seconds=self.plan.drain_s)
                        if self.plan.ending == "cancel":
                            scope.cancel()


@settings(max_examples=150)
@given(PLANS)
def test_every_assignment_ends_in_exactly_one_stored_episode(plan: Plan) -> None:
    run = Run(plan)
    in_virtual_time(run.play)
    assert sorted(run.sink.added) == sorted(run.source.given_ids)
    assert set(run.sink.added.values()) <= {1}


@settings(max_examples=50)
@given(PLANS)
def test_every_episode_is_delivered_once_and_only_if_it_is_stored(plan: Plan) -> None:
    run = Run(plan)
    in_virtual_time(run.play)
    assert len(set(run.delivered)) == len(run.delivered)
    assert set(run.delivered) <= set(run.sink.episodes)
    if plan.ending in ("exhaust", "stop"):
        assert set(run.delivered) == set(run.sink.episodes)


@settings(max_examples=50)
@given(PLANS)
def test_what_telemetry_counts_is_what_is_stored(plan: Plan) -> None:
    run = Run(plan)
    snapshot = in_virtual_time(lambda: _play_and_look(run))
    assert snapshot.admitted == snapshot.done == len(run.sink.episodes)
    assert (snapshot.alive, snapshot.storing) == (0, 0)
    assert sum(snapshot.failures.values()) == snapshot.outcomes.get("error", 0)
    assert snapshot.steps == sum(len(episode.transitions) for episode in run.sink.episodes.values())


@pytest.mark.parametrize("ending", ["exhaust", "break", "stop", "cancel"])
def test_a_run_without_tasks_ends(ending: Ending) -> None:
    plan = Plan(
        seed=0,
        episodes=0,
        concurrency=3,
        buffer=1,
        fault_rate=0,
        latency_s=0,
        store_s=0,
        consume_s=0,
        ending=ending,
        after=0,
        drain_s=0,
    )
    run = Run(plan)
    in_virtual_time(run.play)
    assert run.sink.episodes == {}


async def _play_and_look(run: Run) -> Snapshot:
    await run.play()
    return run.simulator.telemetry.snapshot()
