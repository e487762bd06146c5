from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.evaluation.intervals import (
    NOTHING,
    bootstrap,
    f1,
    mean,
    over_seeds,
    proportion,
    share,
    student_quantile,
)
from dreamsim.runtime.intervals import wilson


def clusters(max_size: int = 30) -> st.SearchStrategy[list[tuple[int, int]]]:
    """(successes, trials) of some clusters."""
    one = st.integers(0, 20).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
    return st.lists(one, max_size=max_size)


@given(clusters())
def test_a_share_lies_in_its_interval_inside_0_to_1(found: list[tuple[int, int]]) -> None:
    estimate = share([k for k, _ in found], [n for _, n in found])
    if estimate.value is None:
        assert estimate == NOTHING
        return
    assert estimate.low is not None
    assert estimate.high is not None
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_single_trials_give_wilsons_interval_or_a_wider_one(hits: list[bool]) -> None:
    estimate = share([int(hit) for hit in hits], [1] * len(hits))
    plain = wilson(sum(hits), len(hits))
    assert estimate.low is not None
    assert estimate.high is not None
    # The sample variance has m - 1 below it: the effect is m / (m - 1), and less of it the larger the sample.
    assert estimate.low <= plain.low + 1e-12
    assert estimate.high >= plain.high - 1e-12
    assert estimate.high - estimate.low <= (plain.high - plain.low) * math.sqrt(2.0)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_proportion_is_wilsons(sample: tuple[int, int]) -> None:
    estimate, plain = proportion(*sample), wilson(*sample)
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (plain.value, plain.low, plain.high, sample[1])


def test_steps_that_succeed_together_count_as_few_trials() -> None:
    together = share([20, 0] * 10, [20, 20] * 10)
    apart = share([10, 10] * 10, [20, 20] * 10)
    assert together.value == apart.value == 0.5
    assert together.low is not None
    assert apart.low is not None
    assert together.low < apart.low


def test_more_successes_than_trials_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no cluster can have more"):
        share([2], [1])


confusions = st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=20)


@given(confusions, st.integers(0, 5))
def test_the_bootstrap_interval_of_f1_holds_the_value_and_repeats(found: list[tuple[int, int, int]], seed: int) -> None:
    counts = np.array(found, dtype=np.float64).reshape(-1, 3)
    estimate = bootstrap(counts, f1, seed=seed, resamples=50)
    assert estimate == bootstrap(counts, f1, seed=seed, resamples=50)
    if estimate.value is None:
        assert counts.sum() == 0
        return
    assert estimate.low is not None
    assert estimate.high is not None
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@given(st.tuples(*[st.integers(0, 50)] * 3).filter(any))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(counts: tuple[int, int, int]) -> None:
    true, false, missed = counts
    value = float(f1(np.array([counts], dtype=np.float64))[0])
    if true == 0:
        assert value == 0
    else:
        precision, recall = true / (true + false), true / (true + missed)
        assert value == pytest.approx(2 / (1 / precision + 1 / recall))


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    draws = np.random.default_rng(0).normal(10.0, 2.0, 400)
    estimate = bootstrap(np.stack([draws, np.ones(400)], axis=1), mean, seed=0)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * draws.std() / 20, rel=0.1)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=10))
def test_the_mean_over_seeds_lies_in_its_interval(values: list[float]) -> None:
    estimate = over_seeds(values)
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high


def test_the_interval_over_seeds_of_a_textbook_example() -> None:
    estimate = over_seeds([1.0, 2.0, 3.0])  # t(2) = 4.3027, s = 1
    assert estimate.value == 2.0
    assert estimate.high == pytest.approx(2 + 4.302653 / math.sqrt(3))


def test_one_seed_has_no_interval() -> None:
    assert over_seeds([3.0]).low is None
    with pytest.raises(ValueError, match="at least one degree"):
        student_quantile(0)
