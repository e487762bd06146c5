"""Measures what holds under attack and load, and writes the figures to benchmarks/results/holds.json.

In: a subcommand, its options, and settings as `python -m dreamsim.run` takes them. Out: figures, printed and recorded.
Always: each subcommand is a module of its own (`benchmarks/holds_<name>.py`) with `add_arguments(parser)` and
`async def measure(given, settings)`; only the one that is asked for is imported.

    python -m benchmarks.holds faults --seeds 0,1,2
    python -m benchmarks.holds all
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import anyio

from benchmarks.ledger import ROOT, portable, record, shown
from benchmarks.main_job import LOOP
from dreamsim.errors import UsageError
from dreamsim.runtime.settings_sources import load_settings, parse_arguments

LEDGER = ROOT / "benchmarks" / "results" / "holds.json"
SAID: Mapping[str, str] = {
    "faults": "whole runs under faults of every kind: tasks accounted for, hangs",
    "kill9": "kill -9 at random moments: what is lost or doubled",
    "loop": "thousands of episodes on a scripted engine: steps per second, lag, memory",
    "retrieval": "search in up to a million experiences: time and recall",
    "peers": "the same work done by other frameworks, in the same run",
}
"""The subcommands that may be there."""


def measurement(name: str) -> ModuleType:
    """The module behind a subcommand."""
    return importlib.import_module(f"benchmarks.holds_{name}")


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The command line; of the subcommands, only those named in `arguments` know their own options."""
    whole = argparse.ArgumentParser(
        prog="python -m benchmarks.holds",
        description=__doc__,
        epilog="Options not named here are settings: see `python -m dreamsim.run --help`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="where measurements keep their files")
    whole.add_argument("--ledger", type=Path, default=LEDGER, help="the file of figures")
    commands = whole.add_subparsers(dest="command", required=True)
    for name, said in SAID.items():
        if find_spec(f"benchmarks.holds_{name}") is not None:
            one = commands.add_parser(name, help=said, allow_abbrev=False)
            if name in arguments:
                measurement(name).add_arguments(one)
    commands.add_parser(
        "all", help="all of these, each with its defaults, and then docs/benchmark.md", allow_abbrev=False
    )
    return whole


def all_of_them(given: argparse.Namespace, rest: Sequence[str]) -> int:
    """Every measurement in a process of its own, then page and picture. Returns 1 if one of them failed."""
    command = [sys.executable, "-m", "benchmarks.holds", "--work", str(given.work), "--ledger", str(given.ledger)]
    peers = given.work.absolute() / "peers" / "bin" / "python"
    failed: list[str] = []
    for name in sorted(SAID):  # `peers` comes before `retrieval`, which needs what it installs
        if find_spec(f"benchmarks.holds_{name}") is not None:
            own = ["--peers", str(peers)] if name == "retrieval" and peers.exists() else []
            if subprocess.run([*command, name, *own, *rest], check=False).returncode:
                failed.append(name)
    subprocess.run([sys.executable, "-m", "benchmarks.holds_page"], check=True)
    if failed:
        print(f"holds: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def main() -> int:
    """Measure what the command names."""
    given, rest = parser(sys.argv[1:]).parse_known_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.command == "all":
        return all_of_them(given, rest)
    try:
        settings = load_settings(parse_arguments(rest))
        figures, more = anyio.run(partial(measurement(given.command).measure, given, settings), backend_options=LOOP)
    except UsageError as error:
        print(f"holds: {error}", file=sys.stderr)
        return 2
    print(shown(figures))
    record(
        figures,
        seeds=given.seeds if "seeds" in given else [settings.run.seed],
        ledger=given.ledger,
        more=more,
        command=["python", "-m", "benchmarks.holds", *portable(sys.argv[1:])],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
