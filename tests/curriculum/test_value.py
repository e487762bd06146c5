"""What tasks are worth, and clusters of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.curriculum.statistics import Average, CellStatistics
from dreamsim.curriculum.value import GroupResult, TaskClusters, task_words, value_of
from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import EpisodeOutcome
from dreamsim.testing.decisions import decided_episode, decided_task
from tests.curriculum.lists import a_task


@pytest.mark.parametrize(
    ("returns", "value"),
    [
        ((), 0.0),
        ((1.0,), 0.0),
        ((1.0, 1.0), 0.0),
        ((0.0, 1.0), 0.25),
        ((1.0, 0.0, 0.0, 0.0), 0.1875),
        ((0.0, 2.0), 1.0),
    ],
)
def test_value_is_the_variance_of_returns(returns: tuple[float, ...], value: float) -> None:
    assert value_of(returns) == value


@given(st.integers(0, 8), st.integers(1, 8))
def test_the_value_of_binary_returns_is_p_times_one_minus_p(solved: int, others: int) -> None:
    p = solved / (solved + others)
    assert value_of([1.0] * solved + [0.0] * others) == pytest.approx(p * (1 - p))


def test_episodes_that_failed_for_technical_reasons_say_nothing() -> None:
    task = decided_task(0)
    outcomes: tuple[EpisodeOutcome, ...] = ("success", "error", "failure", "truncated")
    episodes = [decided_episode(0, task=task, repeat=place, outcome=outcome) for place, outcome in enumerate(outcomes)]
    result = GroupResult.of(task.key, 0, episodes)
    assert (result.returns, result.successes) == ((1.0, 0.0, 0.0), 1)
    assert result.value == pytest.approx(2 / 9)
    assert result.success == pytest.approx(1 / 3)


VECTORS = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)


def test_clusters_are_the_same_for_the_same_seed() -> None:
    one, two = (TaskClusters.fit(VECTORS, clusters=5, seed=3) for _ in range(2))
    assert np.array_equal(one.centres, two.centres)
    assert one.centres.shape == (5, 8)


def test_every_vector_counts_for_its_nearest_centre() -> None:
    clusters = TaskClusters.fit(VECTORS, clusters=5, seed=3)
    slow = [int(np.argmin([((vector - centre) ** 2).sum() for centre in clusters.centres])) for vector in VECTORS]
    assert clusters.nearest(VECTORS).tolist() == slow
    assert set(slow) == set(range(5))


def test_there_are_no_more_clusters_than_different_tasks() -> None:
    assert len(TaskClusters.fit(np.repeat(VECTORS[:3], 4, axis=0), clusters=5, seed=0).centres) == 3
    with pytest.raises(ConfigurationError):
        TaskClusters.fit(VECTORS[:0], clusters=5, seed=0)


def test_a_task_is_embedded_by_what_it_says() -> None:
    assert task_words(a_task(4)) == "find it\nat: room 1\nthing 4: here"


def result(successes: int, of: int) -> GroupResult:
    returns = (1.0,) * successes + (0.0,) * (of - successes)
    return GroupResult(task_key="t", number=0, returns=returns, successes=successes)


def test_a_task_is_worth_what_its_last_group_was() -> None:
    known = CellStatistics().after(result(2, 4), memory=None).after(result(1, 4), memory=None)
    assert (known.value, known.success) == (0.1875, 0.25)
    assert (known.groups, known.episodes, known.successes) == (2, 8, 3)


def test_a_cluster_is_worth_what_its_last_episodes_were() -> None:
    known = CellStatistics()
    for successes in (1, 1, 0):
        known = known.after(result(successes, 1), memory=2)
    assert known.returns == (1.0, 0.0)
    assert (known.value, known.success, known.episodes) == (0.25, 0.5, 3)
    assert known.after(result(3, 4), memory=2).returns == (1.0, 1.0, 1.0, 0.0)


def test_a_group_without_results_changes_nothing() -> None:
    known = CellStatistics().after(result(2, 4), memory=None)
    assert known.after(result(0, 0), memory=None) == known


@given(st.lists(st.floats(0, 1), max_size=20), st.integers(1, 8))
def test_the_average_is_a_mean_at_first_and_stays_within_what_it_saw(successes: list[float], memory: int) -> None:
    average = Average()
    for success in successes:
        average = average.after(success, memory=memory)
    assert average.groups == len(successes)
    if successes:
        assert min(successes) - 1e-9 <= average.mean <= max(successes) + 1e-9
    if 0 < len(successes) <= memory:
        assert average.mean == pytest.approx(sum(successes) / len(successes))
    assert Average.from_json(average.to_json()) == average
