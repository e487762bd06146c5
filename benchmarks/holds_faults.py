"""Whole runs under faults: is every task accounted for, and does anything hang?

In: seeds, a rate, a number of tasks. Out: `faults_accounted`, the share of tasks that ended in exactly one whole stored
episode, and `hangs`, the number of runs that were not over in time.
Always: for every seed one run for each kind of fault alone and one with all kinds together, each kind with the same
probability per call of a part; what is counted is read from the store's file after the run, by a connection of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.faulty_run import Attack, Outcome, attacked
from benchmarks.main_job import numbers
from dreamsim.evaluation.intervals import Estimate, proportion
from dreamsim.runtime.config import Settings
from dreamsim.testing import FAULTS, Fault

ALONE: tuple[tuple[Fault, ...], ...] = tuple((kind,) for kind in FAULTS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--seeds", type=numbers, default=(0, 1, 2))
    parser.add_argument("--rate", type=float, default=0.01, help="probability of each kind of fault per call")
    parser.add_argument("--tasks", type=int, default=200, help="tasks of each run")
    parser.add_argument("--concurrency", type=int, default=64, help="episodes at once")
    parser.add_argument("--within", type=float, default=600.0, help="seconds after which a run counts as hung")


async def measure(given: argparse.Namespace, settings: Settings) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """The figures, and what happened."""
    outcomes: list[Outcome] = []
    struck: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    # The first search of a process imports the index's library: longer than an episode may take on a busy machine.
    await _one(Attack(seed=0, rates={}, tasks=1), given.work)
    for seed in given.seeds:
        for together in (*ALONE, FAULTS):
            attack = Attack(
                seed=seed,
                rates=dict.fromkeys(together, given.rate),
                world="scripted" if seed % 3 == 2 else "dreamed",
                tasks=given.tasks,
                concurrency=given.concurrency,
                within_s=given.within,
            )
            outcome = await _one(attack, given.work)
            outcomes.append(outcome)
            struck.update(outcome.struck)
            kinds.update(outcome.kinds)
            print(_line("+".join(together) if len(together) == 1 else "all", seed, outcome), flush=True)
    tasks = sum(len(outcome.given) for outcome in outcomes)
    accounted = sum(outcome.accounted for outcome in outcomes)
    hung = sum(outcome.hung for outcome in outcomes)
    figures = {
        "faults_accounted": proportion(accounted, tasks),
        "hangs": Estimate(value=float(hung), low=None, high=None, n=len(outcomes)),
    }
    more = {
        "runs": len(outcomes),
        "faults": dict(sorted(struck.items())),
        "ended_early": sum(outcome.error is not None for outcome in outcomes),
        "restarts": sum(outcome.restarts for outcome in outcomes),
        "episodes_by_error": dict(sorted(kinds.items())),
    }
    return figures, more


async def _one(attack: Attack, work: Path) -> Outcome:
    with tempfile.TemporaryDirectory(dir=work, prefix="faults-") as directory:
        return await attacked(attack, Path(directory) / "store.sqlite")


def _line(name: str, seed: int, outcome: Outcome) -> str:
    said = f"{name:<14} seed {seed}: {outcome.accounted:>4} of {len(outcome.given)} accounted for"
    said += f", {sum(outcome.struck.values()):>4} faults, {outcome.kinds['none']:>4} without error"
    return said + (", HUNG" if outcome.hung else "") + ("" if outcome.error is None else f", {outcome.error}")
