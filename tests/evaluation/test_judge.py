"""Figures of a judge: agreement with the ledger, means, quality scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.evaluation.judge import JudgedStep, agreement, cohen_kappa, episode_quality, judge_report
from dreamsim.experience.judge import Scores

COUNTS = st.lists(st.integers(0, 50), min_size=4, max_size=4)


def step(episode: str, consistency: int, contradictions: int | None, **more: int) -> JudgedStep:
    given = {"diversity": 2, "informativeness": 2, "hallucination": 2} | more
    scores = Scores(
        consistency=consistency,
        diversity=given["diversity"],
        informativeness=given["informativeness"],
        hallucination=given["hallucination"],
    )
    return JudgedStep(episode_id=episode, step=0, scores=scores, contradictions=contradictions)


def test_agreement_counts_who_finds_fault() -> None:
    steps = [step("a", 0, 2), step("a", 1, 1), step("b", 1, 0), step("b", 2, 1), step("c", 2, 0), step("c", 2, None)]
    found = agreement(steps)
    assert found is not None
    assert (found.both, found.judge_only, found.ledger_only, found.neither) == (2, 1, 1, 1)
    assert (found.equal.value, found.equal.n) == (0.6, 5)
    assert found.kappa.value == pytest.approx((0.6 - 0.52) / 0.48)


def test_without_a_ledger_there_is_no_agreement() -> None:
    assert agreement([step("a", 2, None)]) is None


def test_kappa_has_no_value_where_one_of_them_never_varies() -> None:
    found = agreement([step("a", 2, 0), step("b", 2, 1)])
    assert found is not None
    assert found.kappa.value is None


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        ([20, 5, 10, 15], 0.4),  # the textbook's two readers of 50 grant proposals
        ([45, 15, 25, 15], 0.1304),
        ([25, 35, 5, 35], 0.2593),
        ([0, 10, 10, 0], -1.0),
    ],
)
def test_kappa_of_known_tables(counts: list[int], kappa: float) -> None:
    assert cohen_kappa(np.array([counts], dtype=np.float64))[0] == pytest.approx(kappa, abs=1e-4)


@given(COUNTS)
def test_kappa_does_not_depend_on_who_is_first_and_is_1_only_without_disagreement(counts: list[int]) -> None:
    both, first, second, neither = counts
    ours, turned = cohen_kappa(np.array([counts, [both, second, first, neither]], dtype=np.float64))
    assert np.isnan(ours) == (both + first == both + second == 0 or second + neither == first + neither == 0)
    assert np.isnan(ours) or (ours == pytest.approx(turned) and -1.000001 <= ours <= 1.000001)
    assert np.isnan(ours) or (ours == pytest.approx(1)) == (first + second == 0)


def test_quality_is_the_mean_as_a_share_of_the_highest() -> None:
    found = episode_quality([step("a", 2, None), step("a", 1, None, diversity=0), step("b", 0, None)])
    assert found["a"]["judge_consistency"] == 0.75
    assert found["a"]["judge_diversity"] == 0.5
    assert found["b"]["judge_consistency"] == 0.0


def test_means_are_by_episode() -> None:
    report = judge_report([step("a", 2, 0), step("a", 2, 0), step("b", 0, 1)])
    assert (report.steps, report.episodes) == (3, 2)
    assert report.means["consistency"].value == pytest.approx(4 / 3)
    assert report.means["consistency"].n == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.none() | st.integers(0, 2)), max_size=12))
def test_any_scores_make_a_report(drawn: list[tuple[str, int, int | None]]) -> None:
    report = judge_report([step(*one) for one in drawn])
    looked = [one for one in drawn if one[2] is not None]
    found = report.agreement
    assert (found is None) == (not looked)
    if found is not None:
        assert found.both + found.judge_only + found.ledger_only + found.neither == len(looked)
