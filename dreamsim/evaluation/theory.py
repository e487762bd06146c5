"""What a model's errors allow to be said of a policy learned in it: the bounds of arXiv 2511.03773, as functions.

In: errors of reward and transitions, discount or horizon. Out: bounds on returns. Always:
- a bound holds for suprema over states and actions (`lemma_1`, `theorem_1`, `finite_horizon`), which samples cannot
  give: with means or quantiles in their place it is a diagnostic; `along_the_way` alone holds for expectations;
- total variation is half the sum of absolute differences, so it lies in [0, 1].

J is the return of a policy in the real environment, Ĵ that in the dream; rewards lie in [0, R_max].
"""

from __future__ import annotations

from collections.abc import Sequence


def lemma_1(*, reward_error: float, transition_error: float, discount: float, reward_max: float = 1.0) -> float:
    """Lemma 1: |J - Ĵ| ≤ ε_R / (1-γ) + 2 γ R_max ε_P / (1-γ)², the same policy in both.

    Args:
        reward_error: ε_R, the supremum of |R - R̂|.
        transition_error: ε_P, the supremum of the total variation between P and P̂.
        discount: γ, in [0, 1).
        reward_max: R_max.

    Raises:
        ValueError: an error is negative, the transition error above 1, or the discount outside [0, 1).
    """
    _check(reward_error, transition_error, discount)
    left = 1 - discount
    return reward_error / left + 2 * discount * reward_max * transition_error / left**2


def theorem_1(
    *,
    advantage: float,
    divergence: float,
    reward_error: float,
    transition_error: float,
    discount: float,
    reward_max: float = 1.0,
) -> float:
    """Theorem 1: the least that a policy improved in the dream has improved in reality.

    J(π') - J(π) ≥ E[Â] / (1-γ) - 4 γ V_max δ / (1-γ)² - 2 (bound of Lemma 1), with V_max = R_max / (1-γ).

    Args:
        advantage: E[Â]: the dream's advantages of π under the actions of π' in the states that π visits in the dream.
        divergence: δ, the supremum over states of KL(π ‖ π').
        reward_error: as in `lemma_1`.
        transition_error: as in `lemma_1`.
        discount: as in `lemma_1`.
        reward_max: as in `lemma_1`.

    Raises:
        ValueError: as `lemma_1`, or a negative divergence.
    """
    if divergence < 0:
        raise ValueError(f"a divergence cannot be negative: {divergence}")
    model = lemma_1(
        reward_error=reward_error, transition_error=transition_error, discount=discount, reward_max=reward_max
    )
    left = 1 - discount
    return advantage / left - 4 * discount * (reward_max / left) * divergence / left**2 - 2 * model


def finite_horizon(*, reward_error: float, transition_error: float, horizon: float) -> float:
    """Undiscounted, H steps at most, one terminal reward in [0, 1]: |J - Ĵ| ≤ ε_R + 1 - (1-ε_P)^H, and at most 1.

    By coupling: both episodes are the same with a chance of at least (1-ε_P)^H, and then their rewards differ by at
    most ε_R; else by at most 1.

    Raises:
        ValueError: an error is negative, the transition error above 1, or the horizon negative.
    """
    _check(reward_error, transition_error, 0.0)
    if horizon < 0:
        raise ValueError(f"a horizon cannot be negative: {horizon}")
    same: float = (1 - transition_error) ** horizon
    return min(1.0, reward_error + 1 - same)


def along_the_way(errors: Sequence[Sequence[tuple[float, float]]]) -> float:
    """The bound that samples can give: |J - Ĵ| ≤ E[Σ_t ε_R(s_t, a_t) + ε_P(s_t, a_t)] over real episodes; at most 1.

    By the same coupling, along the episodes that the policy plays in reality: the chance that the dream leaves the real
    path is at most the expected sum of the total variations on it; while it has not, rewards differ by ε_R.
    Undiscounted, the return of an episode in [0, 1]. The expectation is estimated by the mean over the episodes; the
    minimum with 1 must stand outside of it.

    Args:
        errors: (|r - r̂|, total variation) of each step of each real episode of the policy.

    Raises:
        ValueError: there are no episodes.
    """
    if not errors:
        raise ValueError("a mean over no episodes has no value")
    return min(1.0, sum(reward + step for episode in errors for reward, step in episode) / len(errors))


def _check(reward_error: float, transition_error: float, discount: float) -> None:
    if reward_error < 0:
        raise ValueError(f"an error of rewards cannot be negative: {reward_error}")
    if not 0 <= transition_error <= 1:
        raise ValueError(f"a total variation lies in [0, 1], not {transition_error}")
    if not 0 <= discount < 1:
        raise ValueError(f"the discount must lie in [0, 1), or the bound is infinite: {discount}")
