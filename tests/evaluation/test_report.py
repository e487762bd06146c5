"""From records to figures, by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.evaluation.examination import as_json, difference
from dreamsim.evaluation.fidelity import StepRecord, similarity
from dreamsim.evaluation.intervals import clustered, clustered_quantiles, precision, recall
from dreamsim.evaluation.report import fidelity_report, reward_error, transition_errors
from dreamsim.evaluation.returns import bounds, return_gap
from dreamsim.records.episode import Episode, EpisodeOutcome, Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task

STEP = StepRecord(
    episode_id="a",
    step=0,
    environment="test/one",
    policy="p",
    action="take egg",
    determined=True,
    samples=1,
    exact=True,
    outcome="running",
    foretold_outcome="running",
    reward=0.0,
    foretold_reward=0.0,
    failure=False,
    failure_shown=False,
    verified_outcome="running",
)


def test_precision_and_recall_by_hand() -> None:
    counts = np.array([[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    assert precision(counts)[0] == pytest.approx(3 / 4)
    assert recall(counts)[0] == pytest.approx(3 / 5)
    assert np.isnan([precision(counts)[1], recall(counts)[1]]).all()


def test_a_verifier_repairs_what_the_model_claims() -> None:
    records = [
        replace(STEP, outcome="success", foretold_outcome="running", verified_outcome="success"),
        replace(STEP, step=1, foretold_outcome="success", foretold_reward=1.0, verified_outcome="running"),
    ]
    report = fidelity_report(records)
    assert report.success.f1.value == 0
    assert report.verified_success.f1.value == report.verified_done.f1.value == 1


def test_what_failing_actions_earn_is_a_mean() -> None:
    failing = replace(STEP, failure=True)
    records = [failing, replace(failing, step=1, foretold_reward=1.0), replace(STEP, step=2, foretold_reward=1.0)]
    assert fidelity_report(records).failure_reward.value == 0.5


def test_the_reward_of_what_was_not_foretold_is_as_wrong_as_can_be() -> None:
    assert reward_error(replace(STEP, foretold_reward=None)) == 1
    assert reward_error(replace(STEP, reward=0.25, foretold_reward=None)) == 0.75
    assert reward_error(replace(STEP, reward=1.0, foretold_reward=0.25)) == 0.75


def test_the_transition_error_is_one_minus_the_share_of_samples_that_came_true() -> None:
    wrong, ended = replace(STEP, exact=False), replace(STEP, foretold_outcome="failure")
    unknown = replace(STEP, step=1, determined=False)
    passes = [[STEP, unknown], [wrong, unknown], [ended, unknown], [STEP, unknown]]
    assert transition_errors(passes) == [("a", 0.5)]


def test_passes_over_other_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="different steps"):
        transition_errors([[STEP], [replace(STEP, step=1)]])


def test_what_contradicts_is_not_valid() -> None:
    records = [
        replace(STEP, determined=False, contradictions=0),
        replace(STEP, step=1, determined=False, contradictions=2),
        replace(STEP, step=2, determined=False, samples=0),
    ]
    report = fidelity_report(records)
    assert report.undetermined_valid.value == pytest.approx(1 / 3)
    assert report.contradictions.value == pytest.approx(100)


def test_similarity_counts_lines_in_common() -> None:
    one, other = State.of(["at: hall", "egg: here", "hat: here"]), State.of(["hat: here", "at: hall", "egg: held"])
    assert similarity(one, other) == pytest.approx(2 / 4)
    assert similarity(State.of([]), State.of([])) == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9).map(float)), min_size=1, max_size=30))
def test_quantiles_are_those_of_a_slow_count(values: list[tuple[str, float]]) -> None:
    levels = (0.25, 0.5, 0.9, 1.0)
    found = clustered_quantiles(values, levels, seed=0, resamples=3)
    for level in levels:
        slow = min(v for _, v in values if sum(w <= v for _, w in values) >= level * len(values) - 1e-9)
        estimate = found[level]
        assert estimate.value == slow
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= slow <= estimate.high


def test_a_mean_by_episode_is_wider_than_its_steps_make_believe() -> None:
    together = clustered([("a", 1.0)] * 50 + [("b", 0.0)] * 50, seed=0)
    assert (together.value, together.low, together.high) == (0.5, 0.0, 1.0)


def test_ablations_are_compared_step_by_step() -> None:
    left = [replace(STEP, exact=False), replace(STEP, step=1)]
    assert difference([STEP, replace(STEP, step=1)], left).value == -0.5
    with pytest.raises(ValueError, match="different steps"):
        difference([STEP], [replace(STEP, step=1)])


def test_the_bounds_are_those_of_mean_errors() -> None:
    records = [replace(STEP, episode_id=name, exact=name != "a") for name in "abcd"]
    found = bounds(records, fidelity_report(records), horizon=2)
    assert found is not None
    assert found.finite_horizon == pytest.approx(1 - 0.75**2)
    assert found.along_the_way.value == pytest.approx(0.25)


def episode(name: str, source: Source, reward: float, outcome: EpisodeOutcome = "truncated") -> Episode:
    task = Task(environment="test/one", instruction=name, first_state=State.of(["at: hall"]), fold="test")
    step = Transition(action="wait", state=task.first_state, reward=reward, outcome="running")
    return Episode(
        id=f"{source}-{name}",
        run="r",
        task=task,
        repeat=0,
        source=source,
        purpose="evaluation",
        transitions=(step,),
        outcome=outcome,
    )


def test_returns_are_paired_by_task() -> None:
    real = [episode("one", "real", 0.0), episode("two", "real", 1.0)]
    dreamed = [episode("two", "dreamed", 1.0), episode("one", "dreamed", 1.0, "error")]
    gap = return_gap(real, dreamed)
    assert (gap.real.value, gap.dreamed.value, gap.difference.value, gap.errors) == (0.5, 1.0, 0.5, 1)
    assert (gap.absolute.value, gap.absolute.low) == (0.5, 0.0)


def test_returns_of_other_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="same tasks"):
        return_gap([episode("one", "real", 0.0)], [episode("two", "dreamed", 0.0)])


def test_a_report_becomes_plain_json() -> None:
    written = json.loads(json.dumps(as_json(fidelity_report([STEP]))))
    assert written["determined_exact"]["value"] == 1
    assert set(written["reward_error"]["quantiles"]) == {"0.5", "0.9", "0.95", "0.99", "1.0"}
