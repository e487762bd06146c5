"""The benchmark's page and picture, from the figures that are in the ledger.

In: benchmarks/results/holds.json. Out: the tables of docs/benchmark.md, between its markers, and docs/benchmark.png.
Always: a figure that was not measured is shown as missing; what is around the markers stays.

    python -m benchmarks.holds_page
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ledger import ROOT
from dreamsim.cli.run_directory import write_whole

LEDGER = ROOT / "benchmarks" / "results" / "holds.json"
PAGE = ROOT / "docs" / "benchmark.md"
PICTURE = ROOT / "docs" / "benchmark.png"
BEGIN = "<!-- figures: python -m benchmarks.holds_page -->"
END = "<!-- end of figures -->"

ASKED = (
    ("episodes_16384_accounted", "16,384 episodes alive: share accounted for", "1"),
    ("steps_per_s", "steps per second at 2,048, stored and indexed", "at least 2,000"),
    ("steps_per_s_nostore", "the same without a store", "at least 8,000"),
    ("lag_p99_2048", "loop lag p99 at 2,048, ms", "at most 50"),
    ("lag_p99_16384", "loop lag p99 at 16,384, ms", "at most 250"),
    ("episode_kib", "memory per live episode beyond its tokens, KiB", "at most 24"),
    ("retrieval_p99_ms", "retrieval among a million, p99 per query, ms", "at most 5"),
    ("recall_at_4", "recall@4 against exact search", "at least 0.95"),
    ("kill9_lost", "kill -9 trials with something lost or doubled", "0"),
    ("faults_accounted", "runs under 1 % faults: tasks accounted for", "1"),
    ("hangs", "runs under 1 % faults: hangs", "0"),
)
"""Key, what it says, what was asked for."""


def page(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables as Markdown."""
    lines = ["| figure | asked | measured | key |", "|---|---|---|---|"]
    for key, said, asked in ASKED:
        lines.append(f"| {said} | {asked} | {_shown(figures.get(key))} | `{key}` |")
    others = sorted(set(figures) - {key for key, _, _ in ASKED})
    lines += ["", "Everything else that was measured:", "", "| key | value | n |", "|---|---|---|"]
    lines += [f"| `{key}` | {_shown(figures[key])} | {figures[key]['n']} |" for key in others]
    where = sorted({f"{one['machine']}, commit {one['commit']}" for one in figures.values()})
    return "\n".join([*lines, "", *(f"Measured on: {place}." for place in where)])


def _shown(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "not measured"
    value, low, high = figure["value"], figure["low"], figure["high"]
    span = "" if low is None or high is None else f" ({low:,.4g} to {high:,.4g})"
    return f"{value:,.4g}{span}"


def draw(figures: Mapping[str, Mapping[str, Any]], path: Path) -> bool:
    """Steps per second over the number of episodes alive. Returns whether there was anything to draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    name = "growth_steps_per_s."
    points = sorted((int(key.removeprefix(name)), one["value"]) for key, one in figures.items() if key.startswith(name))
    if not points:
        return False
    figure, axes = pyplot.subplots(figsize=(5, 3), dpi=100, layout="constrained")
    axes.plot(*zip(*points, strict=True), marker="o")
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("episodes alive")
    axes.set_ylabel("steps per second, stored and indexed")
    figure.savefig(path)
    pyplot.close(figure)
    return True


def main() -> None:
    """Write page and picture."""
    figures = json.loads(LEDGER.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE} has no markers {BEGIN} and {END}")
    write_whole(PAGE, f"{before}{BEGIN}\n\n{page(figures)}\n\n{END}{after}")
    draw(figures, PICTURE)


if __name__ == "__main__":
    main()
