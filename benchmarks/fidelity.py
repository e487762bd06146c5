"""Fidelity of an experience model on held-out real episodes, and that of the nearest neighbour beside it.

In: settings as `python -m dreamsim.run` takes them, seeds. Out: the fidelity figures of the ledger.
Always:
- the episodes are of the package's test fold, in equal parts by the policies gold, random, mixed and mistaken; every
  game of every part has a seed of its own;
- what is retrieved comes from the train fold; collected episodes are kept in the work directory, so that a second
  command with another model or retrieval looks at the same ones.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from benchmarks.roles import experiences, one_engine
from dreamsim.cli.models import experience_settings, prepare
from dreamsim.evaluation.fidelity import DreamForeteller, Foreteller, NearestNeighbour, StepRecord, foretell
from dreamsim.evaluation.intervals import Estimate
from dreamsim.evaluation.report import FidelityReport, fidelity_report
from dreamsim.experience.model import ExperienceModel
from dreamsim.records.episode import Episode
from dreamsim.runtime.config import Settings
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import open_store

POLICIES = ("gold", "random", "mixed", "mistaken")
GAMES = 3
KEYS = ("parse_first", "parse_resampled", "determined_exact", "done_f1", "success_f1", "failure_shown")
OFTEN = 20
"""Steps of a verb from which on it has a figure of its own."""
ALSO = ("exact", "false_failure", "determined")


async def held_out(path: Path, seed: int, episodes: int) -> list[Episode]:
    """`episodes` real episodes for a seed, from the store at `path` or collected now."""
    from dreamsim_adapters.environments.textworld_express.collect import CollectSettings, collect
    from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment

    part, rest = divmod(episodes, len(POLICIES) * GAMES)
    if rest or not part:
        raise SystemExit(f"episodes per seed must be a multiple of {len(POLICIES) * GAMES}, not {episodes}")
    found: list[Episode] = []
    async with open_store(path, encoder=None) as store, AsyncExitStack() as opened:
        environment: TextWorldExpressEnvironment | None = None
        for number, policy in enumerate(POLICIES):
            settings = CollectSettings(
                run=f"held-out-{seed}-{policy}-{episodes}",
                fold="test",
                tasks=part * GAMES,
                first=(seed * len(POLICIES) + number) * part,
                policies=(policy,),
                seed=seed,
                purpose="evaluation",
            )
            finished = await store.finished_ids(settings.run)
            if len(finished) < settings.tasks:
                if environment is None:
                    environment = await opened.enter_async_context(TextWorldExpressEnvironment())
                await collect(settings, store, finished=finished, environment=environment)
                await store.flush()
            found += [episode async for episode in store.episodes(EpisodeFilter(run=settings.run))]
    return sorted(found, key=lambda episode: episode.id)


async def measure(
    settings: Settings,
    work: Path,
    *,
    seeds: Sequence[int],
    episodes: int,
    baseline: bool,
    dump: Path | None,
) -> dict[str, Estimate]:
    """The figures, by their keys."""
    from dreamsim_adapters.environments.textworld_express.determined import determined

    looked_at = [episode for seed in seeds for episode in await held_out(work / "held-out.sqlite", seed, episodes)]
    figures: dict[str, Estimate] = {}
    async with experiences(settings, work) as store:

        async def of(foreteller: Foreteller, prefix: str) -> None:
            records = await foretell(looked_at, foreteller, determined=determined, concurrency=512)
            if dump is not None:
                write_records(dump.with_name(f"{prefix}{dump.name}"), records)
            figures.update(named(fidelity_report(records), prefix))

        if baseline:
            await of(NearestNeighbour(store, same_environment=settings.experience.same_environment), "knn_")
        ready = await anyio.to_thread.run_sync(prepare, settings.experience, "experience")
        async with one_engine(settings, "experience", work / "vllm-fidelity.log", seeded=False) as engine:
            how = experience_settings(settings.experience, ready)
            model = ExperienceModel(engine, ready.tokenizer, how, store)
            await of(DreamForeteller(model, seed=seeds[0]), "")
    return figures


def named(report: FidelityReport, prefix: str) -> dict[str, Estimate]:
    """The report's figures by key; details with a dot."""
    keys = [key for key in (*KEYS, *ALSO) if not (prefix and key in ("parse_first", "parse_resampled", "determined"))]
    figures: dict[str, Estimate] = {prefix + key: getattr(report, key) for key in keys}
    often = {name: estimate for name, estimate in report.exact_by_verb.items() if estimate.n >= OFTEN}
    for name, estimate in often.items():
        figures[f"{prefix}determined_exact.{name}"] = estimate
    for name, estimate in report.exact_by_environment.items():
        figures[f"{prefix}determined_exact.{name.rpartition('/')[2]}"] = estimate
    return figures


def write_records(path: Path, records: Sequence[StepRecord]) -> None:
    """One JSON object a line, for looking at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n")
