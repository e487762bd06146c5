"""Advantages against slow loops and cases computed by hand."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from dreamsim_trainers.advantages import (
    anchor_advantages,
    discounted_returns,
    generalized_advantages,
    group_advantages,
    whitened,
)

NUMBERS = st.floats(-10, 10, width=32)
SHARES = st.floats(0, 1)


def test_one_success_in_four_by_hand() -> None:
    found = group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.zeros(4, dtype=torch.long))
    # mean 1/4, variance 3/16
    expected = [0.75 / math.sqrt(3 / 16), *[-0.25 / math.sqrt(3 / 16)] * 3]
    assert found.advantages.tolist() == pytest.approx(expected, abs=1e-4)
    assert found.informative.all()


def test_without_normalisation_only_the_mean_is_taken_off() -> None:
    groups = torch.tensor([0, 1, 0, 1])
    found = group_advantages(torch.tensor([1.0, 5.0, 0.0, 9.0]), groups, normalise=False)
    assert found.advantages.tolist() == [0.5, -2.0, -0.5, 2.0]


def test_a_group_without_variance_is_told_and_worth_nothing() -> None:
    groups = torch.tensor([7, 7, 7, 3, 3, 9])
    found = group_advantages(torch.tensor([0.1, 0.1, 0.1, 0.0, 1.0, 1.0]), groups)
    assert found.informative.tolist() == [False, False, False, True, True, False]
    assert found.advantages[~found.informative].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, -1e6 - 0.1, 1 / 3e6])
@pytest.mark.parametrize("count", [3, 7, 11])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_equal_returns_have_no_variance_whatever_their_size(value: float, count: int, kind: torch.dtype) -> None:
    found = group_advantages(torch.full((count,), value, dtype=kind), torch.zeros(count, dtype=torch.long))
    assert not found.informative.any()
    assert not found.advantages.any()


def test_returns_that_differ_by_rounding_alone_have_no_variance() -> None:
    returns = torch.tensor([0.3, torch.tensor([0.1, 0.1, 0.1]).sum().item(), 0.3 * (1 - 2**-23)])
    assert len(set(returns.tolist())) > 1
    assert not group_advantages(returns, torch.zeros(3, dtype=torch.long)).informative.any()


@pytest.mark.parametrize("returns", [[0.0, 1e-7], [1e-8, 2e-8], [1.0, 1.0 + 1e-5], [1e6, 1e6 + 2]])
def test_small_differences_that_are_real_count_in_full(returns: list[float]) -> None:
    found = group_advantages(torch.tensor(returns), torch.zeros(2, dtype=torch.long))
    assert found.informative.all()
    assert found.advantages.tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)
    assert found.advantages.dtype == torch.float32


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-20, 20)), min_size=1, max_size=12), st.booleans())
def test_group_advantages_equal_the_slow_loop(rows: list[tuple[int, int]], normalise: bool) -> None:
    groups = torch.tensor([row[0] for row in rows])
    found = group_advantages(torch.tensor([float(row[1]) for row in rows]), groups, normalise=normalise)
    for place, (group, value) in enumerate(rows):
        mates = [float(other) for number, other in rows if number == group]
        spread = statistics.pstdev(mates)
        expected = 0.0 if spread == 0 else (value - statistics.fmean(mates)) / (spread if normalise else 1)
        assert found.advantages[place].item() == pytest.approx(expected, abs=1e-3)
        assert bool(found.informative[place]) == (spread > 0)


@settings(max_examples=25)
@given(st.lists(NUMBERS, min_size=1, max_size=8), SHARES)
def test_returns_to_go_equal_the_sum_over_what_follows(rewards: list[float], gamma: float) -> None:
    found = discounted_returns(torch.tensor(rewards, dtype=torch.float64), gamma)
    for step in range(len(rewards)):
        expected = sum(gamma**ahead * reward for ahead, reward in enumerate(rewards[step:]))
        assert found[step].item() == pytest.approx(expected, abs=1e-6)


def test_steps_in_the_same_state_are_compared_with_each_other() -> None:
    # two episodes pass state 0, one succeeds two steps later; state 1 is seen once
    returns = torch.tensor([0.81, 0.0, 0.9])
    found = anchor_advantages(returns, torch.tensor([0, 0, 1]), normalise=False)
    assert found.advantages.tolist() == pytest.approx([0.405, -0.405, 0.0])


def _gae(rewards: list[float], values: list[float], after: float, gamma: float, lam: float) -> list[float]:
    """Eq. 16 as it stands: the sum over all later temporal differences."""
    following = [*values[1:], after]
    deltas = [r + gamma * n - v for r, v, n in zip(rewards, values, following, strict=True)]
    return [sum((gamma * lam) ** ahead * delta for ahead, delta in enumerate(deltas[t:])) for t in range(len(deltas))]


STEPS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6)


@settings(max_examples=25)
@given(st.lists(st.tuples(STEPS, st.booleans(), NUMBERS), min_size=1, max_size=4), SHARES, SHARES)
def test_gae_equals_the_slow_sum_and_padding_changes_nothing(
    rows: list[tuple[list[tuple[float, float]], bool, float]], gamma: float, lam: float
) -> None:
    longest = max(len(steps) for steps, _, _ in rows) + 1
    rewards = torch.zeros(len(rows), longest, dtype=torch.float64)
    values = torch.full((len(rows), longest), 99.0, dtype=torch.float64)
    for index, (steps, _, _) in enumerate(rows):
        for t, (reward, value) in enumerate(steps):
            rewards[index, t], values[index, t] = reward, value
    found = generalized_advantages(
        rewards,
        values,
        lengths=torch.tensor([len(steps) for steps, _, _ in rows]),
        terminated=torch.tensor([ended for _, ended, _ in rows]),
        bootstrap=torch.tensor([after for _, _, after in rows], dtype=torch.float64),
        gamma=gamma,
        lam=lam,
    )
    for index, (steps, ended, after) in enumerate(rows):
        expected = _gae([r for r, _ in steps], [v for _, v in steps], 0.0 if ended else after, gamma, lam)
        assert found.advantages[index, : len(steps)].tolist() == pytest.approx(expected, abs=1e-6)
        wanted = [a + v for a, (_, v) in zip(expected, steps, strict=True)]
        assert found.returns[index, : len(steps)].tolist() == pytest.approx(wanted, abs=1e-6)
        assert not found.advantages[index, len(steps) :].any()
        assert not found.returns[index, len(steps) :].any()


def test_termination_ends_the_return_and_truncation_looks_on_by_hand() -> None:
    rewards, values = torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    found = generalized_advantages(
        rewards,
        values,
        lengths=torch.tensor([2, 2]),
        terminated=torch.tensor([True, False]),
        bootstrap=torch.tensor([8.0, 8.0]),
        gamma=0.5,
        lam=1.0,
    )
    assert found.advantages.tolist() == [[0.0, 0.5], [2.0, 4.5]]


def test_a_discount_of_its_own_for_every_step() -> None:
    found = generalized_advantages(
        torch.tensor([[0.0, 0.0, 1.0]]),
        torch.zeros(1, 3),
        lengths=torch.tensor([3]),
        terminated=torch.tensor([True]),
        bootstrap=torch.zeros(1),
        gamma=torch.tensor([[1.0, 0.5, 1.0]]),
        lam=1.0,
    )
    assert found.advantages.tolist() == [[0.5, 0.5, 1.0]]


def test_whitening_sees_only_what_the_mask_shows() -> None:
    found = whitened(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False]))
    assert found.tolist() == pytest.approx([-1.0, 1.0, 0.0], abs=1e-4)
    assert whitened(torch.tensor([5.0]), torch.tensor([True])).tolist() == [0.0]
    assert whitened(torch.tensor([5.0]), torch.tensor([False])).tolist() == [0.0]
