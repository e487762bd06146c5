"""The bounds hold on random MDPs, where both sides can be computed exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsim.evaluation.theory import along_the_way, finite_horizon, lemma_1, theorem_1

Array = NDArray[np.float64]
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A real MDP, a dream of it, and a policy: all finite."""

    real: Array
    dream: Array
    rewards: Array
    dreamed_rewards: Array
    policy: Array

    @property
    def reward_error(self) -> float:
        return float(np.abs(self.rewards - self.dreamed_rewards).max())

    @property
    def distances(self) -> Array:
        distances: Array = np.abs(self.real - self.dream).sum(axis=2) / 2
        return distances


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Any size; from sharp to flat; from a perfect dream to a hopeless one."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    states, actions = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    sharp = draw(st.sampled_from((0.05, 0.3, 1.0)))
    wrong, wrong_rewards = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    real = random.dirichlet(np.full(states, sharp), (states, actions))
    rewards = random.uniform(size=(states, actions))
    return Pair(
        real=real,
        dream=(1 - wrong) * real + wrong * random.dirichlet(np.full(states, sharp), (states, actions)),
        rewards=rewards,
        dreamed_rewards=(1 - wrong_rewards) * rewards + wrong_rewards * random.uniform(size=(states, actions)),
        policy=random.dirichlet(np.full(actions, sharp), states),
    )


def values(transitions: Array, rewards: Array, policy: Array, discount: float) -> Array:
    """V = (1 - γ P_π)⁻¹ R_π."""
    step = np.einsum("sa,sat->st", policy, transitions)
    found: Array = np.linalg.solve(np.eye(len(step)) - discount * step, (policy * rewards).sum(axis=1))
    return found


@given(pairs(), st.floats(0, 0.97))
def test_lemma_1_bounds_the_difference_of_returns(pair: Pair, discount: float) -> None:
    gap = np.abs(
        values(pair.real, pair.rewards, pair.policy, discount)
        - values(pair.dream, pair.dreamed_rewards, pair.policy, discount)
    ).max()
    bound = lemma_1(reward_error=pair.reward_error, transition_error=float(pair.distances.max()), discount=discount)
    assert gap <= bound + ROUNDING


@given(pairs(), st.floats(0, 0.97), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_theorem_1_bounds_the_real_improvement_from_below(pair: Pair, discount: float, far: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    states, actions = pair.policy.shape
    policy = 0.9 * pair.policy + 0.1 / actions  # so that no divergence is infinite
    better = (1 - far) * policy + far * (0.9 * random.dirichlet(np.ones(actions), states) + 0.1 / actions)
    dreamed = values(pair.dream, pair.dreamed_rewards, policy, discount)
    advantages = pair.dreamed_rewards + discount * pair.dream @ dreamed - dreamed[:, None]
    step = np.einsum("sa,sat->st", policy, pair.dream)
    first = np.eye(states)[0]
    visited = (1 - discount) * np.linalg.solve((np.eye(states) - discount * step).T, first)
    bound = theorem_1(
        advantage=float(visited @ (better * advantages).sum(axis=1)),
        divergence=float((policy * np.log(policy / better)).sum(axis=1).max().clip(0)),
        reward_error=pair.reward_error,
        transition_error=float(pair.distances.max()),
        discount=discount,
    )
    improved = (
        values(pair.real, pair.rewards, better, discount)[0] - values(pair.real, pair.rewards, policy, discount)[0]
    )
    assert improved >= bound - ROUNDING


def last_reward(transitions: Array, rewards: Array, policy: Array, horizon: int) -> Array:
    """Expected reward of the last of `horizon` steps, the only one that is paid, by where the episode begins."""
    value: Array = (policy * rewards).sum(axis=1)
    for _ in range(horizon - 1):
        value = np.einsum("sa,sat,t->s", policy, transitions, value)
    return value


@given(pairs(), st.integers(1, 40))
def test_the_finite_horizon_bound_holds_for_a_terminal_reward(pair: Pair, horizon: int) -> None:
    gap = np.abs(
        last_reward(pair.real, pair.rewards, pair.policy, horizon)
        - last_reward(pair.dream, pair.dreamed_rewards, pair.policy, horizon)
    ).max()
    bound = finite_horizon(
        reward_error=pair.reward_error, transition_error=float(pair.distances.max()), horizon=horizon
    )
    assert gap <= bound + ROUNDING


@given(pairs(), st.integers(1, 4))
def test_the_bound_along_the_way_holds_in_expectation(pair: Pair, horizon: int) -> None:
    """Every real path of `horizon` steps, weighted by its chance; the last step is paid."""
    expected = 0.0
    reward_errors = np.abs(pair.rewards - pair.dreamed_rewards)

    def walk(state: int, chance: float, so_far: list[tuple[float, float]]) -> None:
        nonlocal expected
        last = len(so_far) == horizon - 1
        for action, taken in enumerate(pair.policy[state]):
            error = (float(reward_errors[state, action]) if last else 0.0, float(pair.distances[state, action]))
            if last:
                expected += chance * taken * sum(sum(both) for both in [*so_far, error])
                continue
            for after, moved in enumerate(pair.real[state, action]):
                if moved > 0:
                    walk(after, chance * taken * moved, [*so_far, error])

    if (pair.policy.size * len(pair.policy)) ** horizon > 20_000:
        horizon = 2
    walk(0, 1.0, [])
    gap = abs(
        last_reward(pair.real, pair.rewards, pair.policy, horizon)[0]
        - last_reward(pair.dream, pair.dreamed_rewards, pair.policy, horizon)[0]
    )
    assert gap <= min(1.0, expected) + ROUNDING


def test_a_perfect_dream_has_no_gap() -> None:
    assert lemma_1(reward_error=0, transition_error=0, discount=0.9) == 0
    assert finite_horizon(reward_error=0, transition_error=0, horizon=30) == 0
    assert along_the_way([[(0, 0)] * 3]) == 0


def test_the_formulas_by_hand() -> None:
    assert lemma_1(reward_error=0.1, transition_error=0.01, discount=0.5) == pytest.approx(0.24)
    assert finite_horizon(reward_error=0.1, transition_error=0.5, horizon=2) == pytest.approx(0.85)
    assert finite_horizon(reward_error=0.9, transition_error=0.5, horizon=2) == 1
    assert along_the_way([[(0, 0.25), (0.5, 0)], [(0, 0.25)]]) == pytest.approx(0.5)
    assert along_the_way([[(0, 1), (0, 1)]]) == 1
    improved = theorem_1(advantage=0.5, divergence=0.01, reward_error=0, transition_error=0, discount=0.5)
    assert improved == pytest.approx(1 - 4 * 0.5 * 2 * 0.01 / 0.25)


@pytest.mark.parametrize(
    ("reward", "step", "discount"), [(-0.1, 0.0, 0.5), (0.0, 1.1, 0.5), (0.0, 0.0, 1.0)], ids=["reward", "step", "one"]
)
def test_what_no_error_can_be_is_refused(reward: float, step: float, discount: float) -> None:
    with pytest.raises(ValueError, match=r"cannot|lies in|must lie"):
        lemma_1(reward_error=reward, transition_error=step, discount=discount)
