"""Measures the figures of the main job and writes them to benchmarks/results/main-job.json.

In: a subcommand, its options, and settings as `python -m dreamsim.run` takes them. Out: figures, printed and recorded.
Always: each subcommand can be repeated; what it collected or finished before is not done again.

    python -m benchmarks.main_job fidelity --seeds 0,1,2 --episodes 300
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from benchmarks.ledger import LEDGER, record, shown
from dreamsim.errors import UsageError
from dreamsim.runtime.settings_sources import load_settings, parse_arguments


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
    return whole


def fidelity(given: argparse.Namespace, rest: Sequence[str]) -> None:
    """Measure fidelity."""
    from benchmarks.fidelity import measure

    settings = load_settings(parse_arguments(rest))

    async def run() -> None:
        found = await measure(
            settings,
            given.work,
            seeds=given.seeds,
            episodes=given.episodes,
            baseline=not given.no_baseline,
            dump=given.dump,
        )
        figures = {key + given.suffix: estimate for key, estimate in found.items()}
        print(shown(figures))
        record(figures, seeds=given.seeds, ledger=given.ledger)

    anyio.run(run, backend_options={"use_uvloop": True})


def main() -> int:
    """Measure what the command names."""
    given, rest = parser().parse_known_args()
    given.work.mkdir(parents=True, exist_ok=True)
    try:
        {"fidelity": fidelity}[given.command](given, rest)
    except UsageError as error:
        print(f"main_job: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
