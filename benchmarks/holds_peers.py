"""The loop beside other frameworks in the same run: `peer_<name>_steps_per_s`, and ours of the same minutes.

In: episodes at once, steps of each, a Python that has the peers (one is made in `--work` if none is named). Out: steps
per second of each, and `peer_<name>_ratio`: ours over theirs. Always:
- one after the other on the same machine, ours before and after, of which the better counts;
- a peer that cannot be installed or fails is in the file with the reason, and has no figure;
- ours stores and indexes everything; inspect_ai writes its log; Gymnasium keeps nothing, and has a process for each
  environment, so it runs 64 of them at once at most. verifiers v1 is not measured: it runs each rollout as a program in
  a process of its own that asks an HTTP server of the framework, and 2,048 processes are more than this machine holds.

    python -m benchmarks.holds peers --alive 2048
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from anyio import to_thread

from benchmarks.holds_loop import Case, best, measured, prepared
from benchmarks.ledger import ROOT
from dreamsim.evaluation.intervals import Estimate

PACKAGES = ("inspect_ai", "gymnasium", "sqlite-vec", "apsw", "lancedb", "numpy", "pyarrow")
LOOPS = ("inspect_ai", "gymnasium")
LEFT_OUT = {"verifiers": "not measured: each rollout is a program in a process of its own that asks an HTTP server"}
LIMIT_S = 1800


def python_with_peers(work: Path) -> Path:
    """A Python with the peers, made in `work` if it is not there.

    Raises:
        SystemExit: they cannot be installed.
    """
    place = work / "peers"
    python = place / "bin" / "python"
    if not (place / "ready").is_file():
        venv.create(place, with_pip=True, clear=True)
        if subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=False).returncode:
            raise SystemExit(f"the peers cannot be installed: {' '.join(PACKAGES)}")
        (place / "ready").touch()
    return python


def peer(python: Path, name: str, alive: int, steps: int) -> dict[str, Any]:
    """What a peer does, or why it does not."""
    script = ROOT / "benchmarks" / "peers_loop.py"
    with tempfile.TemporaryDirectory() as place:
        try:
            done = subprocess.run(
                [python, script, name, str(alive), str(steps), place],
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=True,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {LIMIT_S} s"}
        except subprocess.CalledProcessError as error:
            return {"failed": (error.stderr.strip().splitlines() or ["no reason given"])[-1]}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m benchmarks.holds peers`."""
    parser.add_argument("--alive", type=int, default=2048, help="episodes at once")
    parser.add_argument("--steps", type=int, default=12, help="steps of each, for the peers; ours are real episodes")
    parser.add_argument("--python", type=Path, help="a Python that has the peers")


async def measure(given: argparse.Namespace, settings: Any) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """All figures."""
    del settings
    work: Path = await to_thread.run_sync(given.work.absolute)
    return await to_thread.run_sync(_measure, given, work)


def _measure(given: argparse.Namespace, work: Path) -> tuple[dict[str, Estimate], dict[str, Any]]:
    prepared(work)
    python: Path = given.python or python_with_peers(work)
    case = Case(alive=given.alive, episodes=given.alive)
    mine = [measured(case, work)["steps_per_s"]]
    found: dict[str, dict[str, Any]] = {name: {"failed": reason} for name, reason in LEFT_OUT.items()}
    for name in LOOPS:
        found[name] = peer(python, name, given.alive, given.steps)
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    mine.append(measured(case, work)["steps_per_s"])
    figures = {"peer_ours_steps_per_s": best(mine)}
    for name, one in found.items():
        if "steps_per_s" in one:
            theirs = one["steps_per_s"]
            figures[f"peer_{name}_steps_per_s"] = Estimate(value=theirs, low=None, high=None, n=1)
            figures[f"peer_{name}_ratio"] = Estimate(value=max(mine) / theirs, low=None, high=None, n=1)
    return figures, {"peers": found}
