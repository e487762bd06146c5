"""Measures the figures of the main job and writes them to benchmarks/results/main-job.json.

In: a subcommand, its options, and settings as `python -m dreamsim.run` takes them. Out: figures, printed and recorded.
Always: each subcommand can be repeated; what it collected or finished before is not done again.

    python -m benchmarks.main_job fidelity --seeds 0,1,2 --episodes 300
    python -m benchmarks.main_job policy --games 500
    python -m benchmarks.main_job run --seeds 0
    python -m benchmarks.main_job overhead --rounds 3
    python -m benchmarks.main_job readme
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio

from benchmarks.ledger import LEDGER, record, shown
from dreamsim.errors import UsageError
from dreamsim.runtime.settings_sources import load_settings, parse_arguments

LOOP = {"use_uvloop": True}


def numbers(text: str) -> tuple[int, ...]:
    """`0,1,2`."""
    return tuple(int(part) for part in text.split(","))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(
        prog="python -m benchmarks.main_job",
        description=__doc__,
        epilog="Options not named here are settings: see `python -m dreamsim.run --help`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="where measurements keep their files")
    whole.add_argument("--ledger", type=Path, default=LEDGER, help="the file of figures")
    commands = whole.add_subparsers(dest="command", required=True)
    fidelity = commands.add_parser("fidelity", help="one-step fidelity of the experience model, and of the baseline")
    fidelity.add_argument("--seeds", type=numbers, default=(0, 1, 2))
    fidelity.add_argument("--episodes", type=int, default=300, help="real episodes of each seed")
    fidelity.add_argument("--suffix", default="", help="put behind every key: for another model or retrieval mode")
    fidelity.add_argument("--no-baseline", action="store_true", help="leave the nearest neighbour out")
    fidelity.add_argument("--dump", type=Path, help="write every step's record to this file, one JSON object a line")
    policy = commands.add_parser("policy", help="real success of the policy on unseen games")
    policy.add_argument("--games", type=int, default=500)
    run = commands.add_parser("run", help="the default run: time, episodes alive and stored, memory")
    run.add_argument("--seeds", type=numbers, default=(0,), help="one run for each")
    overhead = commands.add_parser("overhead", help="the simulator's own cost")
    overhead.add_argument("--rounds", type=int, default=3)
    readme = commands.add_parser("readme", help="the README's commands in an empty environment")
    readme.add_argument("--seconds", type=float, default=3600.0, help="most time for one command")
    return whole


def fidelity(given: argparse.Namespace, rest: Sequence[str]) -> None:
    """Measure fidelity."""
    from benchmarks.fidelity import measure

    settings = load_settings(parse_arguments(rest))
    found = anyio.run(
        partial(
            measure,
            settings,
            given.work,
            seeds=given.seeds,
            episodes=given.episodes,
            baseline=not given.no_baseline,
            dump=given.dump,
        ),
        backend_options=LOOP,
    )
    figures = {key + given.suffix: estimate for key, estimate in found.items()}
    print(shown(figures))
    record(figures, seeds=given.seeds, ledger=given.ledger, more={"episodes": given.episodes * len(given.seeds)})


def policy(given: argparse.Namespace, rest: Sequence[str]) -> None:
    """Measure the policy in the real environment."""
    from benchmarks.policy import measure

    settings = load_settings(parse_arguments(rest))
    figures, outcomes = anyio.run(partial(measure, settings, given.work, games=given.games), backend_options=LOOP)
    print(shown(figures))
    record(figures, seeds=[settings.run.seed], ledger=given.ledger, more={"outcomes": outcomes})


def run(given: argparse.Namespace, rest: Sequence[str]) -> None:
    """Measure the default run; `rest` goes to it as it is."""
    from benchmarks.whole_run import measure

    figures, more = measure(given.work.absolute(), seeds=given.seeds, more=rest)
    print(shown(figures))
    record(figures, seeds=given.seeds, ledger=given.ledger, more=more)


def overhead(given: argparse.Namespace, rest: Sequence[str]) -> None:
    """Measure the simulator's own cost."""
    from benchmarks.overhead import measure

    settings = load_settings(parse_arguments(rest))
    figures, more = anyio.run(
        partial(measure, settings, given.work, rounds=given.rounds, say=print), backend_options=LOOP
    )
    print(shown(figures))
    record(figures, seeds=[settings.run.seed], ledger=given.ledger, more=more)


def readme(given: argparse.Namespace, rest: Sequence[str]) -> None:
    """Try the README's commands."""
    from benchmarks.readme import measure

    load_settings(parse_arguments(rest))
    figures, more = measure(given.work.absolute(), seconds=given.seconds)
    print(shown(figures), more)
    record(figures, seeds=[], ledger=given.ledger, more=more)


MEASUREMENTS = {"fidelity": fidelity, "policy": policy, "run": run, "overhead": overhead, "readme": readme}


def main() -> int:
    """Measure what the command names."""
    given, rest = parser().parse_known_args()
    given.work.mkdir(parents=True, exist_ok=True)
    try:
        MEASUREMENTS[given.command](given, rest)
    except UsageError as error:
        print(f"main_job: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
