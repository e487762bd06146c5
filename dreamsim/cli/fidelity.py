"""`dreamsim fidelity`: how far the dream is from reality.

In: held-out real episodes (a file, a store, or played now), an experience model as settings name it. Out: a table,
`fidelity.json`, `fidelity.png`, and a calibration of the uncertainty gate. Always: nothing that is measured enters a
store; what is wrong with the arguments is said before an engine starts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from rich.console import Console

from dreamsim.agents.language_model import LanguageModelPolicy
from dreamsim.cli import exits
from dreamsim.cli.arguments import Parser
from dreamsim.cli.engines import Role, open_engines, opening
from dreamsim.cli.fidelity_parts import (
    PARTS,
    Model,
    collected,
    determined,
    read_held_out,
    stored_held_out,
)
from dreamsim.cli.fidelity_table import tables
from dreamsim.cli.models import policy_settings, prepare
from dreamsim.cli.tasks import experience_file
from dreamsim.cli.trust import open_checks
from dreamsim.errors import ConfigurationError, EngineError, MissingExtraError, UsageError
from dreamsim.evaluation.examination import Examination, Measured, as_json, examine
from dreamsim.evaluation.fidelity import StepRecord
from dreamsim.evaluation.page import draw
from dreamsim.evaluation.returns import ReturnGap, play, return_gap
from dreamsim.experience.uncertainty import fit_gate
from dreamsim.protocols import Engine, Policy, Tokenizer
from dreamsim.records.episode import Episode
from dreamsim.records.task import Task
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.runtime.whole_files import replacing, write_whole
from dreamsim.store.jsonl import import_jsonl
from dreamsim.store.store import open_store

EPILOG = """examples:
  the shipped model, on real episodes that are played now:
    dreamsim fidelity
  another model, on episodes of yours, with everything that can be taken away from it:
    dreamsim fidelity held-out.jsonl.xz --experience.model models/mine --pool train.jsonl.xz
        --without history --without retrieval --without reasoning

Every other option is a setting: see `python -m dreamsim.run --help`; docs/fidelity.md explains each figure."""


def parser() -> argparse.ArgumentParser:
    """The verb's own arguments; the rest are settings."""
    made = Parser(
        prog="dreamsim fidelity",
        usage="dreamsim fidelity [EPISODES] [--OPTION ...] [--SETTING VALUE ...]",
        description="Holds an experience model against held-out real episodes: EPISODES is a .jsonl, .jsonl.gz or "
        ".jsonl.xz file or a store; without it, games of TextWorldExpress' test fold are played now.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--out", type=Path, default=Path("fidelity"), help="directory for the results (fidelity)")
    made.add_argument("--pool", metavar="FILE", help="real episodes to retrieve from, as --store.experiences")
    made.add_argument("--limit", type=int, metavar="N", help="most held-out episodes; to play: default 48")
    made.add_argument("--game", action="append", default=[], metavar="GAME[:NAME=N,...]", help="a game to play")
    made.add_argument("--without", action="append", default=[], choices=PARTS, help="also examine it without this")
    made.add_argument("--drift", type=int, default=30, metavar="K", help="longest drift, steps (30)")
    made.add_argument("--passes", type=int, default=1, metavar="M", help="samples of each step for ε_P (1: greedy)")
    made.add_argument("--returns", type=int, default=0, metavar="N", help="tasks the policy plays, dreamed and real")
    made.add_argument("--at-once", type=int, default=256, metavar="N", help="episodes followed at once (256)")
    return made


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    rest = list(arguments)
    episodes = Path(rest.pop(0)) if rest and not rest[0].startswith("-") else None
    if "-h" in rest or "--help" in rest:
        parser().print_help()
        return exits.DONE
    given, rest = parser().parse_known_args(rest)
    if given.pool is not None:
        rest += ["--store.experiences", given.pool]
    settings = load_settings(parse_arguments(rest))
    _check(given, settings, episodes)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        measured = anyio.run(_measure, given, settings, episodes)
    except EngineError as error:
        raise UsageError(f"the engine failed: {error}") from error
    except BaseExceptionGroup as errors:
        usage, _ = errors.split(UsageError)
        if usage is None:
            raise
        raise _first(usage) from errors
    _write(given.out, measured)
    console = Console(highlight=False)
    for block in tables(measured.examination):
        console.print(block)
        console.print()
    console.print(f"written to {given.out}/: fidelity.json, fidelity.png", soft_wrap=True, markup=False)
    return exits.DONE


def _check(given: argparse.Namespace, settings: Settings, episodes: Path | None) -> None:
    """Refuse what cannot work.

    Raises:
        UsageError: it cannot.
    """
    if settings.experience.kind == "scripted":
        raise ConfigurationError("the scripted world is no model: there is nothing to hold against reality")
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", extra="plots", purpose="the page of plots")
    for name, least in (("drift", 1), ("passes", 1), ("returns", 0), ("at_once", 1)):
        if getattr(given, name) < least:
            raise ConfigurationError(f"--{name.replace('_', '-')} must be at least {least}")
    if given.passes > 1 and not settings.experience.temperature:
        raise ConfigurationError(
            "--passes asks for several samples of a step, but a greedy model gives the same one again: "
            "set experience.temperature above 0, or leave --passes out"
        )
    if episodes is not None and given.game:
        raise ConfigurationError("--game says what to play, but the episodes are given")
    if episodes is not None and not episodes.is_file():
        raise UsageError(f"no file at {episodes}")


async def _held_out(given: argparse.Namespace, settings: Settings, path: Path | None) -> list[Episode]:
    if path is None:
        _say("playing games of the test fold")
        found = await collected(given.limit or 48, given.game, seed=settings.run.seed)
    elif ".jsonl" in path.name:
        found = await to_thread.run_sync(read_held_out, path)
    else:
        found = await stored_held_out(path)
    if not found:
        raise UsageError(f"there are no real episodes in {path}: failed ones and those without a step do not count")
    return found[: given.limit] if path is not None else found


async def _measure(given: argparse.Namespace, settings: Settings, path: Path | None) -> Measured:
    held_out = await _held_out(given, settings, path)
    async with AsyncExitStack() as opened:
        store = await opened.enter_async_context(
            open_store(given.out / "experiences.sqlite", encoder=settings.store.encoder)
        )
        pool = experience_file(settings)
        if pool is not None:
            await import_jsonl(pool, store)
            await store.flush()
        prepared = await to_thread.run_sync(prepare, settings.experience, "experience")
        policy: Policy | None = None
        if given.returns:
            policy, engine = await _both(settings, opened, given.out)
        else:
            _say(f"starting {settings.experience.model}")
            tokenizers: dict[Role, Tokenizer] = {"experience": prepared.tokenizer}
            engine = await opened.enter_async_context(await opening(settings, "experience", tokenizers, given.out))
        checks = await opened.enter_async_context(open_checks(settings, Telemetry()))
        model = Model(engine=engine, prepared=prepared, retriever=store, settings=settings, checks=checks)
        measured = await examine(
            held_out,
            model.variants(without=given.without, passes=given.passes),
            model=model.name,
            determined=determined,
            witnesses=model.witnesses,
            horizon=settings.run.max_steps,
            steps=given.drift,
            concurrency=given.at_once,
            seed=settings.run.seed,
            progress=_Progress(len(held_out)),
        )
        if policy is None:
            return measured
        gap = await _returns(given, settings, model, policy)
        return dataclasses.replace(measured, examination=dataclasses.replace(measured.examination, returns=gap))


async def _both(settings: Settings, opened: AsyncExitStack, logs: Path) -> tuple[Policy, Engine]:
    playing = await to_thread.run_sync(prepare, settings.policy, "policy")
    dreaming = await to_thread.run_sync(prepare, settings.experience, "experience")
    tokenizers: dict[Role, Tokenizer] = {"policy": playing.tokenizer, "experience": dreaming.tokenizer}

    async def say(text: str) -> None:
        _say(text)

    engines = await opened.enter_async_context(open_engines(settings, tokenizers, say, logs=logs))
    policy = LanguageModelPolicy(engines.policy, playing.tokenizer, policy_settings(settings.policy, playing))
    return policy, engines.experience


async def _returns(given: argparse.Namespace, settings: Settings, model: Model, policy: Policy) -> ReturnGap:
    """The policy's return on tasks of the test fold, real and dreamed."""
    try:
        from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
        from dreamsim_adapters.environments.textworld_express.games import DEFAULT_MIX, GameSpec
    except ImportError as error:
        raise MissingExtraError(
            error.name or "textworld-express", extra="textworld-express", purpose="playing in reality"
        ) from error
    mix = tuple(GameSpec.parse(game) for game in given.game) or DEFAULT_MIX
    how: dict[str, Any] = {"max_steps": settings.run.max_steps, "seed": settings.run.seed}
    async with TextWorldExpressEnvironment() as reality:
        tasks: Sequence[Task] = await reality.tasks(mix, fold="test", count=given.returns)
        _say(f"the policy plays {len(tasks)} tasks in reality and in the dream")
        real = await play(reality, policy, tasks, run="real", **how)
    dreamed = await play(model.environment(), policy, tasks, run="dreamed", concurrency=given.at_once, **how)
    return return_gap(real, dreamed, seed=settings.run.seed)


def _write(out: Path, measured: Measured) -> None:
    examination = measured.examination
    write_whole(out / "fidelity.json", json.dumps(as_json(examination), indent=1, ensure_ascii=False) + "\n")
    with replacing(out / "fidelity.png") as work:
        draw(examination, work)
    _calibrate(out / "gate.json", examination, measured.records)


def _calibrate(path: Path, examination: Examination, records: Sequence[StepRecord]) -> None:
    """Fit a gate on all that was seen, for `experience.gate.calibration`; leave it where nothing can be fitted."""
    seen = [record for record in records if record.determined and record.features is not None]
    try:
        gate = fit_gate(
            [record.features for record in seen if record.features is not None],
            [not record.right for record in seen],
            experience_model=examination.model,
        )
    except ConfigurationError:
        return
    gate.save(path)


class _Progress:
    """A line for every quarter of a part."""

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes

    def __call__(self, what: str, done: int) -> None:
        if done == self._episodes or done % max(1, self._episodes // 4) == 0:
            _say(f"{what}: {done:,} of {self._episodes:,} episodes")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
