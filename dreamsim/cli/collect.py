"""`dreamsim collect`: real episodes by policies that need no model, or by one's own, as experience to dream from.

In: games, fold, policies. Out: a store, and JSONL if asked for. Always: going on with the same store and name plays
only what is missing; stopped by Ctrl-C or SIGTERM, everything finished is stored.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from dreamsim.agents.language_model import LanguageModelPolicy
from dreamsim.cli import exits
from dreamsim.cli.arguments import Parser
from dreamsim.cli.engines import opening
from dreamsim.cli.figures import percent
from dreamsim.cli.interrupts import Interrupts
from dreamsim.cli.models import policy_settings, prepare
from dreamsim.errors import DreamsimError, MissingExtraError, UsageError
from dreamsim.protocols import EpisodeSink, Policy
from dreamsim.records.episode import Episode
from dreamsim.runtime.config import PolicySection, Settings
from dreamsim.store.jsonl import export_jsonl
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import Store, open_store

if TYPE_CHECKING:
    from dreamsim_adapters.environments.collecting import Collection, CollectReport

LINE_EVERY = 500
"""Episodes between two lines of progress."""
ENVIRONMENTS = ("textworld_express", "alfworld")
"""Environments that can be collected from."""


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    made = Parser(
        prog="dreamsim collect",
        description="Plays real games with offline policies and stores the annotated episodes.",
        epilog="Example: dreamsim collect --store real.sqlite --tasks 300 --jsonl real.jsonl.xz",
    )
    made.add_argument("--store", required=True, metavar="FILE", help="where episodes go; made if it is not there")
    made.add_argument("--name", default="collect", help="name of the collection (default: collect)")
    made.add_argument("--environment", choices=ENVIRONMENTS, default=ENVIRONMENTS[0], help="default: textworld_express")
    made.add_argument(
        "--game", action="append", metavar="GAME[:NAME=N,...]", help="a game or task type; may be given several times"
    )
    made.add_argument("--fold", choices=("train", "dev", "test"), default="train", help="whose tasks (default: train)")
    made.add_argument("--tasks", type=int, help="number of tasks, all games together (default: 100; alfworld: all)")
    made.add_argument("--first", type=int, default=0, help="first seed or task within the fold (default 0)")
    made.add_argument(
        "--policy",
        action="append",
        help="gold, random, mixed, mistaken, restless; alfworld: expert (default: all these); careless (elsewhere); "
        "model: a language model",
    )
    made.add_argument(
        "--policy-model", metavar="MODEL", help="who plays as `--policy model` (default: the policy in the package)"
    )
    made.add_argument("--repeats", type=int, default=1, help="episodes per policy and task (default 1)")
    made.add_argument("--max-steps", type=int, help="longest episode (default: the game's)")
    made.add_argument("--seed", type=int, default=0, help="seed of the policies (default 0)")
    made.add_argument("--concurrency", type=int, help="episodes at once (default 64; alfworld: 16)")
    made.add_argument("--evaluation", action="store_true", help="for evaluation: never retrieved or learned from")
    made.add_argument("--jsonl", metavar="FILE", help="afterwards write the collection as JSONL (.gz, .xz)")
    return made


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    given = parser().parse_args(arguments)
    return anyio.run(_collect, Path(given.store).absolute(), given, settings_of(given))


def settings_of(given: argparse.Namespace) -> Collection:
    """What to collect.

    Raises:
        UsageError: a value is wrong, or the environment is not installed.
    """
    settings = _of_alfworld(given) if given.environment == "alfworld" else _of_textworld_express(given)
    settings = replace(
        settings,
        run=given.name,
        fold=given.fold,
        first=given.first,
        repeats=given.repeats,
        seed=given.seed,
        purpose="evaluation" if given.evaluation else "experience",
        policies=tuple(given.policy or settings.policies),
    )
    chosen = {"tasks": given.tasks, "max_steps": given.max_steps, "concurrency": given.concurrency}
    return replace(settings, **{name: value for name, value in chosen.items() if value is not None})


def _of_textworld_express(given: argparse.Namespace) -> Collection:
    try:
        from dreamsim_adapters.environments.textworld_express.collect import CollectSettings
        from dreamsim_adapters.environments.textworld_express.games import GameSpec
    except ImportError as error:
        raise MissingExtraError(
            error.name or "textworld-express", extra="textworld-express", purpose="dreamsim collect"
        ) from error
    if not given.game:
        return CollectSettings()
    return CollectSettings(mix=tuple(GameSpec.parse(text) for text in given.game))


def _of_alfworld(given: argparse.Namespace) -> Collection:
    from dreamsim_adapters.environments.alfworld.collect import AlfworldCollection

    return AlfworldCollection(types=tuple(given.game)) if given.game else AlfworldCollection()


@asynccontextmanager
async def _model(given: argparse.Namespace, settings: Collection, logs: Path) -> AsyncIterator[Policy | None]:
    """Who plays as `model`, if anybody does; its engine is stopped on leaving."""
    from dreamsim_adapters.environments.collecting import MODEL

    if MODEL not in settings.policies:
        yield None
        return
    wanted = Settings() if given.policy_model is None else Settings(policy=PolicySection(model=given.policy_model))
    ready = await to_thread.run_sync(prepare, wanted.policy, "policy")
    async with await opening(wanted, "policy", {"policy": ready.tokenizer}, logs) as engine:
        yield LanguageModelPolicy(engine, ready.tokenizer, policy_settings(wanted.policy, ready))


async def _collected(
    settings: Collection,
    sink: EpisodeSink,
    finished: Container[str],
    model: Policy | None,
    progress: Callable[[CollectReport], None],
) -> CollectReport:
    from dreamsim_adapters.environments.alfworld.collect import AlfworldCollection

    if isinstance(settings, AlfworldCollection):
        from dreamsim_adapters.environments.alfworld.collect import collect as collect_alfworld

        return await collect_alfworld(settings, sink, finished=finished, model=model, progress=progress)
    from dreamsim_adapters.environments.textworld_express.collect import CollectSettings, collect

    assert isinstance(settings, CollectSettings), "made above"
    return await collect(settings, sink, finished=finished, model=model, progress=progress)


async def _collect(where: Path, given: argparse.Namespace, settings: Collection) -> int:
    interrupts = Interrupts()
    report: CollectReport | None = None
    refused: UsageError | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(interrupts.listen)
        try:
            with interrupts.setting_up():
                async with open_store(where, encoder=None) as store, _model(given, settings, where.parent) as model:
                    finished = await store.finished_ids(settings.run)
                    report = await _collected(settings, _Kept(store, interrupts), finished, model, _progress)
        except DreamsimError as error:  # not through the task group, which would wrap it
            refused = error if isinstance(error, UsageError) else UsageError(str(error))
        tasks.cancel_scope.cancel()
    if refused is not None:
        raise refused
    if report is None:
        print("stopped; what was finished is stored, the same command goes on")
        return exits.INTERRUPTED
    print(describe(report))
    if given.jsonl is not None:
        async with open_store(where, encoder=None, read_only=True) as store:
            written = await export_jsonl(Path(given.jsonl), store.episodes(EpisodeFilter(run=settings.run)))
        print(f"{given.jsonl}: {written.episodes:,} episodes with {written.steps:,} steps")
    return exits.FAILED if report.errors else exits.DONE


class _Kept:
    """The store, without the episodes that a stop cut off: they are played again when going on."""

    def __init__(self, store: Store, interrupts: Interrupts) -> None:
        self._store = store
        self._interrupts = interrupts

    async def add(self, episode: Episode) -> None:
        if not (self._interrupts.requested and episode.error_kind is not None):
            await self._store.add(episode)


def _progress(report: CollectReport) -> None:
    if report.total % LINE_EVERY == 0:
        print(f"{report.total:,} episodes, {report.steps:,} steps, {report.steps_per_second:,.0f} steps/s", flush=True)


def describe(report: CollectReport) -> str:
    """What the verb prints at the end."""
    speed = f"{report.seconds:.1f} s ({report.steps_per_second:,.0f} steps/s)"
    lines = [f"{report.total:,} real episodes with {report.steps:,} steps in {speed}, {report.skipped:,} before"]
    policies = sorted({policy for policy, _, _ in report.episodes})
    lines += [f"  {policy:<10}success {percent(report.success(policy))}" for policy in policies]
    if report.errors:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in report.errors.items())
        lines.append(f"  failed    {kinds}; {report.workers_lost} worker processes lost")
    return "\n".join(lines)
