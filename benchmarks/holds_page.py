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
from dreamsim.runtime.whole_files import write_whole

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
    ("overhead_ratio", "wall time over that of the bare engine, same requests on vLLM", "at most 1.05"),
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


GROWTH = (
    ("growth_steps_per_s.", "steps per second", "an engine that takes no time; stored and indexed"),
    ("growth_rss_mib.", "memory, MiB", "peak of the whole process"),
)


def draw(figures: Mapping[str, Mapping[str, Any]], path: Path) -> bool:
    """Rate and memory over the number of episodes alive. Returns whether there was anything to draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = [_points(figures, prefix) for prefix, _, _ in GROWTH]
    if not all(curves):
        return False
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.6), dpi=100, layout="constrained")
    for axes, points, (_, title, below) in zip(panels, curves, GROWTH, strict=True):
        sizes, values = zip(*points, strict=True)
        axes.plot(sizes, values, marker="o", color="#2f6da1", lw=2)
        for size, value in points:
            axes.annotate(f"{value:,.0f}", (size, value), xytext=(0, 7), textcoords="offset points", ha="center")
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(sizes), [f"{size:,}" for size in sizes])
        axes.set_ylim(0, 1.15 * max(values))
        axes.set_xlabel("episodes alive")
        axes.set_title(f"{title}: {below}", loc="left", fontsize=10)
        axes.grid(color="#e7e5e4")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    pyplot.close(figure)
    return True


def _points(figures: Mapping[str, Mapping[str, Any]], prefix: str) -> list[tuple[int, float]]:
    return sorted(
        (int(key.removeprefix(prefix)), one["value"]) for key, one in figures.items() if key.startswith(prefix)
    )


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
