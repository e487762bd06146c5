"""benchmarks/results/*.json: every figure with what is needed to believe it or to measure it again.

In: estimates. Out: the file, with the figures replaced that were measured now and all others as they were.
Always: each figure names value, interval, sample size, seeds, command, commit and machine; `dirty` commits say so.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamsim.evaluation.intervals import Estimate
from dreamsim.runtime.whole_files import write_whole

ROOT = Path(__file__).parents[1]
LEDGER = ROOT / "benchmarks" / "results" / "main-job.json"
PLACES = ("--work", "--ledger")
"""Options that say where files are kept."""


def record(
    figures: Mapping[str, Estimate],
    *,
    seeds: Sequence[int],
    ledger: Path = LEDGER,
    more: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
) -> None:
    """Write `figures`; `more` goes beside each value, and so does `command`, by default that of the main job."""
    known: dict[str, Any] = json.loads(ledger.read_text(encoding="utf-8")) if ledger.is_file() else {}
    common = {
        "seeds": list(seeds),
        "command": " ".join(command or ["python", "-m", "benchmarks.main_job", *portable(sys.argv[1:])]),
        "commit": commit(),
        "machine": machine(),
    }
    for key, estimate in figures.items():
        known[key] = {
            "value": rounded(estimate.value),
            "low": rounded(estimate.low),
            "high": rounded(estimate.high),
            "n": estimate.n,
            **common,
            **(more or {}),
        }
    ledger.parent.mkdir(parents=True, exist_ok=True)
    write_whole(ledger, json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n")


def portable(arguments: Sequence[str]) -> list[str]:
    """`arguments` without what says where files are kept (`--work`, `--ledger`), and every other absolute path, also
    behind `=`, cut to its name, with the directory before it where that is not near the root."""
    kept: list[str] = []
    place = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if place or name in PLACES:
            place = name in PLACES and not equals and not place
        elif equals and name.startswith("--"):
            kept.append(f"{name}={_short(value)}")
        else:
            kept.append(_short(argument))
    return kept


def _short(text: str) -> str:
    if not text.startswith(("/", "~")):
        return text
    parts = Path(text).parts[1:]
    return "/".join(parts[-2:] if len(parts) > 3 else parts[-1:])


def rounded(value: float | None) -> float | None:
    """Six decimal places."""
    return None if value is None else round(value, 6)


def commit() -> str:
    """The commit measured; with `-dirty` if files of the packages differ from it."""
    said = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    packages = ("dreamsim", "adapters", "trainers", "benchmarks/*.py")
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", *packages],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return said + ("-dirty" if changed.strip() else "")


def machine() -> str:
    """Processor, cores this process may use, memory, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def shown(figures: Mapping[str, Estimate]) -> str:
    """The figures as lines."""
    return "\n".join(f"{key:<40} {_shown(estimate)}  n={estimate.n}" for key, estimate in figures.items())


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return "none"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f}  [{estimate.low:.4f}, {estimate.high:.4f}]"
