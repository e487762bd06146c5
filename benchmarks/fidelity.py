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
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio

from dreamsim.cli.engines import model_source, tokenizer_source
from dreamsim.cli.models import Prepared, experience_settings, frame_of, trained_with
from dreamsim.cli.tasks import experience_file
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.engines.vllm_local import VllmEngine, open_vllm_engine
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.evaluation.fidelity import DreamForeteller, Foreteller, NearestNeighbour, StepRecord, foretell
from dreamsim.evaluation.intervals import Estimate
from dreamsim.evaluation.report import FidelityReport, fidelity_report
from dreamsim.experience.model import ExperienceModel
from dreamsim.records.episode import Episode
from dreamsim.runtime.config import Settings
from dreamsim.store.jsonl import import_jsonl
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import Store, open_store

POLICIES = ("gold", "random", "mixed", "mistaken")
GAMES = 3
KEYS = ("parse_first", "parse_resampled", "determined_exact", "done_f1", "success_f1", "failure_shown")
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


@asynccontextmanager
async def experiences(settings: Settings, work: Path) -> AsyncIterator[Store]:
    """A store of the real experiences that the settings name."""
    path = experience_file(settings)
    if path is None:
        raise SystemExit("store.experiences is none: there is nothing to retrieve from or to compare with")
    stat = await anyio.Path(path).stat()
    name = f"experiences-{path.name.partition('.')[0]}-{stat.st_size}.sqlite"
    async with open_store(work / name, encoder=settings.store.encoder) as store:
        await import_jsonl(path, store)
        await store.flush()
        yield store


@asynccontextmanager
async def experience_engine(settings: Settings, log: Path) -> AsyncIterator[VllmEngine]:
    """The experience model's engine, alone."""
    general, own = settings.vllm, settings.experience.vllm
    wanted = VllmSettings(
        model=model_source(settings.experience, "experience"),
        dtype=own.dtype or general.dtype,
        max_model_len=own.max_model_len or general.max_model_len,
        max_num_seqs=own.max_num_seqs or general.max_num_seqs,
        max_num_batched_tokens=own.max_num_batched_tokens or general.max_num_batched_tokens,
        kv_cache_gib=own.kv_cache_gib or general.kv_cache_gib,
        seeded=True,
    )
    async with open_vllm_engine(wanted, log_path=log) as engine:
        yield engine


def prepared(settings: Settings) -> Prepared:
    """Tokenizer and prompt frame of the experience model."""
    source = tokenizer_source(settings.experience, "experience")
    trained = trained_with(Path(source))
    frame = frame_of(settings.experience, "experience", source, trained)
    return Prepared(tokenizer=load_tokenizer(source), frame=frame, trained=trained)


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
        ready = await anyio.to_thread.run_sync(prepared, settings)
        async with experience_engine(settings, work / "vllm-fidelity.log") as engine:
            how = experience_settings(settings.experience, ready)
            model = ExperienceModel(engine, ready.tokenizer, how, store)
            await of(DreamForeteller(model, seed=seeds[0]), "")
    return figures


def named(report: FidelityReport, prefix: str) -> dict[str, Estimate]:
    """The report's figures by key; details with a dot."""
    keys = [key for key in (*KEYS, *ALSO) if not (prefix and key in ("parse_first", "parse_resampled", "determined"))]
    figures: dict[str, Estimate] = {prefix + key: getattr(report, key) for key in keys}
    for name, estimate in report.exact_by_verb.items():
        figures[f"{prefix}determined_exact.{name}"] = estimate
    for name, estimate in report.exact_by_environment.items():
        figures[f"{prefix}determined_exact.{name}"] = estimate
    return figures


def write_records(path: Path, records: Sequence[StepRecord]) -> None:
    """One JSON object a line, for looking at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n")
