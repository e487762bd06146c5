"""What a gate knows, against slow loops and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.evaluation.fidelity import StepRecord
from dreamsim.evaluation.gate import (
    Flags,
    Scores,
    auroc,
    auroc_interval,
    calibration_error,
    cross_fitted,
    gate_report,
    reliability,
)
from dreamsim.records.trust import GateFeatures

PAIRS = st.lists(st.tuples(st.integers(0, 10).map(lambda n: n / 10), st.booleans()), min_size=2, max_size=30)


def arrays(pairs: list[tuple[float, bool]]) -> tuple[Scores, Flags]:
    return np.array([score for score, _ in pairs]), np.array([wrong for _, wrong in pairs], dtype=np.bool_)


def record(episode: int, step: int, *, wrong: bool, logprob: float, uncertainty: float | None = None) -> StepRecord:
    return StepRecord(
        episode_id=str(episode),
        step=step,
        environment="test/one",
        policy="p",
        action="wait",
        determined=True,
        samples=1,
        exact=not wrong,
        outcome="running",
        foretold_outcome="running",
        reward=0.0,
        foretold_reward=0.0,
        failure=False,
        failure_shown=False,
        features=GateFeatures(mean_logprob=logprob),
        uncertainty=uncertainty,
    )


@settings(max_examples=20)  # scikit-learn checks its arguments at length
@given(PAIRS)
def test_auroc_is_the_chance_that_a_wrong_one_scores_higher(pairs: list[tuple[float, bool]]) -> None:
    right = [score for score, wrong in pairs if not wrong]
    wrong = [score for score, wrong in pairs if wrong]
    found = auroc(*arrays(pairs))
    if not right or not wrong:
        assert found is None
        return
    slow = sum((a > b) + (a == b) / 2 for a in wrong for b in right) / (len(wrong) * len(right))
    assert found == pytest.approx(slow)


@settings(max_examples=5)  # each is 2,000 resamples
@given(PAIRS)
def test_the_bootstrap_of_auroc_holds_its_value(pairs: list[tuple[float, bool]]) -> None:
    score, wrong = arrays(pairs[:12])
    found = auroc_interval(score, wrong, [str(number % 4) for number in range(len(score))], seed=0)
    if found.value is not None:
        assert found.low is not None
        assert found.high is not None
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_score_that_knows_everything_has_an_interval_of_one() -> None:
    wrong = np.array([True, False] * 20)
    found = auroc_interval(wrong.astype(np.float64), wrong, [str(number // 2) for number in range(40)], seed=0)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_calibration_error_by_hand() -> None:
    score, wrong = np.array([0.05, 0.05, 0.85, 0.85]), np.array([False, True, True, True])
    found = calibration_error(score, wrong, ["a", "b", "c", "d"], seed=0)
    assert found.value == pytest.approx(0.5 * 0.45 + 0.5 * 0.15)


def test_the_reliability_curve_has_a_point_for_every_bin_that_is_not_empty() -> None:
    score, wrong = np.array([0.0, 0.02, 1.0]), np.array([False, True, True])
    first, last = reliability(score, wrong, ["a", "b", "c"])
    assert first.score == pytest.approx(0.01)
    assert (first.wrong.value, first.wrong.n) == (0.5, 2)
    assert (last.score, last.wrong.value, last.wrong.n) == (1.0, 1.0, 1)


def test_features_are_turned_into_chances_by_other_episodes() -> None:
    records = [
        record(episode, step, wrong=step == 0, logprob=-2.0 if step == 0 else -0.1)
        for episode in range(20)
        for step in range(4)
    ]
    chances = cross_fitted(records)
    assert chances is not None
    assert auroc(np.array(chances), np.array([not one.right for one in records])) == 1


def test_episodes_of_one_task_are_in_one_fold() -> None:
    """Its steps look the same in every episode, and so one calibration must have judged them all."""
    alike = [
        replace(record(episode, step, wrong=step == 0, logprob=-2.0 if step == 0 else -0.1), task=f"{episode // 4}")
        for episode in range(40)
        for step in range(3)
    ]
    chances = dict(zip([(one.task, one.step) for one in alike], cross_fitted(alike) or [], strict=True))
    again = [chances[one.task, one.step] for one in alike]
    assert again == cross_fitted(alike)


def test_each_feature_is_judged_alone() -> None:
    records = [
        replace(
            record(episode, step, wrong=step == 0, logprob=0.0),
            features=GateFeatures(mean_logprob=-2.0 if step == 0 else -0.1, similarity=(7 * episode + step) % 5 / 5),
        )
        for episode in range(30)
        for step in range(3)
    ]
    report = gate_report(records)
    assert report is not None
    assert set(report.alone) == {"mean_logprob", "similarity"}
    assert report.alone["mean_logprob"].value == 1
    assert (report.alone["similarity"].value or 0) < 0.8


def test_the_chances_of_a_calibrated_gate_are_judged_as_they_are() -> None:
    records = [record(0, step, wrong=step < 2, logprob=-1.0, uncertainty=0.2 if step < 2 else 0.9) for step in range(4)]
    report = gate_report(records)
    assert report is not None
    assert report.auroc.value == 0
    assert report.fitted == "the calibration given"


def test_a_gate_without_a_wrong_step_cannot_be_judged() -> None:
    assert gate_report([record(0, step, wrong=False, logprob=-1.0) for step in range(4)]) is None
