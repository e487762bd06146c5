"""What `benchmarks.closed_loop` found: docs/closed-loop.md, its picture, and the figures asked for.

In: the files of results. Out: a Markdown table between markers, a PNG, keys of a ledger.
Always: shares are means over seeds with Student's t interval, differences are of the same seed; a row of which fewer
than two seeds are finished has no interval, and says how many seeds it has.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ledger import ROOT, record
from dreamsim.evaluation.intervals import Estimate, over_seeds
from dreamsim.runtime.whole_files import write_whole

CLOSED_LOOP = ROOT / "benchmarks" / "results" / "closed-loop.json"
RESULTS = ROOT / "benchmarks" / "results" / "closed-loop"
"""One file for every row and seed that is finished."""
BEGIN, END = "<!-- table -->", "<!-- end of the table -->"
COMMAND = ["python", "-m", "benchmarks.closed_loop"]
CURVES = {
    "grpo_dream_large": "#f472b6",
    "grpo_dream_long": "#fdba74",
    "grpo_dream": "#ea580c",
    "grpo_real": "#3b82f6",
    "ppo_dream": "#facc15",
    "ppo_real": "#93c5fd",
}
POINTS = 20
"""Rise in real success that `seconds_to_20_points` waits for."""

Results = Mapping[str, Mapping[int, Mapping[str, Any]]]


def write_page(directory: Path, names: Mapping[str, str], *, docs: Path, ledger: Path) -> None:
    """Table, picture and figures of what is finished."""
    found = results(directory)
    if not found:
        print("nothing is finished yet")
        return
    table = markdown(found, names)
    print(table)
    page = docs / "closed-loop.md"
    text = page.read_text(encoding="utf-8") if page.exists() else f"# The closed loop\n\n{BEGIN}\n{END}\n"
    between = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    write_whole(page, between.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text))
    draw(found, names, docs / "closed-loop.png")
    measured = ", ".join(sorted({one["commit"] for seeds in found.values() for one in seeds.values()}))
    for key, (estimate, seeds) in figures(found).items():
        record({key: estimate}, seeds=seeds, ledger=ledger, command=COMMAND, more={"commit": measured})


def results(directory: Path) -> Results:
    """By row and seed."""
    found: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for path in sorted(directory.glob("*-*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        if "row" in told:
            found[told["row"]][told["seed"]] = told
    return found


def markdown(found: Results, names: Mapping[str, str]) -> str:
    """The table."""
    games = sorted({game for seeds in found.values() for one in seeds.values() for game in one["by_game"]})
    head = ["trained by", "real success", *games, "real transitions", "dreamed", "minutes", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row, name in names.items():
        seeds = found.get(row)
        if not seeds:
            continue
        every = list(seeds.values())
        cells = [name, percent(over_seeds([one["success"] for one in every]))]
        cells += [f"{100 * mean([one['by_game'][game] for one in every]):.0f}" for game in games]
        cells += [f"{mean([one[key] for one in every]):,.0f}" for key in ("real", "dreamed")]
        cells += [f"{mean([one['wall_s'] for one in every]) / 60:.1f}", str(len(every))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean(values: Sequence[float]) -> float:
    """Arithmetic."""
    return sum(values) / len(values)


def percent(found: Estimate) -> str:
    """`41.2 % [38.0, 44.4]`."""
    if found.value is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{100 * found.value:.1f} %"
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def figures(found: Results) -> dict[str, tuple[Estimate, list[int]]]:
    """The figures asked for, each with its seeds; only those whose rows are finished."""
    made: dict[str, tuple[Estimate, list[int]]] = {}

    def differ(key: str, row: str, other: str, scale: float = 1.0) -> None:
        seeds = sorted(set(found.get(row, {})) & set(found.get(other, {})))
        if seeds:
            values = [scale * (found[row][seed]["success"] - found[other][seed]["success"]) for seed in seeds]
            made[key] = over_seeds(values), seeds

    differ("real_gain_points", "grpo_dream_large", "before", 100.0)
    differ("real_gain_points.24_updates", "grpo_dream_long", "before", 100.0)
    differ("real_gain_points.14_updates", "grpo_dream", "before", 100.0)
    differ("real_gain_points.ppo", "ppo_dream", "before", 100.0)
    for algorithm, mark in (("grpo", ""), ("ppo", ".ppo")):
        differ(f"dream_minus_real{mark}", f"{algorithm}_dream", f"{algorithm}_real")
        differ(f"s2r_minus_real{mark}", f"{algorithm}_dream_real", f"{algorithm}_real")
    for part in ("replay", "reasoning", "curriculum"):
        differ(f"ablation_no_{part}", f"no_{part}", "grpo_dream")
    for row, seeds in found.items():
        numbers = sorted(seeds)
        made[f"success.{row}"] = over_seeds([seeds[seed]["success"] for seed in numbers]), numbers
    dreamed = found.get("grpo_dream", {})
    if dreamed:
        before = untrained(found)
        times = {seed: seconds_to(one["curve"], before) for seed, one in sorted(dreamed.items())}
        reached = [time for time in times.values() if time is not None]
        none = Estimate(value=None, low=None, high=None, n=len(reached))
        made["seconds_to_20_points"] = over_seeds(reached) if len(reached) == len(times) else none, list(times)
    return made


def untrained(found: Results) -> float:
    """Success of the untrained policy on the dev games: all rows begin with it, on the same games, so that the mean of
    all their first evaluations is known better than any of them."""
    return mean([one["curve"][0]["success"] for seeds in found.values() for one in seeds.values() if begins(one)])


def begins(told: Mapping[str, Any]) -> bool:
    """Whether a row's curve begins with the untrained policy."""
    return bool(told["curve"]) and not told["row"].endswith("_dream_real")


def seconds_to(curve: Sequence[Mapping[str, float]], before: float) -> float | None:
    """Wall time, evaluations included, until the dev games are first solved `POINTS` points more often."""
    return next((one["elapsed_s"] for one in curve if 100 * (one["success"] - before) >= POINTS), None)


def draw(found: Results, names: Mapping[str, str], path: Path) -> None:
    """Success on real dev games over training episodes, one line a row, mean of seeds with their spread."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    _curves(left, found, names, lambda point: point["episodes"])
    left.set_xlabel("training episodes")
    left.set_ylabel("real success on dev games, per cent")
    left.set_title("Learning curves", loc="left", fontweight="bold")
    rows = [row for row in names if row in found]
    for place, row in enumerate(reversed(rows)):
        estimate = over_seeds([one["success"] for one in found[row].values()])
        value = 100 * (estimate.value or 0.0)
        right.barh(place, value, color=CURVES.get(row, "#a8a29e"), height=0.62)
        if estimate.low is not None and estimate.high is not None:
            right.plot([100 * estimate.low, 100 * estimate.high], [place, place], color="#292524", lw=1.4)
        right.text(1, place, names[row], va="center", fontsize=8.5)
    right.set_yticks([])
    right.set_xlim(0, 100)
    right.set_xlabel("real success on test games, per cent, with 95 % interval over seeds")
    right.set_title("After training", loc="left", fontweight="bold")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x" if axes is right else "both", color="#e7e5e4", lw=0.8)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _curves(axes: Any, found: Results, names: Mapping[str, str], where: Callable[[Mapping[str, float]], float]) -> None:
    for row, colour in CURVES.items():
        curves = [one["curve"] for one in found.get(row, {}).values() if one["curve"]]
        if not curves:
            continue
        length = min(map(len, curves))
        places = [mean([where(curve[index]) for curve in curves]) for index in range(length)]
        values = [[100 * curve[index]["success"] for curve in curves] for index in range(length)]
        axes.plot(places, [mean(one) for one in values], color=colour, lw=2, marker="o", ms=3.5, label=names[row])
        axes.fill_between(places, [min(one) for one in values], [max(one) for one in values], color=colour, alpha=0.13)
    axes.set_ylim(0, 100)
    if axes.lines:
        axes.legend(frameon=False, fontsize=9)
