"""Measures how far the dream can be trusted and writes the figures to benchmarks/results/trust.json.

In: a subcommand, its options, and settings as `python -m dreamsim.run` takes them. Out: figures, printed and recorded.
Always: games of the test fold (`twc`, `coin`, `cookingworld`), with seeds of their own for every part; what was
collected before is not collected again; the command that is recorded names no directory of the machine. The gate knows
the agreement of samples only with `experience.gate.samples` above 1; each beyond the first is asked for at every step
foretold from a real history.

    python -m benchmarks.trust fidelity --seeds 0,1,2 --episodes 300 --experience.gate.samples 4
    python -m benchmarks.trust ablations --seeds 0,1,2 --episodes 120
    python -m benchmarks.trust returns --episodes 500
    python -m benchmarks.trust fidelity --held-out alfworld.jsonl.xz --prefix alfworld_ --experience.model models/a
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from benchmarks.fidelity import held_out
from benchmarks.ledger import ROOT, portable, record, shown
from benchmarks.main_job import LOOP, numbers
from benchmarks.roles import experiences, one_engine
from dreamsim.agents.language_model import LanguageModelPolicy
from dreamsim.cli.fidelity_parts import PARTS, Model, determined, read_held_out
from dreamsim.cli.models import policy_settings, prepare
from dreamsim.cli.trust import open_checks
from dreamsim.errors import UsageError
from dreamsim.evaluation.drift import at_step
from dreamsim.evaluation.examination import Examination, as_json, examine
from dreamsim.evaluation.intervals import NOTHING, Estimate
from dreamsim.evaluation.page import draw
from dreamsim.evaluation.returns import play, return_gap
from dreamsim.records.episode import Episode
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.runtime.telemetry import Telemetry

LEDGER = ROOT / "benchmarks" / "results" / "trust.json"
AT_ONCE = 256


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(
        prog="python -m benchmarks.trust",
        description=__doc__,
        epilog="Options not named here are settings: see `python -m dreamsim.run --help`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="where measurements keep their files")
    whole.add_argument("--ledger", type=Path, default=LEDGER, help="the file of figures")
    commands = whole.add_subparsers(dest="command", required=True)
    for name, said, episodes in (
        ("fidelity", "one step, drift, contradictions, gate", 300),
        ("ablations", "the same without history, retrieval, reasoning", 120),
    ):
        one = commands.add_parser(name, help=said, allow_abbrev=False)
        one.add_argument("--seeds", type=numbers, default=(0, 1, 2))
        one.add_argument("--episodes", type=int, default=episodes, help="real episodes of each seed")
        one.add_argument("--held-out", type=Path, help="real episodes of a file, instead of playing games")
        one.add_argument("--prefix", default="", help="put before every key")
        one.add_argument("--drift", type=int, default=30, help="longest drift, steps")
        if name == "ablations":
            one.add_argument("--without", nargs="+", choices=PARTS, default=list(PARTS))
    returns = commands.add_parser("returns", help="the policy's return, dreamed and real", allow_abbrev=False)
    returns.add_argument("--episodes", type=int, default=500, help="tasks, each played once in both")
    returns.add_argument("--prefix", default="", help="put before every key")
    return whole


async def fidelity(given: argparse.Namespace, settings: Settings) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """The figures of the full model, and of what is left without parts of it."""
    work: Path = given.work
    if given.held_out is not None:
        looked_at = await to_thread.run_sync(read_held_out, given.held_out)
    else:
        looked_at = await _played(work, given.seeds, given.episodes)
    without: Sequence[str] = getattr(given, "without", ())
    async with AsyncExitStack() as opened:
        model = await _model(settings, work, opened)
        measured = await examine(
            looked_at,
            model.variants(without=without, passes=1),
            model=model.name,
            determined=determined,
            witnesses=model.witnesses,
            horizon=settings.run.max_steps,
            steps=given.drift,
            concurrency=AT_ONCE,
            seed=given.seeds[0],
            progress=_tell,
        )
    examination = measured.examination
    name = f"{given.prefix}{given.command}"
    (work / f"{name}.json").write_text(json.dumps(as_json(examination), indent=1) + "\n", encoding="utf-8")
    await to_thread.run_sync(draw, examination, work / f"{name}.png")
    figures = named_ablations(examination) if without else named(examination)
    return {given.prefix + key: found for key, found in figures.items()}, {"episodes": len(looked_at)}


async def _played(work: Path, seeds: Sequence[int], episodes: int) -> list[Episode]:
    return [episode for seed in seeds for episode in await held_out(work / "held-out.sqlite", seed, episodes)]


async def _model(settings: Settings, work: Path, opened: AsyncExitStack) -> Model:
    store = await opened.enter_async_context(experiences(settings, work))
    ready = await to_thread.run_sync(prepare, settings.experience, "experience")
    engine = await opened.enter_async_context(
        one_engine(settings, "experience", work / "vllm-experience.log", seeded=False)
    )
    checks = await opened.enter_async_context(open_checks(settings, Telemetry()))
    return Model(engine=engine, prepared=ready, retriever=store, settings=settings, checks=checks)


def named(examination: Examination) -> dict[str, Estimate]:
    """The figures of an examination by the keys of the ledger."""
    report, drift, gate = examination.one_step, examination.drift, examination.gate
    figures: dict[str, Estimate | None] = {
        "determined_exact": report.determined_exact,
        "determined_similarity": report.determined_similarity,
        "undetermined_valid": report.undetermined_valid,
        "failure_shown": report.failure_shown,
        "failure_reward": report.failure_reward,
        "success_f1": report.success.f1,
        "done_f1": report.done.f1,
        "verified_success_f1": report.verified_success.f1,
        "verified_done_f1": report.verified_done.f1,
        "contradictions_before": drift.contradictions,
        "contradictions_after": drift.contradictions_checked,
        "contradictions_rejected": drift.rejected_checked,
        "contradictions_ended": drift.ended_checked,
        "reward_error": report.reward_error.mean,
        "transition_error": report.transition_error.mean,
        "gate_auroc": None if gate is None else gate.auroc,
        "gate_calibration_error": None if gate is None else gate.calibration_error,
    }
    if gate is not None:
        figures.update({f"gate_auroc.{feature}": found for feature, found in gate.alone.items()})
    if examination.checked is not None:
        figures["checked_determined_exact"] = examination.checked.determined_exact
        figures["checked_failure_shown"] = examination.checked.failure_shown
        figures["checked_failure_reward"] = examination.checked.failure_reward
    for k in (1, 5, 10, 20, 30):
        figures[f"open_loop_{k}"] = drift.at(k)
        figures[f"checked_open_loop_{k}"] = at_step(drift.open_loop_checked, k)
        figures[f"teacher_forced_{k}"] = at_step(drift.teacher_forced, k)
    for environment, found in report.exact_by_environment.items():
        figures[f"determined_exact.{environment.rpartition('/')[2]}"] = found
    return {key: NOTHING if found is None else found for key, found in figures.items()}


def named_ablations(examination: Examination) -> dict[str, Estimate]:
    """What is left without parts of the model, and how much less that is."""
    figures: dict[str, Estimate] = {"ablation_full": examination.one_step.determined_exact}
    for part, one in examination.ablations.items():
        key = f"ablation_no_{part}"
        figures[key] = one.report.determined_exact
        figures[f"{key}.difference"] = one.difference
        figures[f"{key}.failure_shown"] = one.report.failure_shown
        figures[f"{key}.success_f1"] = one.report.success_f1
        figures[f"{key}.open_loop_10"] = at_step(one.open_loop, 10) or NOTHING
    return figures


async def returns(given: argparse.Namespace, settings: Settings) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """The return gap: the policy plays the same tasks in reality and then in the dream."""
    from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment

    work: Path = given.work
    how: dict[str, Any] = {"max_steps": settings.run.max_steps, "seed": settings.run.seed}
    async with AsyncExitStack() as opened:
        ready = await to_thread.run_sync(prepare, settings.policy, "policy")
        engine = await opened.enter_async_context(
            one_engine(settings, "policy", work / "vllm-policy.log", seeded=False)
        )
        policy = LanguageModelPolicy(engine, ready.tokenizer, policy_settings(settings.policy, ready))
        async with TextWorldExpressEnvironment() as reality:
            tasks = await reality.tasks(fold="test", count=given.episodes)
            real = await play(reality, policy, tasks, run="real", **how)
        model = await _model(settings, work, opened)
        dreamed = await play(model.environment(), policy, tasks, run="dreamed", concurrency=AT_ONCE, **how)
    gap = return_gap(real, dreamed, seed=settings.run.seed)
    figures = {"return_gap": gap.absolute, "return_real": gap.real, "return_dreamed": gap.dreamed}
    figures["return_difference"] = gap.difference
    for environment, found in gap.by_environment.items():
        figures[f"return_difference.{environment.rpartition('/')[2]}"] = found
    more = {"dreamed_errors": gap.errors, "real_steps": round(gap.steps, 2)}
    return {given.prefix + key: found for key, found in figures.items()}, more


def _tell(what: str, done: int) -> None:
    if done % 100 == 0:
        print(f"{what}: {done:,}", file=sys.stderr, flush=True)


MEASUREMENTS: Mapping[str, Any] = {"fidelity": fidelity, "ablations": fidelity, "returns": returns}


def main() -> int:
    """Measure what the command names."""
    given, rest = parser().parse_known_args()
    given.work.mkdir(parents=True, exist_ok=True)
    try:
        settings = load_settings(parse_arguments(rest))
        figures, more = anyio.run(partial(MEASUREMENTS[given.command], given, settings), backend_options=LOOP)
    except UsageError as error:
        print(f"trust: {error}", file=sys.stderr)
        return 2
    print(shown(figures))
    record(
        figures,
        # Of episodes that were given, a seed only draws the resamples.
        seeds=given.seeds[: 1 if given.held_out else None] if "seeds" in given else [settings.run.seed],
        ledger=given.ledger,
        more=more,
        command=["python", "-m", "benchmarks.trust", *portable(sys.argv[1:])],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
