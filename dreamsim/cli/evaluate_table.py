"""The table of `dreamsim evaluate`.

In: a `PolicyReport`. Out: text. Always: an interval beside every share and mean; errors are shown; what was played in a
dream says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from dreamsim.cli.figures import DASH, counted, percent
from dreamsim.evaluation.intervals import Estimate, over_seeds
from dreamsim.evaluation.success import PolicyFigures, PolicyReport


def render_report(report: PolicyReport, *, by_seed: Mapping[int, float | None] | None = None) -> str:
    """Policy, place, one row for every kind of game and one for all."""
    where = "the real environment" if report.source == "real" else f"the dream of {report.environment}"
    rows = [*report.by_game.items(), ("all", report.overall)] if len(report.by_game) > 1 else [*report.by_game.items()]
    table = [("game", "episodes", "success (95 %)", "return", "steps"), *(_row(name, one) for name, one in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    lines = [f"{report.policy} in {where}, {report.overall.tasks:,} games"]
    lines += ["  " + "  ".join(_aligned(row, widths)).rstrip() for row in table]
    failed = {name: number for name, number in report.overall.outcomes.items() if name.startswith("error ")}
    if failed:
        lines.append("  counted as not solved: " + counted(failed, nothing="", of="episodes"))
    known = {seed: value for seed, value in (by_seed or {}).items() if value is not None}
    if len(known) > 1:
        shown = ", ".join(f"{seed}: {percent(value)}" for seed, value in known.items())
        lines.append(f"  success by seed  {shown}; over seeds {_share(over_seeds(list(known.values())))}")
    return "\n".join(lines)


def _row(name: str, figures: PolicyFigures) -> tuple[str, ...]:
    return (
        name.rpartition("/")[2],
        f"{figures.episodes:,}",
        _share(figures.success),
        _number(figures.mean_return, 3),
        _number(figures.length, 1),
    )


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    return [f"{text:<{width}}" if column == 0 else f"{text:>{width}}" for column, (text, width) in
            enumerate(zip(row, widths, strict=True))]  # fmt: skip


def _share(found: Estimate) -> str:
    if found.value is None or found.low is None or found.high is None:
        return percent(found.value)
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _number(found: Estimate, digits: int) -> str:
    if found.value is None or found.low is None or found.high is None:
        return DASH
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
