"""What the rollout loop itself costs: a scripted environment and policy, no engine, no store.

    python benchmarks/loop.py --output benchmarks/results/loop.json

In: how many episodes at once. Out: JSON with
- `steps_per_s`: nothing ever waits, so the loop is the only limit (median of the rounds, lowest, highest);
- `steps_per_cpu_s`: the same by processor time, which a busy machine does not spoil;
- `own_us_per_step`: processor time per step of the same rounds, less what environment and policy take alone;
- `lag_p50_ms`, `lag_p99_ms`, `lag_max_ms`: how late the event loop is while every episode is alive and steps take as
  long as an engine would make them (about `--paced` steps per second together); while nothing waits at all, a turn of
  the loop is a step of every episode, so that its lag only says how many there are (`lag_saturated_p99_ms`);
- `kib_per_live_episode`: resident memory per episode that has taken `HELD_AT` steps and waits, for the loop, the
  scripted world and the kept transitions together; tasks are not counted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from dreamsim.flow.source import CyclingTasks
from dreamsim.protocols import EpisodeSession
from dreamsim.records.episode import Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.memory import resident_mib
from dreamsim.runtime.snapshot import Snapshot
from dreamsim.simulator import Simulator
from dreamsim.testing import RandomPolicy, ScriptedEnvironment, scripted_tasks

STEPS = 20
HELD_AT = 10
TASKS = 256


class Held:
    """A scripted environment in which every episode stops after `HELD_AT` steps, until it is released."""

    name = "held-1"
    source: Source = "dreamed"

    def __init__(self, expected: int) -> None:
        self.full = anyio.Event()
        self.release = anyio.Event()
        self._inner = ScriptedEnvironment()
        self._missing = expected

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        """Begin an episode."""
        async with self._inner.session(task, episode_id=episode_id, seed=seed) as session:
            yield _HeldSession(self, session)

    async def hold(self) -> None:
        """Wait here."""
        self._missing -= 1
        if self._missing == 0:
            self.full.set()
        await self.release.wait()


class _HeldSession:
    __slots__ = ("_held", "_session", "_steps")

    def __init__(self, held: Held, session: EpisodeSession) -> None:
        self._held = held
        self._session = session
        self._steps = 0

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def admissible(self) -> tuple[str, ...]:
        return self._session.admissible

    async def step(self, action: str) -> Transition:
        if self._steps == HELD_AT:
            await self._held.hold()
        self._steps += 1
        return await self._session.step(action)


def _endless(count: int) -> tuple[Task, ...]:
    """Tasks that `Wanderer` never solves, so that every episode has all its steps."""
    return scripted_tasks(count, rooms=6, objects=4)


class Wanderer(RandomPolicy):
    """Walks, opens and closes, but takes nothing."""

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Any:
        """Someone who wanders."""
        return _Walk(super().actor(task, episode_id=episode_id, seed=seed))


class _Walk:
    __slots__ = ("_dice",)

    def __init__(self, dice: Any) -> None:
        self._dice = dice

    async def act(self, state: State, admissible: Sequence[str]) -> Any:
        ways = [action for action in admissible if action.startswith(("go", "open", "close"))]
        return await self._dice.act(state, ways)


async def _run(environment: Any, *, episodes: int, concurrency: int) -> Snapshot:
    async with Simulator(
        environment=environment,
        policy=Wanderer(),
        tasks=CyclingTasks(_endless(TASKS), episodes=episodes),
        run="loop",
        concurrency=concurrency,
        max_steps=STEPS,
    ) as simulator:
        async for _ in simulator.episodes():
            pass
        return simulator.telemetry.snapshot()


async def _alone(steps: int) -> float:
    """Processor time per step of environment and policy without the loop, seconds."""
    tasks, policy, environment = _endless(TASKS), Wanderer(), ScriptedEnvironment()
    begun, taken = time.process_time(), 0
    while taken < steps:
        task = tasks[taken // STEPS % TASKS]
        async with environment.session(task, episode_id="x", seed=taken) as session:
            actor = policy.actor(task, episode_id="x", seed=taken)
            for _ in range(STEPS):
                await session.step((await actor.act(session.state, session.admissible)).action)
                taken += 1
    return (time.process_time() - begun) / taken


async def _saturated(rounds: int, concurrency: int) -> dict[str, Any]:
    rates, by_cpu, own, lags = [], [], [], []
    alone = await _alone(20_000)
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        snapshot = await _run(ScriptedEnvironment(), episodes=2 * concurrency, concurrency=concurrency)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rates.append(snapshot.steps / wall)
        by_cpu.append(snapshot.steps / cpu)
        own.append((cpu / snapshot.steps - alone) * 1e6)
        lags.append(snapshot.lag.p99_s * 1e3)
    return {
        "steps_per_s": _spread(rates),
        "steps_per_cpu_s": _spread(by_cpu),
        "own_us_per_step": _spread(own),
        "lag_saturated_p99_ms": _spread(lags),
    }


async def _paced(concurrency: int, steps_per_s: float) -> dict[str, Any]:
    latency = concurrency / steps_per_s
    snapshot = await _run(ScriptedEnvironment(latency_s=latency), episodes=concurrency, concurrency=concurrency)
    return {
        "paced_steps_per_s": round(snapshot.steps_per_s, 1),
        "alive_peak": snapshot.alive_peak,
        "lag_p50_ms": round(snapshot.lag.p50_s * 1e3, 3),
        "lag_p99_ms": round(snapshot.lag.p99_s * 1e3, 3),
        "lag_max_ms": round(snapshot.lag.max_s * 1e3, 3),
        "lag_samples": snapshot.lag.samples,
    }


async def _memory(concurrency: int) -> dict[str, Any]:
    """Needs a process that has not grown yet, so it is measured first."""
    await _run(ScriptedEnvironment(), episodes=32, concurrency=32)  # imports and caches are nobody's
    tasks = CyclingTasks(_endless(TASKS), episodes=concurrency)
    gc.collect()
    before, held = resident_mib(), Held(concurrency)
    async with Simulator(
        environment=held, policy=Wanderer(), tasks=tasks, run="loop", concurrency=concurrency, max_steps=STEPS
    ) as simulator:
        stream = simulator.episodes()
        await held.full.wait()
        gc.collect()
        kib = (resident_mib() - before) * 1024 / concurrency
        await stream.aclose()
    return {"kib_per_live_episode": round(kib, 2)}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "value": round(statistics.median(values), 1),
        "low": round(min(values), 1),
        "high": round(max(values), 1),
        "n": len(values),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="What the rollout loop itself costs.")
    parser.add_argument("--concurrency", type=int, default=2048, help="episodes at once")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the saturated measurement")
    parser.add_argument("--paced", type=float, default=500.0, help="steps per second of the paced measurement")
    parser.add_argument("--uvloop", action="store_true", help="on uvloop instead of asyncio's own loop")
    parser.add_argument("--output", type=Path, help="write the JSON here too")
    given = parser.parse_args()

    async def measure() -> dict[str, Any]:
        return {
            "concurrency": given.concurrency,
            "loop": "uvloop" if given.uvloop else "asyncio",
            **await _memory(given.concurrency),
            **await _saturated(given.rounds, given.concurrency),
            **await _paced(given.concurrency, given.paced),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "load_before": round(load, 2),
        }

    load = os.getloadavg()[0]
    text = json.dumps(anyio.run(measure, backend_options={"use_uvloop": given.uvloop}), indent=1) + "\n"
    print(text, end="")
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
