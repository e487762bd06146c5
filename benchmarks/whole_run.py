"""The default run as a user starts it: `python -m dreamsim.run --concurrency 2048`, timed from outside.

In: how often, more settings if any. Out: `default_run_seconds`, `alive_peak`, `tasks_accounted`, `main_rss_mib`.
Always:
- the time is from starting the process to its end, everything in between included;
- memory is the largest that the kernel has seen of the main process (`VmHWM`), not of vLLM's;
- whether every task has its episode is read from the store; a repeat that finished is not run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from dreamsim.evaluation.intervals import Estimate, over_seeds
from dreamsim.store.store import open_store

ROOT = Path(__file__).parents[1]
CONCURRENCY = 2048
LOOK_S = 0.5


def run_once(place: Path, seed: int, more: Sequence[str]) -> dict[str, Any]:
    """Run in the directory `place`, or read what an earlier call measured there."""
    kept = place / "measured.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    place.mkdir(parents=True, exist_ok=True)
    directory = place / f"run-{time.time_ns()}"  # one that was cut short is left for a person to look at
    command = [sys.executable, "-m", "dreamsim.run", "--concurrency", str(CONCURRENCY), "--directory", str(directory)]
    if seed:
        command += ["--seed", str(seed)]
    packages = os.pathsep.join(str(ROOT / part) for part in (".", "adapters", "trainers"))
    with (place / "output.txt").open("w") as output:
        begun = time.monotonic()
        process = subprocess.Popen(
            [*command, *more], env={**os.environ, "PYTHONPATH": packages}, stdout=output, stderr=subprocess.STDOUT
        )
        rss = 0.0
        while process.poll() is None:
            rss = max(rss, peak_mib(process.pid))
            time.sleep(LOOK_S)
        seconds = time.monotonic() - begun
    if process.returncode != 0:
        raise SystemExit(f"the run ended with {process.returncode}: see {place / 'output.txt'}")
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    ids = anyio.run(stored_ids, Path(summary["store"]), summary["run"])
    found = {
        "seconds": seconds,
        "set_up_s": summary["set_up_s"],
        "run_s": summary["run_s"],
        "alive_peak": summary["alive_peak"],
        "expected": summary["episodes_expected"],
        "stored": ids,
        "rss_mib": max(rss, summary["rss_peak_mib"]),
        "summary": summary,
    }
    kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


async def stored_ids(path: Path, run: str) -> int:
    """Episodes of `run` in the store, each id once."""
    async with open_store(path, encoder=None, read_only=True) as store:
        return len(await store.finished_ids(run))


def peak_mib(process_id: int) -> float:
    """Largest resident memory of a process so far, MiB; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    sizes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return sizes[0] / 1024 if sizes else 0.0


def measure(work: Path, *, seeds: Sequence[int], more: Sequence[str]) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """Estimates by key, and what the runs said of themselves."""
    runs = [run_once(work / f"run-seed-{seed}", seed, more) for seed in seeds]
    expected = sum(run["expected"] for run in runs)
    stored = sum(run["stored"] for run in runs)
    figures = {
        "default_run_seconds": over_seeds([run["seconds"] for run in runs]),
        "alive_peak": census(min(run["alive_peak"] for run in runs), len(runs)),
        "tasks_accounted": census(stored / expected, expected),
        "main_rss_mib": census(max(run["rss_mib"] for run in runs), len(runs)),
    }
    more_figures = {"set_up_s": [run["set_up_s"] for run in runs], "run_s": [run["run_s"] for run in runs]}
    return figures, more_figures


def census(value: float, n: int) -> Estimate:
    """A value that is no sample: everything was counted, or it is the worst of the runs."""
    return Estimate(value=value, low=None, high=None, n=n)
