"""From step records to figures: how often outputs parse, how often they are true, and how large the model's errors are.

In: `StepRecord`s. Out: `FidelityReport`, each figure with its 95 % interval by episode.
Always: a step that could not be foretold is neither exact nor done, and its reward is as wrong as can be; figures of
nothing have no value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dreamsim.evaluation.fidelity import StepRecord
from dreamsim.evaluation.intervals import (
    NOTHING,
    Estimate,
    bootstrap,
    clustered,
    clustered_quantiles,
    f1,
    precision,
    recall,
    share,
)

Test = Callable[[StepRecord], bool]
QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)
"""Levels of errors that are reported; 1 is the largest seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How well an event is foretold."""

    precision: Estimate
    """Of the steps foretold as such, those that were."""
    recall: Estimate
    """Of the steps that were such, those foretold."""
    f1: Estimate
    """Harmonic mean of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How large an error is."""

    mean: Estimate
    """Over all steps."""
    quantiles: Mapping[float, Estimate]
    """Level -> quantile; `QUANTILES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityReport:
    """The figures of one foreteller."""

    parse_first: Estimate
    """Steps whose first output was a transition."""
    parse_resampled: Estimate
    """Steps with a transition within the allowed samples."""
    exact: Estimate
    """Steps whose state was foretold exactly."""
    determined_exact: Estimate
    """The same among steps whose next state the history decides."""
    determined_similarity: Estimate
    """Mean share of lines that foretold and real state have in common, among the same steps."""
    undetermined_valid: Estimate
    """Steps whose next state the history does not decide, foretold as a transition that contradicts nothing."""
    contradictions: Estimate
    """Contradictions in 100 transitions foretold from real histories; nothing without a ledger."""
    done: Detection
    """Foretelling that a step ends the task."""
    success: Detection
    """Foretelling that a step solves the task."""
    verified_done: Detection
    """`done`, with the verifier's word in place of the model's."""
    verified_success: Detection
    """`success`, with the verifier's word in place of the model's."""
    failure_shown: Estimate
    """Real failures foretold as such: the failure line, nothing else changed, no reward."""
    failure_reward: Estimate
    """Mean reward foretold for real failures."""
    false_failure: Estimate
    """Actions that worked, foretold as failures."""
    determined: Estimate
    """Steps whose next state the history decides."""
    reward_error: Spread
    """ε_R: |r - r̂| of every step."""
    transition_error: Spread
    """ε_P: total variation of every step whose next state the history decides, 1 - P̂(what really came)."""
    exact_by_verb: Mapping[str, Estimate]
    """Verb -> `determined_exact` of its steps."""
    exact_by_environment: Mapping[str, Estimate]
    """Environment -> `determined_exact` of its steps."""

    @property
    def done_f1(self) -> Estimate:
        """F1 of `done`."""
        return self.done.f1

    @property
    def success_f1(self) -> Estimate:
        """F1 of `success`."""
        return self.success.f1


def fidelity_report(
    records: Sequence[StepRecord], *, samples: Sequence[Sequence[StepRecord]] = (), seed: int = 0
) -> FidelityReport:
    """The figures of `records`.

    Args:
        records: of one pass over the episodes.
        samples: further passes over the same episodes with other seeds, for the error of the transition: with m passes
            P̂ is the share of the m in which state and outcome came true; of a greedy model one pass says all.
        seed: of the bootstrap.
    """
    decided = [record for record in records if record.determined]
    open_ended = [record for record in records if not record.determined]
    failures = [record for record in records if record.failure]
    return FidelityReport(
        parse_first=_share(records, lambda r: r.samples == 1),
        parse_resampled=_share(records, lambda r: r.samples > 0),
        exact=_share(records, lambda r: r.exact),
        determined_exact=_share(decided, lambda r: r.exact),
        determined_similarity=clustered(((r.episode_id, r.similarity) for r in decided), seed=seed),
        undetermined_valid=_share(open_ended, lambda r: r.valid),
        contradictions=clustered(
            ((r.episode_id, 100.0 * r.contradictions) for r in records if r.contradictions is not None), seed=seed
        ),
        done=_detection(records, _done, lambda r: r.foretold_outcome in ("success", "failure"), seed=seed),
        success=_detection(records, _success, lambda r: r.foretold_outcome == "success", seed=seed),
        verified_done=_detection(records, _done, lambda r: r.verified_outcome in ("success", "failure"), seed=seed),
        verified_success=_detection(records, _success, lambda r: r.verified_outcome == "success", seed=seed),
        failure_shown=_share(failures, lambda r: r.failure_shown),
        failure_reward=clustered(((r.episode_id, r.foretold_reward or 0.0) for r in failures), seed=seed),
        false_failure=_share([r for r in records if not r.failure], lambda r: r.failure_shown),
        determined=_share(records, lambda r: r.determined),
        reward_error=spread([(r.episode_id, reward_error(r)) for r in records], seed=seed),
        transition_error=spread(transition_errors([records, *samples]), seed=seed),
        exact_by_verb=_by(decided, lambda r: r.verb),
        exact_by_environment=_by(decided, lambda r: r.environment),
    )


def reward_error(record: StepRecord, *, reward_max: float = 1.0) -> float:
    """|r - r̂|; where nothing was foretold, the most that it can be with rewards in [0, `reward_max`]."""
    if record.foretold_reward is None:
        return max(record.reward, reward_max - record.reward)
    return abs(record.reward - record.foretold_reward)


def transition_errors(passes: Sequence[Sequence[StepRecord]]) -> list[tuple[str, float]]:
    """Episode and total variation of every step whose next state the history decides.

    The real environment then gives one next state s' with certainty, so that the total variation is
    max over A of |1[s' in A] - P̂(A)| = 1 - P̂(s'); the share of passes in which s' came estimates P̂(s') without bias.

    Raises:
        ValueError: the passes are not of the same steps.
    """
    found: list[tuple[str, float]] = []
    for records in zip(*passes, strict=True):
        if len({(record.episode_id, record.step) for record in records}) != 1:
            raise ValueError("passes over different steps cannot be put together")
        if records[0].determined:
            found.append((records[0].episode_id, 1 - sum(record.right for record in records) / len(records)))
    return found


def spread(values: Sequence[tuple[str, float]], *, seed: int) -> Spread:
    """Mean and quantiles of values with the name of their episode."""
    return Spread(mean=clustered(values, seed=seed), quantiles=clustered_quantiles(values, QUANTILES, seed=seed))


def _done(record: StepRecord) -> bool:
    return record.outcome != "running"


def _success(record: StepRecord) -> bool:
    return record.outcome == "success"


def _by(records: Iterable[StepRecord], key: Callable[[StepRecord], str]) -> dict[str, Estimate]:
    groups: dict[str, list[StepRecord]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    most_first = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {name: _share(group, lambda r: r.exact) for name, group in most_first}


def _share(records: Iterable[StepRecord], test: Test) -> Estimate:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        counts[record.episode_id][0] += test(record)
        counts[record.episode_id][1] += 1
    return share([k for k, _ in counts.values()], [n for _, n in counts.values()])


def _detection(records: Iterable[StepRecord], true: Test, foretold: Test, *, seed: int) -> Detection:
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for record in records:
        is_true, is_foretold = true(record), foretold(record)
        counts[record.episode_id][0] += is_true and is_foretold
        counts[record.episode_id][1] += is_foretold and not is_true
        counts[record.episode_id][2] += is_true and not is_foretold
    if not counts:
        return Detection(precision=NOTHING, recall=NOTHING, f1=NOTHING)
    table = np.array(list(counts.values()))
    return Detection(
        precision=bootstrap(table, precision, seed=seed),
        recall=bootstrap(table, recall, seed=seed),
        f1=bootstrap(table, f1, seed=seed),
    )
