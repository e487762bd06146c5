"""How long trainer and engines wait for each other, strictly on-policy and with a lag of one round.

    python -m benchmarks.lag --seeds 0,1,2
    python -m benchmarks.lag --seeds 0 --updates 8 --train.groups 24

In: seeds, settings of the trainings. Out: figures in benchmarks/results/closed-loop.json: `trainer_wait_lag0`,
`trainer_wait_lag1`, `engine_wait_lag0`, `engine_wait_lag1` (shares of the wall time between the first update and the
last) and `speedup_lag1` (wall time of an update with lag 0 / with lag 1).
Always: both trainings of a seed play the same tasks, one after the other, the order changing from seed to seed; the
first update is left out, as it holds the loading of engines; nothing is evaluated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.closed_loop import MIX, dreamsim
from benchmarks.closed_loop_page import CLOSED_LOOP
from benchmarks.ledger import portable, record, shown
from benchmarks.main_job import numbers
from dreamsim.evaluation.intervals import over_seeds

SIZES = (
    *("--train.groups", "8", "--train.evaluate_games", "0", "--curriculum.mode", "uniform"),
    *MIX,
)
"""A third of a default round, all updates on the same tasks."""
LAGS = (0, 1)


def main(arguments: Sequence[str]) -> int:
    """Train, measure, record; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lag",
        description=__doc__,
        epilog="Other options are settings of the trainings: see `dreamsim train --help`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--work", type=Path, default=Path("runs/lag"), help="where measurements keep their files")
    parser.add_argument("--ledger", type=Path, default=CLOSED_LOOP, help="the file of figures")
    parser.add_argument("--seeds", type=numbers, default=(0, 1, 2))
    parser.add_argument("--updates", type=int, default=5, help="updates of each training, the first is not measured")
    given, rest = parser.parse_known_args(arguments)
    if given.updates < 2:
        parser.error("--updates must be at least 2: the first is not measured")
    found: dict[str, list[float]] = defaultdict(list)
    for place, seed in enumerate(given.seeds):
        paces: dict[int, float] = {}
        for lag in LAGS if place % 2 == 0 else LAGS[::-1]:
            directory = given.work.absolute() / f"lag{lag}-{seed}"
            lines = trained(directory, lag=lag, seed=seed, updates=given.updates, settings=rest)
            waits = waiting(lines)
            print(f"seed {seed}, lag {lag}: {waits}", flush=True)
            paces[lag] = waits["update_s"]
            found[f"trainer_wait_lag{lag}"].append(waits["trainer"])
            found[f"engine_wait_lag{lag}"].append(waits["engine"])
        found["speedup_lag1"].append(paces[0] / paces[1])
    figures = {key: over_seeds(values) for key, values in found.items()}
    command = ["python", "-m", "benchmarks.lag", *portable(arguments)]
    record(figures, seeds=given.seeds, ledger=given.ledger, command=command)
    print(shown(figures))
    return 0


def trained(
    directory: Path, *, lag: int, seed: int, updates: int, settings: Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    """The lines of metrics of a training from its beginning.

    Raises:
        SystemExit: it failed.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    own = ("--run.directory", str(directory), "--run.seed", str(seed), "--train.steps", str(updates))
    dreamsim(directory.parent, "train", *own, "--train.lag", str(lag), *SIZES, *settings)
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def waiting(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds an update took, and the shares of that time in which trainer and engines had nothing to do."""
    updates = [line for line in lines if line["update"] > 0]
    wall = updates[-1]["elapsed_s"] - updates[0]["elapsed_s"]
    measured = updates[1:]
    return {
        "update_s": round(wall / len(measured), 3),
        "trainer": round(sum(line["waited_s"] for line in measured) / wall, 4),
        "engine": round(sum(line["engine_idle_s"] for line in measured) / wall, 4),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
