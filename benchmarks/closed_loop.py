"""Does an agent that learned in the dream succeed in reality? One command for the table and the curves.

    python -m benchmarks.closed_loop                                    # all rows; goes on where it was stopped
    python -m benchmarks.closed_loop --seeds 3 --rows grpo_dream,sft
    python -m benchmarks.closed_loop --page                             # only write what is finished

In: rows, seeds, settings that all rows share. Out: one file of results for every row and seed in
benchmarks/results/closed-loop; docs/closed-loop.md with the table and the curves (docs/closed-loop.png);
benchmarks/results/closed-loop.json. Trainings and stores stay in the work directory.
Always:
- every row of a seed begins with the same policy and is measured on the same real games of the test fold, which chose
  nothing: what is measured are the weights that all updates made, not the best ones;
- real transitions are counted by the training itself; a row that is called dreamed has none. Evaluations on the dev
  fold, for the curves, are counted beside and learned from by nobody;
- what is finished is not done again, and a training that was cut off is gone on with.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.closed_loop_page import CLOSED_LOOP, RESULTS, write_page
from benchmarks.ledger import ROOT, commit
from benchmarks.main_job import numbers
from dreamsim.runtime.whole_files import write_whole

MIX = ("--tasks.mix", "twc=1,coin=1,cookingworld=2")
"""Most tasks are of the game with most to learn; all rows are measured on as many games of each kind."""
SIZES = (
    *(*MIX, "--experience.temperature", "1"),
    *("--train.groups", "16", "--train.group_size", "16", "--train.steps", "14", "--train.decay", "8"),
    *("--train.evaluate_every", "4", "--train.evaluate_games", "90", "--curriculum.renamed", "0.3"),
)
"""What all trainings share: 14 updates of 16 tasks, each attempted 16 times."""
LONG = ("--train.steps", "24", "--train.decay", "12")
"""As many updates as fit in a quarter of an hour; the rate falls in the last half of them, as it does by default."""
LARGE = (
    *("--train.steps", "17", "--train.decay", "9", "--train.groups", "24", "--train.lag", "1"),
    *("--tasks.mix", "twc=1,coin=1,cookingworld=4", "--train.evaluate_every", "8"),
)
"""What a quarter of an hour holds where one round is played while another is learned from: half as many tasks again in
each update, all of them of the game with most to learn. Fixed before any of it was measured."""
SEEDS = (3, 4, 5)
"""Sizes and settings were chosen with other seeds, on dev games."""
THEN_REAL = (
    *("--train.groups", "6", "--train.steps", "4", "--train.decay", "2", "--train.evaluate_every", "4"),
    *("--train.learning_rate", "2e-4", "--train.warmup", "8"),
)
"""Of the real part after a dream, which is a tenth of the real row's transitions: smaller updates, so that there are
some, and small steps."""
HOW = {"grpo": ("--train.algorithm", "grpo"), "ppo": ("--train.algorithm", "ppo")}
REAL = ("--train.real_share", "1")
STORED = 3584
"""Dreamed episodes of the weak policy that SFT and DPO learn from, as many as a training plays: 16 attempts at each of
224 tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to train."""

    name: str
    """For the page."""
    algorithm: str
    """`grpo`, `ppo`, `sft`, `dpo`; or `none`, the policy as it is."""
    settings: tuple[str, ...] = ()
    """What it does otherwise."""
    then_real: bool = False
    """Whether dreamed training is followed by a tenth of the real transitions of the real row of the same algorithm."""


ROWS = {
    "before": Row(name="before training", algorithm="none"),
    "sft": Row(name="SFT on dreamed successes", algorithm="sft"),
    "dpo": Row(name="DPO on dreamed pairs", algorithm="dpo"),
    "grpo_real": Row(name="GRPO real", algorithm="grpo", settings=REAL),
    "ppo_real": Row(name="PPO real", algorithm="ppo", settings=REAL),
    "grpo_dream": Row(name="GRPO dream", algorithm="grpo"),
    "ppo_dream": Row(name="PPO dream", algorithm="ppo"),
    "grpo_dream_real": Row(name="GRPO dream, then real", algorithm="grpo", then_real=True),
    "ppo_dream_real": Row(name="PPO dream, then real", algorithm="ppo", then_real=True),
    "grpo_dream_long": Row(name="GRPO dream, 24 updates", algorithm="grpo", settings=LONG),
    "grpo_dream_large": Row(name="GRPO dream, 17 updates of 24 tasks", algorithm="grpo", settings=LARGE),
    "no_replay": Row(name="GRPO dream without replay", algorithm="grpo", settings=("--experience.retrieve", "off")),
    "no_reasoning": Row(
        name="GRPO dream without reasoning", algorithm="grpo", settings=("--experience.reasoning", "no")
    ),
    "no_curriculum": Row(
        name="GRPO dream without curriculum", algorithm="grpo", settings=("--curriculum.mode", "uniform")
    ),
}
"""By the name that `--rows` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how rows are run."""

    work: Path
    """Where trainings and stores are kept."""
    results: Path
    """Where it is kept how they ended."""
    games: int
    """Real games of the test fold that every row is measured on."""
    settings: tuple[str, ...]
    """Settings that all rows share."""

    def result(self, row: str, seed: int) -> Path:
        """The file that says how it ended."""
        return self.results / f"{row}-{seed}.json"

    def directory(self, row: str, seed: int) -> Path:
        """Of its training."""
        return self.work / f"{row}-{seed}"


def main(arguments: Sequence[str]) -> int:
    """Run what is missing, write the page; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.closed_loop",
        description=__doc__,
        epilog="Other options are settings that all rows share: see `dreamsim train --help`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/closed-loop"), help="where measurements keep their files"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where it is kept how rows ended")
    parser.add_argument("--ledger", type=Path, default=CLOSED_LOOP, help="the file of figures")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where page and picture go")
    parser.add_argument("--seeds", type=numbers, default=SEEDS)
    parser.add_argument("--rows", default=",".join(ROWS), help="some of " + ", ".join(ROWS))
    parser.add_argument("--games", type=int, default=480, help="real games that every row is measured on")
    parser.add_argument("--page", action="store_true", help="run nothing, write what is finished")
    given, rest = parser.parse_known_args(arguments)
    wanted = given.rows.split(",")
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        parser.error(f"there is no row '{unknown[0]}': there are {', '.join(ROWS)}")
    bench = Bench(work=given.work.absolute(), results=given.results.absolute(), games=given.games, settings=tuple(rest))
    bench.work.mkdir(parents=True, exist_ok=True)
    bench.results.mkdir(parents=True, exist_ok=True)
    for seed in (
        () if given.page else given.seeds
    ):  # a seed at a time: three rows of one seed say more than one of three
        for name in sorted(wanted, key=list(ROWS).index):
            if not bench.result(name, seed).exists():
                print(f"{ROWS[name].name}, seed {seed}", flush=True)
                finish(bench, name, seed)
    write_page(bench.results, {name: row.name for name, row in ROWS.items()}, docs=given.docs, ledger=given.ledger)
    return 0


def finish(bench: Bench, name: str, seed: int) -> None:
    """Train and measure one row of one seed."""
    row = ROWS[name]
    counts: dict[str, Any] = {"real": 0, "dreamed": 0, "evaluation": 0, "wall_s": 0.0, "curve": [], "metrics": {}}
    if row.algorithm == "none":
        policy: Path | None = None
    elif row.algorithm in ("sft", "dpo"):
        policy, counts = from_store(bench, row.algorithm, seed)
    elif row.then_real:
        policy, counts = dream_then_real(bench, row, name, seed)
    else:
        policy, counts = trained(bench, bench.directory(name, seed), row, seed, (), policy=None)
    measured = bench.work / f"{name}-{seed}-measured.json"
    model = () if policy is None else ("--policy.model", str(policy))
    dreamsim(
        bench.work,
        *("evaluate", "--games", str(bench.games), "--seeds", str(seed)),
        *("--store", str(bench.work / "measured.sqlite"), "--json", str(measured), *policy_settings(bench), *model),
    )
    found = json.loads(measured.read_text(encoding="utf-8"))
    told = {
        "row": name,
        "seed": seed,
        "success": found["overall"]["success"]["value"],
        "by_game": {game.rpartition("/")[2]: one["success"]["value"] for game, one in found["by_game"].items()},
        "games": found["overall"]["episodes"],
        "commit": commit(),
        **counts,
    }
    write_whole(bench.result(name, seed), json.dumps(told, indent=1) + "\n")


def trained(
    bench: Bench, directory: Path, row: Row, seed: int, more: tuple[str, ...], *, policy: Path | None
) -> tuple[Path, dict[str, Any]]:
    """The last weights of a training, begun or gone on with, and what it took."""
    if (directory / "state.json").exists():
        arguments: tuple[str, ...] = ("--resume", str(directory))
    else:
        shutil.rmtree(directory, ignore_errors=True)
        begin = () if policy is None else ("--policy.model", str(policy))
        arguments = (
            *("--run.directory", str(directory), "--run.seed", str(seed)),
            *(*SIZES, *HOW[row.algorithm], *row.settings, *bench.settings, *begin, *more),
        )
    if not (directory / "last").exists():
        dreamsim(bench.work, "train", *arguments)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = lines[-1]
    counts = {
        "real": last["total_real_transitions"],
        "dreamed": last["total_dreamed_transitions"],
        "evaluation": last["total_evaluation_transitions"],
        "episodes": last["total_episodes"],
        "wall_s": last["elapsed_s"] - sum(line["evaluated_s"] for line in lines),
        "curve": [
            {
                "episodes": line["total_episodes"],
                "transitions": line["total_real_transitions"] + line["total_dreamed_transitions"],
                "elapsed_s": line["elapsed_s"],
                "success": line["evaluation_success"],
            }
            for line in lines
            if line["evaluation_success"] is not None
        ],
        "metrics": {key: sum(line[key] for line in lines) for key in ("waited_s", "worked_s", "engine_idle_s")},
    }
    return directory / "last", counts


def dream_then_real(bench: Bench, row: Row, name: str, seed: int) -> tuple[Path, dict[str, Any]]:
    """The dreamed row of the same seed, and then real episodes, a tenth of the real row's transitions."""
    before = f"{row.algorithm}_dream"
    for needed in (before, f"{row.algorithm}_real"):
        if not bench.result(needed, seed).exists():
            print(f"  needs {ROWS[needed].name}", flush=True)
            finish(bench, needed, seed)
    told = json.loads(bench.result(f"{row.algorithm}_real", seed).read_text(encoding="utf-8"))
    dreamed = json.loads(bench.result(before, seed).read_text(encoding="utf-8"))
    budget = ("--train.max_real_transitions", str(told["real"] // 10), "--train.real_share", "1", *THEN_REAL)
    dream_policy = bench.directory(before, seed) / "last"
    if not dream_policy.exists():
        raise SystemExit(f"{dream_policy} is not there: remove {bench.result(before, seed)} to train it again")
    policy, counts = trained(bench, bench.directory(name, seed), row, seed, budget, policy=dream_policy)
    for key in ("dreamed", "evaluation", "wall_s"):
        counts[key] += dreamed[key]
    return policy, counts


def from_store(bench: Bench, algorithm: str, seed: int) -> tuple[Path, dict[str, Any]]:
    """SFT or DPO on dreamed episodes of the weak policy, which both share."""
    stored = bench.work / f"stored-{seed}"
    if not (stored / "summary.json").exists():
        shutil.rmtree(stored, ignore_errors=True)
        tasks = ("--run.episodes", str(STORED), "--tasks.count", str(STORED // 16), *MIX)
        how = ("--run.directory", str(stored), "--run.seed", str(seed), "--experience.temperature", "1")
        dreamsim(bench.work, "run", *how, *tasks, *bench.settings)
    output = bench.directory(algorithm, seed)
    begun = time.monotonic()
    if not (output / "dreamsim.json").exists():
        shutil.rmtree(output, ignore_errors=True)
        python = [sys.executable, "-m", "benchmarks.closed_loop_stored", algorithm]
        chosen = ["--store", str(stored / "store.sqlite"), "--output", str(output), "--seed", str(seed)]
        subprocess.run([*python, *chosen, *policy_settings(bench)], cwd=ROOT, check=True)
    facts = json.loads((output / "counts.json").read_text(encoding="utf-8"))
    return output, {**facts, "wall_s": facts["stored_s"] + time.monotonic() - begun, "curve": [], "metrics": {}}


def policy_settings(bench: Bench) -> tuple[str, ...]:
    """Those of the shared settings that say who plays: `evaluate` takes no others of a training."""
    found: list[str] = []
    for name, value in zip(bench.settings[::2], bench.settings[1::2], strict=True):
        if name.startswith(("--policy.", "--vllm.")):
            found += [name, value]
    return tuple(found)


def dreamsim(work: Path, verb: str, *arguments: str) -> None:
    """Run `dreamsim VERB`, or `python -m dreamsim.run`; its output goes to a file of the directory `work`.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", *(["dreamsim.run"] if verb == "run" else ["dreamsim", verb]), *arguments]
    log = work / f"{verb}.log"
    with log.open("ab") as file:
        code = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command)}\nended with exit code {code}: see {log}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
