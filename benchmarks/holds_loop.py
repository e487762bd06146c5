"""Thousands of episodes on a scripted engine: what the simulator itself costs, and whether it holds.

In: sizes, rounds. Out: `episodes_16384_accounted`, `steps_per_s`, `steps_per_s_nostore`, `lag_p99_<size>`,
`episode_kib` and what belongs to them. Always:
- a measurement runs in a process of its own, because memory and lag depend on what was there before;
- nothing but the model is left out: prompts, tokenizing, retrieval, parsing, records, the store on disk and its index
  (`benchmarks/replayed.py`); a simulated trainer lays out what it would learn from;
- with an engine that takes no time every turn of the event loop is a step of each episode: its lag says nothing then,
  so lag is measured with latencies of a real run;
- of rates the best round counts (others use the machine, too); all rounds are in the file.

    python -m benchmarks.holds loop --rounds 5
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from anyio import to_thread

from benchmarks.ledger import ROOT
from benchmarks.main_job import numbers
from benchmarks.replayed import Latency, Replay, ReplayEngine, script_of
from dreamsim.agents.language_model import LanguageModelPolicy
from dreamsim.cli.models import experience_settings, policy_settings, prepare
from dreamsim.cli.tasks import SHIPPED_EXPERIENCES
from dreamsim.evaluation.intervals import Estimate, proportion
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.model import ExperienceModel
from dreamsim.flow.batches import trajectory
from dreamsim.flow.groups import unusable
from dreamsim.protocols import Assignment
from dreamsim.records.episode import Episode
from dreamsim.records.quality import EVERYTHING
from dreamsim.runtime.config import Settings
from dreamsim.runtime.memory import rare_collections, resident_mib
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.simulator import Simulator
from dreamsim.store.jsonl import import_jsonl, read_jsonl
from dreamsim.store.store import Store, open_store

HELD_AT = 8
RUN = "holds"
STEPS = 20
LEARNED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One measurement."""

    alive: int
    """Episodes at once."""
    episodes: int
    """Episodes in all."""
    store: bool = True
    """Whether they are stored and indexed."""
    latency: float | None = None
    """Of the engine, times what a real run had; None is no time at all."""
    fault: float = 0.0
    """Share of the requests that fail."""
    hold: bool = False
    """Stop every episode at step `HELD_AT`, or at its last one, look at the memory, and take the time of leaving."""
    train: bool = False
    """Whether every episode is laid out for a trainer, `LEARNED` at a time, off the event loop."""
    uvloop: bool = True
    """On uvloop, as runs are."""
    profile: str | None = None
    """Where cProfile writes what it saw."""


class Fixed:
    """A task source that gives what it is given."""

    def __init__(self, given: Sequence[Assignment]) -> None:
        self._given = given

    async def assignments(self) -> AsyncIterator[Assignment]:
        """All of them."""
        for one in self._given:
            yield one


def prepared(work: Path) -> Replay:
    """The shipped episodes and what the models say in them; kept in `work`, because reading takes seconds."""
    kept = work / "replay.pickle"
    if not kept.is_file():
        settings = Settings()
        policy, experience = prepare(settings.policy, "policy"), prepare(settings.experience, "experience")
        begin = policy_settings(settings.policy, policy).begin_action
        episodes = list(read_jsonl(SHIPPED_EXPERIENCES))
        first = list({one.task.key: one for one in episodes}.values())
        scripts = [script_of(one, policy.tokenizer, experience.tokenizer, begin_action=begin) for one in first]
        bare = [Episode(**{**_fields(one), "transitions": ()}) for one in first]
        kept.write_bytes(pickle.dumps((bare, scripts)))
    bare, scripts = pickle.loads(kept.read_bytes())
    return Replay(bare, scripts, prepare(Settings().experience, "experience").tokenizer)


def _fields(episode: Episode) -> dict[str, Any]:
    return {name: getattr(episode, name) for name in Episode.__dataclass_fields__}


@asynccontextmanager
async def stored(work: Path, place: Path) -> AsyncIterator[Store]:
    """A store on disk with the shipped experiences, indexed, that lets everything be retrieved."""
    template = work / "shipped"
    if not template.is_dir():
        part = work / "shipped.part"
        shutil.rmtree(part, ignore_errors=True)
        async with open_store(part / "store.sqlite", quality=EVERYTHING) as store:
            await import_jsonl(SHIPPED_EXPERIENCES, store)
            await store.flush()
        part.rename(template)
    await to_thread.run_sync(shutil.copytree, template, place)
    async with open_store(place / "store.sqlite", quality=EVERYTHING) as store:
        await store.flush()
        yield store


async def run(case: Case, work: Path) -> dict[str, Any]:
    """Measure `case` in this process."""
    replay = await to_thread.run_sync(prepared, work)
    given, said = replay.assignments(RUN, case.episodes)
    settings, telemetry = Settings(), Telemetry()
    engine = ReplayEngine(
        said,
        latency=None if case.latency is None else Latency.recorded(case.latency),
        fault=case.fault,
        hold_at=HELD_AT if case.hold else None,
    )
    playing, dreaming = prepare(settings.policy, "policy"), prepare(settings.experience, "experience")
    with tempfile.TemporaryDirectory(dir=work) as directory:
        async with AsyncExitStack() as opened:
            store = await opened.enter_async_context(stored(work, Path(directory) / "s")) if case.store else None
            how = experience_settings(settings.experience, dreaming)
            simulator = Simulator(
                environment=DreamEnvironment(ExperienceModel(engine, dreaming.tokenizer, how, store)),
                policy=LanguageModelPolicy(engine, playing.tokenizer, policy_settings(settings.policy, playing)),
                tasks=Fixed(given),
                run=RUN,
                sink=store,
                concurrency=case.alive,
                max_steps=STEPS,
                telemetry=telemetry,
            )
            with rare_collections():  # as `dreamsim run` does
                if case.hold:
                    return await _held(simulator, engine, case)
                return await _through(simulator, engine, store, case)


async def _through(simulator: Simulator, engine: ReplayEngine, store: Store | None, case: Case) -> dict[str, Any]:
    lengths: list[int] = []
    batch: list[Episode] = []
    outcomes: Counter[str] = Counter()
    before = None if store is None else store.statistics()
    begun, cpu = time.perf_counter(), time.process_time()
    async with simulator:
        async for episode in simulator.episodes():
            lengths.append(len(episode.transitions))
            outcomes[episode.error_kind or episode.outcome] += 1
            if case.train:
                batch.append(episode)
            if len(batch) == LEARNED:
                await to_thread.run_sync(_learn, batch)
                batch = []
        played = time.perf_counter() - begun
        if store is not None:
            await store.flush()
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    snapshot = simulator.telemetry.snapshot()
    steps = sum(lengths)
    found: dict[str, Any] = {
        "episodes": len(lengths),
        "outcomes": dict(outcomes),
        "steps": steps,
        "wall_s": wall,
        "played_s": played,
        "steps_per_s": steps / wall,
        "steps_per_cpu_s": steps / cpu,
        "episodes_per_s": len(lengths) / wall,
        "alive_peak": snapshot.alive_peak,
        "lag_p50_ms": snapshot.lag.p50_s * 1e3,
        "lag_p99_ms": snapshot.lag.p99_s * 1e3,
        "lag_max_ms": snapshot.lag.max_s * 1e3,
        "rss_peak_mib": snapshot.rss_peak_mib,
    }
    if engine.overheads:
        p50, p99 = np.percentile(engine.overheads, [50, 99]) * 1e3
        found |= {"overhead_p50_ms": float(p50), "overhead_p99_ms": float(p99)}
    if store is not None and before is not None:
        now = store.statistics()
        ids = await store.finished_ids(RUN)
        found |= {
            "stored": len(ids),
            "indexed": now.indexed,
            "inserts_per_commit_s": (now.steps - before.steps) / max(1e-9, now.commit_s - before.commit_s),
            "inserts_per_s": (now.steps - before.steps) / wall,
            "queue_s_per_episode": now.blocked_s / max(1, now.episodes),
            "commit_s": now.commit_s / max(1, now.commits),
            "commits": now.commits,
            "query_s": now.search_s / max(1, now.queries),
        }
    return found


def _learn(episodes: Sequence[Episode]) -> None:
    for episode in episodes:
        if unusable(episode) is None:
            trajectory(episode)


async def _held(simulator: Simulator, engine: ReplayEngine, case: Case) -> dict[str, Any]:
    async def through() -> None:
        async for _ in simulator.episodes():
            pass

    gc.collect()
    before = resident_mib()
    async with simulator, anyio.create_task_group() as tasks:
        tasks.start_soon(through)
        await engine.held.wait()
        gc.collect()
        kib = (resident_mib() - before) * 1024 / case.alive
        begun = time.perf_counter()
        tasks.cancel_scope.cancel()
    closed = time.perf_counter() - begun
    return {"kib": kib, "token_kib": engine.token_bytes / 1024 / case.alive, "shutdown_s": closed}


def measured(case: Case, work: Path) -> dict[str, Any]:
    """What a fresh process finds for `case`."""
    packages = os.pathsep.join(str(ROOT / part) for part in (".", "adapters", "trainers"))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.holds_loop", json.dumps(asdict(case)), str(work)],
        env={**os.environ, "PYTHONPATH": packages, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{case}: {found}", file=sys.stderr, flush=True)
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m benchmarks.holds loop`."""
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the rates")
    parser.add_argument("--alive", type=int, default=2048, help="episodes at once, of the rates")
    parser.add_argument("--most", type=int, default=16_384, help="episodes at once, of the largest run")
    parser.add_argument("--sizes", type=numbers, default=(256, 1024, 4096, 16_384), help="sizes of the growth curve")
    parser.add_argument("--rates-only", action="store_true", help="measure the rates again, and nothing else")


async def measure(given: argparse.Namespace, settings: Settings) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """All figures."""
    del settings
    work: Path = await to_thread.run_sync(given.work.absolute)
    await to_thread.run_sync(prepared, work)
    return await to_thread.run_sync(_measure, given, work)


def _measure(given: argparse.Namespace, work: Path) -> tuple[dict[str, Estimate], dict[str, Any]]:
    alive: int = given.alive
    figures = _rates(alive, given.rounds, work)
    if given.rates_only:
        return figures, {"alive": alive}
    for size in sorted({alive, given.most}):
        figures |= _paced(size, work)
    for size in given.sizes:
        one = measured(Case(alive=size, episodes=size), work)
        figures[f"growth_steps_per_s.{size}"] = single(one["steps_per_s"], size)
        figures[f"growth_rss_mib.{size}"] = single(one["rss_peak_mib"], size)
    faulty = measured(Case(alive=alive, episodes=2 * alive, fault=0.01), work)
    figures["engine_faults_accounted"] = proportion(faulty["stored"], 2 * alive)
    # Caches and tables are there for one episode as for thousands: what one more costs is the slope.
    few, held = (measured(Case(alive=size, episodes=size, hold=True), work) for size in (alive // 4, alive))
    with_tokens = (held["kib"] * alive - few["kib"] * (alive // 4)) / (alive - alive // 4)
    figures["episode_kib"] = single(with_tokens - held["token_kib"], alive)
    figures["episode_kib_with_tokens"] = single(with_tokens, alive)
    figures["shutdown_s"] = single(held["shutdown_s"], alive)
    return figures, {"alive": alive}


def _rates(alive: int, rounds: int, work: Path) -> dict[str, Estimate]:
    """With an engine that takes no time: stored, not stored, and not stored without uvloop, in turn."""
    cases = {
        "steps_per_s": Case(alive=alive, episodes=2 * alive),
        "steps_per_s_nostore": Case(alive=alive, episodes=2 * alive, store=False),
        "steps_per_s_nostore_asyncio": Case(alive=alive, episodes=2 * alive, store=False, uvloop=False),
    }
    found = [{key: measured(case, work) for key, case in cases.items()} for _ in range(rounds)]
    figures: dict[str, Estimate] = {}
    for key in cases:
        figures[key] = best([one[key]["steps_per_s"] for one in found])
        figures[key.replace("per_s", "per_cpu_s")] = best([one[key]["steps_per_cpu_s"] for one in found])
    figures["store_inserts_per_s"] = best([one["steps_per_s"]["inserts_per_s"] for one in found])
    return figures


def _paced(alive: int, work: Path) -> dict[str, Estimate]:
    """With the latencies of a real run, everything stored and indexed."""
    one = measured(Case(alive=alive, episodes=alive, latency=1.0, train=True), work)
    figures = {f"episodes_{alive}_accounted": proportion(one["stored"], alive)}
    for key, found in (
        ("lag_p50", "lag_p50_ms"),
        ("lag_p99", "lag_p99_ms"),
        ("overhead_p50_ms", "overhead_p50_ms"),
        ("overhead_p99_ms", "overhead_p99_ms"),
        ("store_queue_s", "queue_s_per_episode"),
        ("store_commit_s", "commit_s"),
    ):
        figures[f"{key}_{alive}"] = single(one[found], one["episodes"])
    return figures


def best(values: Sequence[float]) -> Estimate:
    """The best round, and the range of all."""
    return Estimate(value=max(values), low=min(values), high=max(values), n=len(values))


def single(value: float, n: int) -> Estimate:
    """A value that was measured once."""
    return Estimate(value=value, low=None, high=None, n=n)


def main() -> None:
    """Measure one case, given as JSON, and print what was found as JSON."""
    told: Mapping[str, Any] = json.loads(sys.argv[1])
    case = Case(**told)
    anyio.run(_profiled, case, Path(sys.argv[2]), backend_options={"use_uvloop": case.uvloop})


async def _profiled(case: Case, work: Path) -> None:
    if case.profile is None:
        found = await run(case, work)
    else:
        import cProfile

        profile = cProfile.Profile(time.process_time)
        profile.enable()
        found = await run(case, work)
        profile.disable()
        profile.dump_stats(case.profile)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
