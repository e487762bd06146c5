"""How well an uncertainty gate knows which transitions are wrong.

In: a score in [0, 1] and whether the transition was wrong, for each of many. Out: AUROC, a reliability curve, the
expected calibration error.
Always: pure functions of arrays; a calibration is never judged by the tasks it was fitted on (`cross_fitted`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConfigurationError
from dreamsim.evaluation.fidelity import StepRecord
from dreamsim.evaluation.intervals import NOTHING, RESAMPLES, Estimate, bootstrap, share
from dreamsim.experience.uncertainty import FEATURES, fit_gate
from dreamsim.records.trust import GateFeatures
from dreamsim.runtime.seeds import generator, seed_of

BINS = 10
FOLDS = 5

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One point of a reliability curve."""

    score: float
    """Mean score of its transitions."""
    wrong: Estimate
    """Share of them that was wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """How well a gate knows."""

    auroc: Estimate
    """Chance that a wrong transition scores higher than a right one; n is the number of transitions."""
    calibration_error: Estimate
    """Expected calibration error."""
    reliability: tuple[Bin, ...]
    """The curve, from low scores to high ones."""
    wrong: Estimate
    """Share of transitions that were wrong."""
    fitted: str
    """Where the scores come from."""
    alone: Mapping[str, Estimate] = field(default_factory=dict)
    """Feature that was measured -> AUROC of what can be told from it alone."""


def auroc(score: Scores, wrong: Flags) -> float | None:
    """Area under the receiver operating characteristic; None where all are wrong or all are right."""
    from sklearn.metrics import roc_auc_score

    if not len(wrong) or wrong.all() or not wrong.any():
        return None
    return float(roc_auc_score(wrong, score))


def auroc_interval(score: Scores, wrong: Flags, episodes: Sequence[str], *, seed: int) -> Estimate:
    """`auroc` with the interval of resampling whole episodes."""
    value = auroc(score, wrong)
    if value is None:
        return Estimate(value=None, low=None, high=None, n=len(wrong))
    names = {name: number for number, name in enumerate(dict.fromkeys(episodes))}
    order = np.argsort(score, kind="stable")
    cluster = np.array([names[name] for name in episodes])[order]
    ordered, flags = score[order], wrong[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(ordered) != 0]))
    draw = generator(seed, "bootstrap")
    found: list[float] = []
    for _ in range(RESAMPLES):
        weights = draw.multinomial(len(names), np.full(len(names), 1 / len(names)))[cluster]
        of_wrong = np.add.reduceat(np.where(flags, weights, 0), starts)
        of_right = np.add.reduceat(np.where(flags, 0, weights), starts)
        pairs = float(of_wrong.sum()) * float(of_right.sum())
        if pairs:
            below = np.cumsum(of_right) - of_right
            found.append(float((of_wrong * (below + of_right / 2)).sum()) / pairs)
    low, high = np.quantile(found, [0.025, 0.975]) if found else (value, value)
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value), n=len(wrong))


def reliability(score: Scores, wrong: Flags, episodes: Sequence[str], *, bins: int = BINS) -> tuple[Bin, ...]:
    """The share of wrong transitions by score, in `bins` of equal width over [0, 1]; empty ones are left out."""
    places = _places(score, bins)
    names = np.array(episodes)
    found: list[Bin] = []
    for number in range(bins):
        here = places == number
        if here.any():
            _, cluster = np.unique(names[here], return_inverse=True)
            trials = np.bincount(cluster)
            hits = np.bincount(cluster, weights=wrong[here]).astype(np.int64)
            found.append(Bin(score=float(score[here].mean()), wrong=share(hits.tolist(), trials.tolist())))
    return tuple(found)


def calibration_error(score: Scores, wrong: Flags, episodes: Sequence[str], *, seed: int, bins: int = BINS) -> Estimate:
    """Expected calibration error, Σ_b n_b/n |mean score - share wrong| over bins of equal width (Guo et al. 2017)."""
    if not len(score):
        return NOTHING
    names = {name: number for number, name in enumerate(dict.fromkeys(episodes))}
    counts = np.zeros((len(names), bins + 1))
    for name, place, value, flag in zip(episodes, _places(score, bins).tolist(), score, wrong, strict=True):
        counts[names[name], place] += value - flag
        counts[names[name], -1] += 1

    def error(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        whole: NDArray[np.float64] = np.abs(sums[:, :bins]).sum(axis=1) / sums[:, -1]
        return whole

    return bootstrap(counts, error, seed=seed)


def _places(score: Scores, bins: int) -> NDArray[np.int64]:
    return np.minimum((score * bins).astype(np.int64), bins - 1)


def gate_report(records: Sequence[StepRecord], *, seed: int = 0) -> GateReport | None:
    """How well the gate knew, over the steps whose next state the history decides; None without anything to go by.

    With a calibrated gate its own chances are judged. The features of a gate without a calibration are first turned
    into chances, by calibrations fitted on the tasks of other folds.
    """
    seen = [record for record in records if record.determined and record.samples > 0]
    told = [record.uncertainty for record in seen if record.uncertainty is not None]
    fitted = "the calibration given"
    if len(told) < len(seen) or not told:
        seen = [record for record in seen if record.features is not None]
        crossed = cross_fitted(seen, seed=seed)
        if crossed is None:
            return None
        told, fitted = crossed, f"cross-fitted in {FOLDS} folds of tasks"
    score = np.array(told, dtype=np.float64)
    wrong = np.array([not record.right for record in seen])
    episodes = [record.episode_id for record in seen]
    _, cluster = np.unique(np.array(episodes), return_inverse=True)
    return GateReport(
        auroc=auroc_interval(score, wrong, episodes, seed=seed),
        calibration_error=calibration_error(score, wrong, episodes, seed=seed),
        reliability=reliability(score, wrong, episodes),
        wrong=share(np.bincount(cluster, weights=wrong).astype(np.int64).tolist(), np.bincount(cluster).tolist()),
        fitted=fitted,
        alone=_alone(seen, wrong, episodes, seed=seed),
    )


def _alone(records: Sequence[StepRecord], wrong: Flags, episodes: Sequence[str], *, seed: int) -> dict[str, Estimate]:
    """What each feature tells by itself, the sign of its weight taken from other folds."""
    found: dict[str, Estimate] = {}
    for name in FEATURES:
        only = [
            replace(record, features=GateFeatures(**{name: getattr(record.features, name)}))
            for record in records
            if record.features is not None and getattr(record.features, name) is not None
        ]
        if len(only) == len(records) and (crossed := cross_fitted(only, seed=seed)) is not None:
            found[name] = auroc_interval(np.array(crossed), wrong, episodes, seed=seed)
    return found


def cross_fitted(records: Sequence[StepRecord], *, folds: int = FOLDS, seed: int = 0) -> list[float] | None:
    """A chance of being wrong for each record, from a calibration that saw other tasks; None if none can be had."""
    fold = [seed_of(seed, "gate", record.task or record.episode_id) % folds for record in records]
    chances = [0.0] * len(records)
    for number in sorted(set(fold)):
        learned = [record for record, where in zip(records, fold, strict=True) if where != number]
        try:
            gate = fit_gate(
                [record.features for record in learned if record.features is not None],
                [not record.right for record in learned if record.features is not None],
            )
        except ConfigurationError:
            return None
        for index, record in enumerate(records):
            if fold[index] == number and record.features is not None:
                chances[index] = gate.chance(record.features)
    return chances if records else None
