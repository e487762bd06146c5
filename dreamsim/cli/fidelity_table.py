"""An examination as a person reads it in a terminal.

In: an `Examination`. Out: rich tables. Always: every figure with its interval and sample size; what was not measured is
a dash, never a number.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from dreamsim.cli.visible import in_one_line
from dreamsim.evaluation.drift import at_step
from dreamsim.evaluation.examination import Examination
from dreamsim.evaluation.intervals import Estimate
from dreamsim.evaluation.report import Detection

DASH = "–"
DRIFT_AT = (1, 2, 5, 10, 20, 30)


def tables(examination: Examination) -> Iterator[Table | Text]:
    """Everything that was measured, part by part."""
    yield Text(
        f"{in_one_line(examination.model)}: {examination.steps:,} steps of {examination.episodes:,} held-out real "
        "episodes",
        "bold",
    )
    yield _one_step(examination)
    yield _drift(examination)
    yield _errors(examination)
    if examination.ablations:
        yield _ablations(examination)


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    made.add_column("", no_wrap=True, min_width=42)
    for column in columns:
        made.add_column(column, justify="right", no_wrap=True)
    return made


def _row(table: Table, name: str, found: Estimate | None, *, style: str = "share") -> None:
    if found is not None and (found.value is not None or found.n):
        table.add_row(name, shown(found.value, style), interval(found, style), f"{found.n:,}")


def _one_step(examination: Examination) -> Table:
    report = examination.one_step
    made = _table("One step, from the real history", "value", "95 % interval", "n")
    _row(made, "next state exact, where history determines it", report.determined_exact)
    _row(made, "  lines in common, there", report.determined_similarity)
    _row(made, "  exact on all steps", report.exact)
    _row(made, "valid where history does not determine it", report.undetermined_valid)
    _row(made, "a transition at the first try", report.parse_first)
    _row(made, "failures shown as failures", report.failure_shown)
    _row(made, "  reward they earned", report.failure_reward, style="number")
    _row(made, "working actions shown as failures", report.false_failure)
    for name, plain, verified in (
        ("done", report.done, report.verified_done),
        ("success", report.success, report.verified_success),
    ):
        _row(made, f"{name} F1 (precision {_both(plain)})", plain.f1)
        _row(made, f"  verified (precision {_both(verified)})", verified.f1)
    return made


def _both(found: Detection) -> str:
    return f"{shown(found.precision.value, 'share')}, recall {shown(found.recall.value, 'share')}"


def _drift(examination: Examination) -> Table:
    drift = examination.drift
    reached = [k for k in DRIFT_AT if at_step(drift.free, k) is not None]
    made = _table("Agreement with reality after k dreamed steps", *(f"k = {k}" for k in reached))
    for name, curve in (
        ("teacher-forced (the same steps)", drift.teacher_forced),
        ("open loop, where determined", drift.open_loop),
        ("  with the run-time checks", drift.open_loop_checked),
        ("free dream, inventing what it cannot know", drift.free),
    ):
        points = [at_step(curve, k) for k in reached]
        made.add_row(name, *(DASH if point is None else shown(point.value, "share") for point in points))
    counts = [at_step(drift.open_loop, k) for k in reached]
    made.add_row("  n, where determined", *(DASH if point is None else f"{point.n:,}" for point in counts))
    return made


def _errors(examination: Examination) -> Table:
    report, drift, gate, bound = examination.one_step, examination.drift, examination.gate, examination.bounds
    made = _table("Errors, and what follows from them", "value", "95 % interval", "n")
    _row(made, "contradictions in 100 freely dreamed steps", drift.contradictions, style="number")
    _row(made, "  with the run-time check", drift.contradictions_checked, style="number")
    _row(made, "  thrown away by it", drift.rejected_checked, style="number")
    _row(made, "  dreams that ended for it", drift.ended_checked, style="number")
    for name, spread in (
        ("ε_R, error of the reward", report.reward_error),
        ("ε_P, of the transition", report.transition_error),
    ):
        _row(made, f"{name}: mean", spread.mean, style="number")
        levels = ", ".join(f"{level:.0%} {shown(one.value, 'number')}" for level, one in spread.quantiles.items())
        if spread.mean.value is not None:
            made.add_row(f"  quantiles: {levels}", "", "", "")
    if bound is not None:
        made.add_row(
            f"|J - Ĵ| ≤ at horizon {bound.horizon}, mean errors", shown(bound.finite_horizon, "number"), "", ""
        )
        _row(made, "|J - Ĵ| ≤ along the held-out episodes", bound.along_the_way, style="number")
    gap = examination.returns
    if gap is not None:
        _row(made, "return of the policy in reality", gap.real, style="number")
        _row(made, "  in the dream", gap.dreamed, style="number")
        _row(made, "  dreamed minus real", gap.difference, style="number")
    if gate is not None:
        _row(made, "gate: AUROC for a wrong transition", gate.auroc, style="number")
        _row(made, "  expected calibration error", gate.calibration_error, style="number")
    return made


def _ablations(examination: Examination) -> Table:
    made = _table("What is left without", "exact", "minus full model", "failures shown", "success F1", "open loop, 10")
    ten = examination.drift.at(10)
    full = examination.one_step
    made.add_row(
        "(the full model)", *_left(full.determined_exact), "", *_left(full.failure_shown, full.success_f1, ten)
    )
    for name, one in examination.ablations.items():
        moved = f"{shown(one.difference.value, 'signed')} {interval(one.difference, 'signed')}"
        rest = _left(one.report.failure_shown, one.report.success_f1, at_step(one.open_loop, 10))
        made.add_row(name, *_left(one.report.determined_exact), moved, *rest)
    return made


def _left(*found: Estimate | None) -> list[str]:
    return [DASH if one is None else shown(one.value, "share") for one in found]


def shown(value: float | None, style: str) -> str:
    """A value: a `share` in per cent, `signed` in points, else a plain number."""
    if value is None:
        return DASH
    if style == "share":
        return f"{100 * value:.1f} %"
    return f"{100 * value:+.1f} points" if style == "signed" else f"{value:.3g}"


def interval(found: Estimate, style: str) -> str:
    """Its interval, in the same form."""
    if found.low is None or found.high is None:
        return DASH
    if style == "share":
        return f"{100 * found.low:.1f} – {100 * found.high:.1f}"
    if style == "signed":
        return f"({100 * found.low:+.1f} – {100 * found.high:+.1f})"
    return f"{found.low:.3g} – {found.high:.3g}"
