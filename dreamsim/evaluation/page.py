"""One page of plots of an examination, for looking at.

In: an `Examination`. Out: a picture (PNG, SVG or PDF by the file's name). Always: intervals are drawn wherever there
are any; a panel without anything to show says why; nothing depends on a display.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamsim.evaluation.drift import Point, at_step
from dreamsim.evaluation.examination import Examination
from dreamsim.evaluation.gate import GateReport
from dreamsim.evaluation.intervals import Estimate
from dreamsim.evaluation.returns import Bounds, ReturnGap
from dreamsim.evaluation.theory import finite_horizon

INK, FAINT, GRID = "#22303c", "#6b7780", "#e6eaee"
REAL, DREAM, FREE, WRONG = "#2f6f9f", "#d9822b", "#8a6fb0", "#b03a48"
SIZE = (17.0, 10.4)
"""Inches."""
FEW = 8
"""A point of a curve that rests on fewer steps is left out."""
VERBS = 9
"""Verbs shown, the most frequent ones."""

Axes = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a dot chart."""

    label: str
    """What it is."""
    found: Estimate
    """Where the dot is."""
    colour: str = REAL
    """Its colour."""


def draw(examination: Examination, path: Path) -> None:
    """Draw the page to `path`. Blocks for a second or two.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 10, "text.color": INK, "axes.edgecolor": FAINT, "svg.fonttype": "none"}):
        figure = Figure(figsize=SIZE, dpi=110, facecolor="white")
        FigureCanvasAgg(figure)
        _header(figure, examination)
        top = figure.add_gridspec(
            1, 2, left=0.155, right=0.98, top=0.855, bottom=0.52, wspace=0.12, width_ratios=(2, 5)
        )
        _one_step(figure.add_subplot(top[0]), examination)
        _drift(figure.add_subplot(top[1]), examination)
        low = figure.add_gridspec(
            1, 4, left=0.075, right=0.965, top=0.40, bottom=0.075, wspace=0.46, width_ratios=(1.0, 1.05, 1.0, 0.9)
        )
        _verbs(figure.add_subplot(low[0]), examination)
        _bound(figure.add_subplot(low[1]), examination.bounds, examination.returns, examination)
        _gate(figure.add_subplot(low[2]), examination.gate)
        _comparison(figure.add_subplot(low[3]), examination)
        figure.savefig(path, facecolor="white")


def _header(figure: Any, examination: Examination) -> None:
    report = examination.one_step
    figure.text(0.022, 0.958, "How far the dream is from reality", fontsize=21, fontweight="bold", va="center")
    figure.text(
        0.022,
        0.922,
        f"{label_of(examination.model, 60)}  ·  {examination.steps:,} steps of {examination.episodes:,} held-out real "
        "episodes  ·  95 % intervals",
        fontsize=11,
        color=FAINT,
        va="center",
    )
    ten = examination.drift.at(10)
    figures = [
        ("exact, where determined", _percent(report.determined_exact)),
        ("failures shown", _percent(report.failure_shown)),
        ("open loop at 10 steps", _percent(ten)),
        ("contradictions / 100 steps", _number(examination.drift.contradictions)),
    ]
    for place, (name, said) in enumerate(reversed(figures)):
        at = 0.98 - 0.118 * place
        figure.text(at, 0.965, said, fontsize=19, fontweight="bold", color=REAL, ha="right", va="center")
        figure.text(at, 0.931, name, fontsize=9, color=FAINT, ha="right", va="center")


def label_of(name: str, most: int = 24) -> str:
    """A foreign name as text of a figure: cut, printable, and no formula, which a `$` would begin."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    return (shown if len(shown) <= most else shown[: most - 1] + "…").replace("$", r"\$")


def _percent(found: Estimate | None) -> str:
    return "–" if found is None or found.value is None else f"{100 * found.value:.1f} %"


def _number(found: Estimate | None) -> str:
    return "–" if found is None or found.value is None else f"{found.value:.2f}"


def _panel(axes: Axes, title: str, *, below: str = "") -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=24 if below else 10)
    if below:
        axes.text(0, 1.025, below, transform=axes.transAxes, fontsize=9, color=FAINT, va="bottom")
    axes.grid(color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=FAINT, labelcolor=INK, length=3)


def _empty(axes: Axes, title: str, why: str) -> None:
    _panel(axes, title)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=FAINT, wrap=True)


def _dots(axes: Axes, rows: Sequence[Row], *, counts: bool = True) -> None:
    """Dots with intervals, the first row on top; shares of 1 as per cent."""
    rows = [row for row in rows if row.found.value is not None]
    for place, row in enumerate(rows):
        value = 100 * (row.found.value or 0.0)
        if row.found.low is not None and row.found.high is not None:
            axes.plot([100 * row.found.low, 100 * row.found.high], [place, place], color=row.colour, lw=5, alpha=0.3)
        axes.plot([value], [place], "o", color=row.colour, ms=7, mec="white", mew=1)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    if counts:
        for place, row in enumerate(rows):
            said = f"{100 * (row.found.value or 0.0):.1f}"
            axes.text(1.015, place, said, transform=axes.get_yaxis_transform(), fontsize=9, color=INK, va="center")
    lows = [100 * (row.found.low if row.found.low is not None else row.found.value or 0.0) for row in rows]
    least = min(lows, default=0.0)
    axes.set_xlim(max(0.0, 10 * np.floor(least / 10) - 2) if least > 12 else -2, 102)


def _one_step(axes: Axes, examination: Examination) -> None:
    report = examination.one_step
    _panel(axes, "One step", below="foretold from the real history, per cent")
    _dots(
        axes,
        [
            Row(label="exact, where determined", found=report.determined_exact),
            Row(label="lines in common, there", found=report.determined_similarity),
            Row(label="valid, where not determined", found=report.undetermined_valid),
            Row(label="failures shown as such", found=report.failure_shown),
            Row(label="done F1", found=report.done.f1, colour=DREAM),
            Row(label="… verified", found=report.verified_done.f1),
            Row(label="success F1", found=report.success.f1, colour=DREAM),
            Row(label="… verified", found=report.verified_success.f1),
        ],
    )


def _curve(axes: Axes, points: Sequence[Point], label: str, colour: str, *, dashed: bool = False) -> None:
    points = [point for point in points if point.agreement.n >= FEW]
    if not points:
        return
    k = [point.k for point in points]
    value = [100 * (point.agreement.value or 0.0) for point in points]
    low = [100 * (point.agreement.low or 0.0) for point in points]
    high = [100 * (point.agreement.high if point.agreement.high is not None else 1.0) for point in points]
    axes.fill_between(k, low, high, color=colour, alpha=0.14, lw=0)
    axes.plot(k, value, color=colour, lw=2.2, ls="--" if dashed else "-", marker="o", ms=3.5, label=label)


def _drift(axes: Axes, examination: Examination) -> None:
    drift = examination.drift
    _panel(axes, "Drift", below="state and outcome as in reality, per cent, k steps after the dream last saw it")
    _curve(axes, drift.teacher_forced, "teacher-forced", REAL, dashed=True)
    _curve(axes, drift.open_loop, "open loop, where determined", DREAM)
    _curve(axes, drift.open_loop_checked, "with checks", DREAM, dashed=True)
    _curve(axes, drift.free, "free dream, inventing too", FREE)
    most = max((point.k for point in (*drift.open_loop, *drift.free)), default=1)
    axes.set_xlim(0.5, most + 0.5)
    axes.set_ylim(-2, 103)
    axes.set_xlabel("k, dreamed steps", color=INK)
    ten = at_step(drift.open_loop, 10)
    if ten is not None and ten.value is not None:
        axes.axvline(10, color=FAINT, lw=1, ls=":")
        axes.annotate(
            f"{100 * ten.value:.0f} % at 10 (n = {ten.n:,})",
            (10, 100 * ten.value),
            xytext=(6, -30),
            textcoords="offset points",
            color=DREAM,
            fontweight="bold",
            bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1.5},
        )
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.06), ncols=4, frameon=False, fontsize=9, columnspacing=1.0)


def _verbs(axes: Axes, examination: Examination) -> None:
    by_verb: Mapping[str, Estimate] = examination.one_step.exact_by_verb
    if not by_verb:
        _empty(axes, "By verb", "nothing that the history determines")
        return
    _panel(axes, "By verb", below="exact where determined, per cent; the most frequent")
    shown = list(by_verb.items())[:VERBS]
    shown.sort(key=lambda item: item[1].value or 0.0)
    _dots(axes, [Row(label=label_of(name), found=found) for name, found in shown])


def _bound(axes: Axes, bound: Bounds | None, gap: ReturnGap | None, examination: Examination) -> None:
    title = "Return: bound and measured gap"
    report = examination.one_step
    of_reward, of_step = report.reward_error.mean, report.transition_error.mean
    if bound is None or of_reward.value is None or of_step.value is None:
        _empty(axes, title, "nothing that the history determines")
        return
    _panel(axes, title, below=r"$|J-\hat{J}| \leq \varepsilon_R + 1-(1-\varepsilon_P)^H$, with mean errors")
    horizons = np.arange(0, bound.horizon + 1)
    label = rf"bound: $\varepsilon_R$ = {of_reward.value:.3g}, $\varepsilon_P$ = {of_step.value:.3g}"

    def curve(reward: float | None, step: float | None) -> list[float]:
        return [
            finite_horizon(reward_error=reward or 0.0, transition_error=min(1.0, step or 0.0), horizon=float(h))
            for h in horizons
        ]

    axes.fill_between(
        horizons, curve(of_reward.low, of_step.low), curve(of_reward.high, of_step.high), color=REAL, alpha=0.14, lw=0
    )
    axes.plot(horizons, curve(of_reward.value, of_step.value), color=REAL, lw=2.2, label=label)
    found = None if gap is None else gap.absolute
    if gap is not None and found is not None and found.value is not None:
        high = found.value if found.high is None else found.high
        axes.errorbar(
            [min(float(bound.horizon), gap.steps)],
            [found.value],
            yerr=[[found.value - (found.low or 0.0)], [high - found.value]],
            fmt="D",
            color=DREAM,
            ms=7,
            capsize=4,
            lw=2,
            label=f"measured gap {found.value:.3f} (n = {found.n:,})",
        )
    axes.set_xlabel("H, steps", color=INK)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0, bound.horizon)
    axes.legend(loc="upper left", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)


def _gate(axes: Axes, gate: GateReport | None) -> None:
    title = "Uncertainty gate"
    if gate is None:
        _empty(axes, title, "nothing to calibrate:\nno features, or too few wrong steps")
        return
    area, error = _number(gate.auroc), _number(gate.calibration_error)
    _panel(axes, title, below=f"AUROC {area}, expected calibration error {error}")
    axes.plot([0, 100], [0, 100], color=FAINT, lw=1, ls="--")
    most = max((one.wrong.n for one in gate.reliability), default=1)
    for one in gate.reliability:
        if one.wrong.value is None:
            continue
        at = 100 * one.score
        axes.plot([at, at], [100 * (one.wrong.low or 0.0), 100 * (one.wrong.high or 0.0)], color=WRONG, lw=4, alpha=0.3)
        axes.scatter([at], [100 * one.wrong.value], s=25 + 230 * one.wrong.n / most, color=WRONG, ec="white", zorder=3)
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("chance of an error that the gate says, %", color=INK)
    axes.set_ylabel("steps that were wrong, %", color=INK)


def _comparison(axes: Axes, examination: Examination) -> None:
    """What is left without a part; where nothing was taken away, the environments."""
    report = examination.one_step
    if examination.ablations:
        _panel(axes, "Ablations", below="exact where determined, per cent")
        rows = [Row(label="full model", found=report.determined_exact)]
        rows += [
            Row(label=f"without\n{label_of(name)}", found=one.report.determined_exact, colour=DREAM)
            for name, one in examination.ablations.items()
        ]
    else:
        _panel(axes, "By environment", below="exact where determined, per cent")
        environments = report.exact_by_environment.items()
        rows = [Row(label=label_of(name.rpartition("/")[2]), found=found) for name, found in environments]
    _dots(axes, rows)
