"""`dreamsim evaluate`: how well a policy plays games that nobody learned from, in reality or in a dream.

In: a policy, an environment, games of a fold. Out: a table with 95 % intervals, JSON if asked for, episodes in a store.
Always: episodes are stored for the purpose `evaluation`: never retrieved from or learned from; the same command goes on
where it stood, and what it finished is not played again; real and dreamed episodes are never in one table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from dreamsim.agents.language_model import LanguageModelPolicy
from dreamsim.cli import exits
from dreamsim.cli.arguments import Parser
from dreamsim.cli.assemble import importing_experiences
from dreamsim.cli.engines import model_source, opening
from dreamsim.cli.evaluate_table import render_report
from dreamsim.cli.interrupts import Interrupts
from dreamsim.cli.models import open_roles, policy_settings, prepare
from dreamsim.cli.play import UntilInterrupted
from dreamsim.cli.reality import REALITIES, Reality, open_reality
from dreamsim.cli.visible import visible
from dreamsim.errors import DreamsimError, UsageError
from dreamsim.evaluation.success import GameSettings, PolicyReport, play_games, policy_report
from dreamsim.protocols import Environment, Policy
from dreamsim.records.episode import Episode
from dreamsim.records.task import Task
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.runtime.whole_files import write_whole
from dreamsim.store.store import Store, open_store

DREAM = "dream"
MODEL = "model"
STORE = Path("runs/evaluations.sqlite")


def numbers(text: str) -> tuple[int, ...]:
    """`0,1,2`.

    Raises:
        UsageError: not that, or a number twice.
    """
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--seeds {text}: write numbers as in 0,1,2") from None
    if len(set(found)) < len(found) or min(found) < 0:
        raise UsageError(f"--seeds {text}: each seed once, none below 0")
    return found


def parser() -> argparse.ArgumentParser:
    """The verb's own arguments; the others are settings."""
    made = Parser(
        prog="dreamsim evaluate",
        description="Plays held-out games with a policy and says how often it solves them, with 95 % intervals.",
        epilog="What is not named here is a setting, as `python -m dreamsim.run --help` lists them: --policy.model "
        "PATH, --policy.adapter PATH, --experience.model NAME, ... "
        "Example: dreamsim evaluate --policy.model runs/mine/best --games 200",
        allow_abbrev=False,
    )
    made.add_argument(
        "--environment",
        choices=(*REALITIES, DREAM),
        help=f"default: textworld_express, the real one; {DREAM}: the experience model of the settings",
    )
    made.add_argument(
        "--policy", default=MODEL, help=f"who plays: {MODEL} (default), the one of the settings; gold, random, ..."
    )
    made.add_argument("--fold", choices=("train", "dev", "test"), default="test", help="whose games (default: test)")
    made.add_argument("--games", type=int, default=200, help="number of games, all kinds together (default 200)")
    made.add_argument("--first", type=int, default=0, help="first seed or game within the fold (default 0)")
    made.add_argument(
        "--game", action="append", default=[], metavar="GAME[:NAME=N,...]", help="a kind of game; several times: a mix"
    )
    made.add_argument("--episodes", type=int, default=1, help="episodes of each game and seed (default 1)")
    made.add_argument("--seeds", type=numbers, default=(0,), help="seeds of the policy, as 0,1,2 (default 0)")
    made.add_argument("--max-steps", type=int, help="longest episode (default: the environment's)")
    made.add_argument("--store", metavar="FILE", type=Path, default=STORE, help=f"where episodes go (default: {STORE})")
    made.add_argument("--name", help="name of the evaluation; default: made of the policy's weights and the settings")
    made.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    return made


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    given, rest = parser().parse_known_args(list(arguments))
    command = parse_arguments(rest)
    if "help" in command.switches:  # argparse has answered --help itself
        return exits.DONE
    settings = load_settings(command)
    if given.games < 1 or given.episodes < 1:
        raise UsageError("--games and --episodes must be at least 1")
    given.store = given.store.absolute()
    given.json = None if given.json is None else given.json.absolute()
    return anyio.run(_evaluate, given, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A finished evaluation."""

    run: str
    """Its name in the store."""
    report: PolicyReport
    """All seeds together."""
    by_seed: dict[int, float | None]
    """Success of each seed."""
    missing: int
    """Episodes that are not there, because it was interrupted or could not go on."""


async def _evaluate(given: argparse.Namespace, settings: Settings) -> int:
    interrupts = Interrupts()
    found: Evaluation | None = None
    refused: UsageError | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(interrupts.listen)
        try:
            with interrupts.setting_up():
                found = await evaluate(given, settings, interrupts)
        except DreamsimError as error:  # not through the task group, which would wrap it
            refused = error if isinstance(error, UsageError) else UsageError(str(error))
        tasks.cancel_scope.cancel()
    if refused is not None:
        raise refused
    if found is None:
        print("stopped; what was finished is stored, the same command goes on")
        return exits.INTERRUPTED
    print(visible(render_report(found.report, by_seed=found.by_seed)))
    print(f"\nepisodes: {given.store}, run {found.run}")
    if given.json is not None:
        await to_thread.run_sync(write_whole, given.json, json.dumps(figures(found), indent=1) + "\n")
    if found.missing:
        print(f"{found.missing:,} episodes are missing: the same command plays them", file=sys.stderr)
    return exits.FAILED if found.missing else exits.DONE


def figures(found: Evaluation) -> dict[str, object]:
    """What `--json` writes."""
    by_seed = {str(seed): value for seed, value in found.by_seed.items()}
    return {"run": found.run, "missing": found.missing, "success_by_seed": by_seed, **asdict(found.report)}


async def evaluate(given: argparse.Namespace, settings: Settings, interrupts: Interrupts) -> Evaluation:
    """Play what is missing and count.

    Raises:
        UsageError: something asked for cannot be had.
    """
    dreamed = given.environment == DREAM
    scripted = settings.policy.kind == "scripted"
    name = given.environment if given.environment not in (None, DREAM) else settings.tasks.environment
    name = "scripted" if scripted else name
    path = given.store
    run = given.name or await to_thread.run_sync(evaluation_name, given, settings)
    episodes: dict[int, list[Episode]] = {}
    async with AsyncExitStack() as opened:
        store = await opened.enter_async_context(open_store(path, encoder=settings.store.encoder if dreamed else None))
        reality = await opened.enter_async_context(open_reality(name, rooms=settings.scripted.rooms))
        tasks = await reality.tasks(given.game, fold=given.fold, count=given.games, first=given.first)
        stage = await opened.enter_async_context(_stage(given, settings, reality, store, path.parent))
        for seed in given.seeds:
            games = GameSettings(
                run=f"{run}-seed{seed}",
                episodes=given.episodes,
                max_steps=given.max_steps or reality.max_steps,
                seed=seed,
                concurrency=reality.concurrency,
                episode_seconds=settings.run.episode_timeout_s,
            )
            sink = UntilInterrupted(store, interrupts)
            episodes[seed] = await play_games(
                stage.environment, stage.policy, tasks, games, _Kept(store, sink), generation=stage.generation
            )
    return summed(run, tasks, episodes, given.episodes)


def summed(run: str, tasks: Sequence[Task], episodes: dict[int, list[Episode]], each: int) -> Evaluation:
    """The evaluation that these episodes are.

    Raises:
        UsageError: there are none.
    """
    every = [episode for of_seed in episodes.values() for episode in of_seed]
    if not every:
        raise UsageError("no episode was played")
    return Evaluation(
        run=run,
        report=policy_report(every),
        by_seed={
            seed: sum(one.outcome == "success" for one in found) / len(found) if found else None
            for seed, found in episodes.items()
        },
        missing=len({task.key for task in tasks}) * each * len(episodes) - len(every),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Who plays, and where."""

    environment: Environment
    policy: Policy
    generation: int = 1


class _Kept:
    """The store, without the episodes that a stop cut off: they are played again when going on."""

    def __init__(self, store: Store, sink: UntilInterrupted) -> None:
        self._store = store
        self._sink = sink
        self.add = sink.add
        self.add_durable = store.add_durable
        self.known_ids = store.known_ids
        self.episode = store.episode


@asynccontextmanager
async def _stage(
    given: argparse.Namespace, settings: Settings, reality: Reality, store: Store, logs: Path
) -> AsyncIterator[_Stage]:
    async with AsyncExitStack() as opened:
        telemetry = Telemetry()
        if given.environment == DREAM:
            await opened.enter_async_context(importing_experiences(settings, store, _say))
            opening_roles = open_roles(settings, store, telemetry, _say, logs=logs)
            roles = await opened.enter_async_context(opening_roles)
            policy = roles.policy if given.policy == MODEL else reality.policy(given.policy)
            yield _Stage(environment=roles.environment, policy=policy, generation=roles.generation)
        elif given.policy != MODEL or settings.policy.kind == "scripted":
            name = settings.scripted.policy if given.policy == MODEL else given.policy
            yield _Stage(environment=reality.environment, policy=reality.policy(name))
        else:
            ready = await to_thread.run_sync(prepare, settings.policy, "policy")
            engine = await opened.enter_async_context(
                await opening(settings, "policy", {"policy": ready.tokenizer}, logs)
            )
            policy = LanguageModelPolicy(engine, ready.tokenizer, policy_settings(settings.policy, ready))
            yield _Stage(environment=reality.environment, policy=policy)


async def _say(text: str) -> None:
    await to_thread.run_sync(partial(print, text, file=sys.stderr, flush=True))


def evaluation_name(given: argparse.Namespace, settings: Settings) -> str:
    """The same for the same weights, settings and length of episodes. Blocks: reads the policy's weights."""
    content = hashlib.blake2b(digest_size=6)
    if given.policy == MODEL and settings.policy.kind == "vllm":
        for path in (Path(model_source(settings.policy, "policy")), Path(settings.policy.adapter or "")):
            for file in sorted(path.glob("*.safetensors")) if path.is_dir() and str(path) != "." else ():
                content.update(file.read_bytes())
    dream = repr(settings.experience) if given.environment == DREAM else ""
    content.update(f"{given.policy} {settings.policy!r} {given.environment} {dream} {given.max_steps}".encode())
    return f"evaluation-{content.hexdigest()}"
