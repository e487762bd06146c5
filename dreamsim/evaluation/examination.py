"""The whole examination of an experience model: one step, drift, gate, ablations, return gap and bounds.

In: held-out real episodes, the model in the variants to compare. Out: `Examination`, which becomes a table, a JSON file
and a page of plots.
Always: every variant sees the same episodes; figures of what was not asked for are absent, never zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread

from dreamsim.evaluation import drift
from dreamsim.evaluation.drift import STEPS, DriftRecord, Point
from dreamsim.evaluation.fidelity import Determined, Foreteller, StepRecord, Witnesses, foretell
from dreamsim.evaluation.gate import GateReport, gate_report
from dreamsim.evaluation.intervals import Estimate, clustered
from dreamsim.evaluation.report import FidelityReport, fidelity_report
from dreamsim.evaluation.returns import Bounds, ReturnGap, bounds
from dreamsim.records.episode import Episode

Progress = Callable[[str, int], None]
"""Called with what is being measured, and the number of episodes done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """The model, as it is to be examined."""

    plain: Foreteller
    """Without run-time checks."""
    measured: Foreteller | None = None
    """The same with a gate that only measures: for the steps foretold from real histories, where errors are known."""
    again: Sequence[Foreteller] = ()
    """The same with other seeds, for the error of the transition; of use only where the model samples."""
    checked: Foreteller | None = None
    """With the run-time checks: the ledger refuses what contradicts it, the verifier has its say."""
    ablated: Mapping[str, Foreteller] = field(default_factory=dict)
    """What is taken away -> the model without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How long the dream stays with reality."""

    teacher_forced: tuple[Point, ...]
    """The steps of `open_loop`, each foretold from the real history."""
    open_loop: tuple[Point, ...]
    """From its own states, where the history determines what comes."""
    open_loop_checked: tuple[Point, ...]
    """The same with the run-time checks, as in a run; empty without them."""
    free: tuple[Point, ...]
    """From its own states, whole episodes: also where it has to invent."""
    contradictions: Estimate
    """Contradictions in 100 freely dreamed steps."""
    contradictions_checked: Estimate | None
    """The same with the run-time check."""
    rejected_checked: Estimate | None
    """Outputs that the run-time check threw away, in 100 steps."""
    ended_checked: Estimate | None
    """Steps in 100 that the run-time check ended the episode with, or that could not be dreamed."""

    def at(self, k: int) -> Estimate | None:
        """Open-loop agreement k steps after the dream last saw reality."""
        return drift.at_step(self.open_loop, k)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """The model without something."""

    report: FidelityReport
    """Its one-step figures."""
    open_loop: tuple[Point, ...]
    """Its drift."""
    difference: Estimate
    """`determined_exact` minus that of the full model, step by step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Everything that was measured."""

    model: str
    """Name and version of the experience model."""
    episodes: int
    """Real episodes."""
    steps: int
    """Their steps."""
    one_step: FidelityReport
    """Foretold from real histories; the verified figures are those of the dream with its run-time checks, if that
    was examined."""
    drift: Drift
    """Dreamed on from its own states."""
    gate: GateReport | None
    """What the gate knows; None without features."""
    bounds: Bounds | None
    """What the bounds say."""
    checked: FidelityReport | None = None
    """`one_step` of the dream with its run-time checks, if that was examined."""
    returns: ReturnGap | None = None
    """Dreamed and real return of the same policy, if it was played."""
    ablations: Mapping[str, Ablation] = field(default_factory=dict)
    """What was taken away -> what was left."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Where the episodes come from, settings: for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An examination, and the records it was made of."""

    examination: Examination
    """The figures."""
    records: Sequence[StepRecord]
    """One for each real step."""


async def examine(
    episodes: Sequence[Episode],
    variants: Variants,
    *,
    model: str,
    determined: Determined,
    witnesses: Witnesses,
    horizon: int,
    steps: int = STEPS,
    concurrency: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measured:
    """Measure everything but the return gap.

    Args:
        episodes: real ones, none of which anybody learned from.
        variants: the model, as it is to be examined.
        model: its name and version.
        determined: says of each step whether the history decides the next state.
        witnesses: ledgers and verifiers.
        horizon: H of the bounds, steps.
        steps: longest drift.
        concurrency: episodes followed at once.
        seed: of the bootstrap.
        progress: told of each part.

    Raises:
        EngineError: the engine failed.
    """
    at_once: dict[str, Any] = {"concurrency": concurrency}

    def told(what: str) -> dict[str, Any]:
        report = None if progress is None else lambda number: progress(what, number)
        return {**at_once, "progress": report}

    async def followed(foreteller: Foreteller, what: str) -> list[DriftRecord]:
        return await drift.runs_of(episodes, foreteller, determined=determined, steps=steps, **told(what))

    measuring = variants.measured or variants.plain
    records = await foretell(episodes, measuring, determined=determined, witnesses=witnesses, **told("one step"))
    again = [await foretell(episodes, one, determined=determined, **told("further samples")) for one in variants.again]
    runs = await followed(variants.plain, "open loop")
    free = await drift.free(episodes, variants.plain, witnesses=witnesses, steps=steps, **told("free dream"))
    checked: list[DriftRecord] | None = None
    runs_checked: list[DriftRecord] = []
    as_run: list[StepRecord] | None = None
    if variants.checked is not None:
        # Without witnesses: what counts is the word of the verifier that the checks themselves asked.
        as_run = await foretell(episodes, variants.checked, determined=determined, **told("one step, checked"))
        records = verified_by(records, as_run)
        runs_checked = await followed(variants.checked, "open loop, checked")
        checked = await drift.free(
            episodes, variants.checked, witnesses=witnesses, steps=steps, **told("free dream, checked")
        )
    left: dict[str, tuple[list[StepRecord], list[DriftRecord]]] = {}
    for name, foreteller in variants.ablated.items():
        without = f"without {name}"
        foretold = await foretell(episodes, foreteller, determined=determined, witnesses=witnesses, **told(without))
        left[name] = (foretold, await followed(foreteller, f"{without}, open loop"))

    def figures() -> Examination:
        report = fidelity_report(records, samples=again, seed=seed)
        return Examination(
            model=model,
            episodes=len(episodes),
            steps=len(records),
            one_step=report,
            drift=_drift(records, runs, runs_checked, free, checked, steps=steps, seed=seed),
            gate=gate_report(records, seed=seed),
            bounds=bounds(records, report, horizon=horizon, seed=seed),
            checked=None if as_run is None else fidelity_report(as_run, seed=seed),
            ablations={
                name: _ablation(records, foretold, dreamed, steps=steps, seed=seed)
                for name, (foretold, dreamed) in left.items()
            },
        )

    # Seconds of resampling, which are not for the event loop.
    return Measured(examination=await to_thread.run_sync(figures), records=records)


def _ablation(
    full: Sequence[StepRecord],
    foretold: Sequence[StepRecord],
    dreamed: Sequence[DriftRecord],
    *,
    steps: int,
    seed: int,
) -> Ablation:
    return Ablation(
        report=fidelity_report(foretold, seed=seed),
        open_loop=tuple(drift.open_loop_curve(dreamed, steps=steps)),
        difference=difference(full, foretold, seed=seed),
    )


def _drift(
    records: Sequence[StepRecord],
    runs: Sequence[DriftRecord],
    runs_checked: Sequence[DriftRecord],
    free: Sequence[DriftRecord],
    checked: Sequence[DriftRecord] | None,
    *,
    steps: int,
    seed: int,
) -> Drift:
    return Drift(
        teacher_forced=tuple(drift.teacher_forced_curve(runs, records, steps=steps)),
        open_loop=tuple(drift.open_loop_curve(runs, steps=steps)),
        open_loop_checked=tuple(drift.open_loop_curve(runs_checked, steps=steps)),
        free=tuple(drift.open_loop_curve(free, steps=steps)),
        contradictions=drift.contradictions_per_100(free, seed=seed),
        contradictions_checked=None if checked is None else drift.contradictions_per_100(checked, seed=seed),
        rejected_checked=None if checked is None else drift.rejected_per_100(checked, seed=seed),
        ended_checked=None if checked is None else drift.ended_per_100(checked, seed=seed),
    )


def verified_by(records: Sequence[StepRecord], checked: Sequence[StepRecord]) -> list[StepRecord]:
    """`records` with the verified outcomes of the same steps in `checked`; none where the checks let nothing pass.

    Raises:
        ValueError: the records are not of the same steps.
    """
    pairs = _pairs(records, checked)
    return [dataclasses.replace(one, verified_outcome=other.verified_outcome) for one, other in pairs]


def difference(full: Sequence[StepRecord], left: Sequence[StepRecord], *, seed: int = 0) -> Estimate:
    """Mean difference of exactness where the history decides, `left` minus `full`; bootstrap by episode.

    Raises:
        ValueError: the records are not of the same steps.
    """
    pairs = _pairs(full, left)
    return clustered(((a.episode_id, float(b.exact) - float(a.exact)) for a, b in pairs if a.determined), seed=seed)


def _pairs(one: Sequence[StepRecord], other: Sequence[StepRecord]) -> list[tuple[StepRecord, StepRecord]]:
    pairs = list(zip(one, other, strict=True))
    if any((a.episode_id, a.step) != (b.episode_id, b.step) for a, b in pairs):
        raise ValueError("records of different steps cannot be compared")
    return pairs


def as_json(figures: Examination | FidelityReport) -> dict[str, Any]:
    """The figures as JSON: estimates as objects with `value`, `low`, `high` and `n`."""
    found: dict[str, Any] = _plain(figures)
    return found


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
