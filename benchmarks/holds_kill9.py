"""kill -9 at random moments, hundreds of times: what is lost or doubled.

In: a number of trials, seeds. Out: the share of trials with anything wrong, and beside it what was killed and how
often. Always: trials are shared out evenly over the seeds; those that are done (for this commit, under `--work`) are
not done again, so that a measurement that was stopped goes on.

    python -m benchmarks.holds kill9 --trials 300 --seeds 0,1,2
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from benchmarks.kill9_trials import done
from benchmarks.ledger import commit
from benchmarks.main_job import numbers
from dreamsim.errors import UsageError
from dreamsim.evaluation.intervals import Estimate, proportion
from dreamsim.runtime.config import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--trials` and `--seeds`."""
    parser.add_argument("--trials", type=int, default=300, help="in total, shared out over the seeds")
    parser.add_argument("--seeds", type=numbers, default=(0, 1, 2))


async def measure(given: argparse.Namespace, settings: Settings) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """The share of trials in which anything acknowledged was lost, doubled or damaged.

    Raises:
        UsageError: the trials do not go evenly into the seeds, or the program that does them failed.
    """
    if given.trials % len(given.seeds):
        raise UsageError(f"--trials {given.trials} cannot be shared out evenly over {len(given.seeds)} seeds")
    each = given.trials // len(given.seeds)
    work: Path = given.work / f"kill9-{commit()}"
    seeds = ",".join(map(str, given.seeds))
    command = [sys.executable, "-m", "benchmarks.kill9_trials"]
    # In a process of its own, which has no thread and no event loop: it forks one process for every sitting.
    ended = await anyio.run_process(
        [*command, "--work", str(work), "--trials", str(each), "--seeds", seeds],
        stdout=None,
        stderr=None,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    if ended.returncode:
        raise UsageError(f"the trials ended with code {ended.returncode}; those that are done are in {work}")
    known = done(work / "trials.jsonl")
    return figures([one for (seed, number), one in known.items() if seed in given.seeds and number < each])


def figures(trials: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """The figure, and what stands beside it."""
    bad = [one for one in trials if one["wrong"]]
    for one in bad:
        print(json.dumps(one), file=sys.stderr)
    kinds = Counter(kind for one in trials for kind in one["kills"])
    more = {"kills": sum(kinds.values()), "sittings": sum(one["sittings"] for one in trials)}
    more |= {f"kills.{kind}": count for kind, count in sorted(kinds.items())}
    return {"kill9_lost": proportion(len(bad), len(trials))}, more
