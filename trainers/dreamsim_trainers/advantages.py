"""Advantages: how much better an episode, a step or a token was than expected. Pure functions of tensors.

In: rewards or returns, with what they are compared with. Out: advantages of the same shape.
Always: nothing here carries a gradient that the arguments did not; padding is worth 0; the end of a task and the end of
patience are different things (`generalized_advantages`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsim.records.sample import RETURN_TOLERANCE

if TYPE_CHECKING:
    import torch

EPSILON = 1e-6
"""Added to the standard deviation that `whitened` divides by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdvantages:
    """Advantages relative to one's group."""

    advantages: torch.Tensor
    """Shape [n]; 0 in groups without variance."""
    informative: torch.Tensor
    """Shape [n], bool: whether the group's returns differ by more than rounding. What is not informative teaches
    nothing and can be left out (the filter of DAPO, arXiv 2503.14476, section 3.2; Eq. 7 of arXiv 2511.03773 gives it
    the value V = 0)."""


def group_advantages(returns: torch.Tensor, groups: torch.Tensor, *, normalise: bool = True) -> GroupAdvantages:
    """Advantages of GRPO: A_i = (r_i - mean r) / std r over the group of i.

    DeepSeekMath (arXiv 2402.03300), section 4.1.2; the standard deviation is that of the population, sqrt(V) of Eq. 7
    in arXiv 2511.03773. Without `normalise`, A_i = r_i - mean r, as Dr. GRPO (arXiv 2503.20783) proposes, because
    dividing weighs tasks that nearly always or nearly never succeed more.

    A group whose max r - min r is at most `RETURN_TOLERANCE` * max |r| has no variance. Sums are of float64: in float32
    the mean of equal numbers is another number.

    Args:
        returns: shape [n], float.
        groups: shape [n], whole numbers: who has the same number is in the same group.
        normalise: whether to divide by the standard deviation.
    """
    import torch

    _, index, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    exact = returns.double()
    zeros = torch.zeros(len(counts), dtype=exact.dtype, device=exact.device)
    highest = zeros.scatter_reduce(0, index, exact, "amax", include_self=False)
    lowest = zeros.scatter_reduce(0, index, exact, "amin", include_self=False)
    informative = (highest - lowest > RETURN_TOLERANCE * highest.abs().maximum(lowest.abs()))[index]
    advantages = exact - (zeros.index_add(0, index, exact) / counts)[index]
    if normalise:
        deviation = (zeros.index_add(0, index, advantages.square()) / counts).sqrt()[index]
        advantages = advantages / deviation.masked_fill(~informative, 1.0)
    return GroupAdvantages(
        advantages=advantages.masked_fill(~informative, 0.0).to(returns.dtype), informative=informative
    )


def discounted_returns(rewards: torch.Tensor, gamma: float) -> torch.Tensor:
    """Returns to go of one episode: G_t = r_t + gamma G_{t+1}. Shapes [steps] and [steps]."""
    import torch

    returns = torch.zeros_like(rewards)
    after = torch.zeros((), dtype=rewards.dtype, device=rewards.device)
    for step in range(len(rewards) - 1, -1, -1):
        after = rewards[step] + gamma * after
        returns[step] = after
    return returns


def anchor_advantages(returns: torch.Tensor, anchors: torch.Tensor, *, normalise: bool = True) -> GroupAdvantages:
    """Step advantages of GiGPO (arXiv 2505.10978): steps taken in the same state are compared.

    A(a_t) = (G_t - mean G) / std G over all steps of the same task that were taken in the same (anchor) state; without
    `normalise` nothing is divided by. A state that was seen once compares with itself: 0.

    Args:
        returns: shape [steps of all episodes]: discounted returns to go.
        anchors: shape [same]: numbers of pairs of task group and state.
        normalise: whether to divide by the standard deviation.
    """
    return group_advantages(returns, anchors, normalise=normalise)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueTargets:
    """What GAE makes of rewards and values."""

    advantages: torch.Tensor
    """Shape [episodes, longest]; 0 in the padding."""
    returns: torch.Tensor
    """Shape [episodes, longest]: advantages plus values, the critic's targets; 0 in the padding."""


def generalized_advantages(
    rewards: torch.Tensor,
    values: torch.Tensor,
    *,
    lengths: torch.Tensor,
    terminated: torch.Tensor,
    bootstrap: torch.Tensor,
    gamma: torch.Tensor | float,
    lam: torch.Tensor | float,
) -> ValueTargets:
    """GAE: A_t = delta_t + gamma_t lam_t A_{t+1}, delta_t = r_t + gamma_t V(s_{t+1}) - V(s_t).

    Schulman et al. 2016 (arXiv 1506.02438), Eq. 11, 12 and 16. What follows the last step of an episode depends on why
    it was the last: after *termination* there is nothing, V = 0; *truncation* only stopped looking, so V is
    `bootstrap`, the critic's value of the state that was reached (Pardo et al. 2018, arXiv 1712.00378, section 3).

    Args:
        rewards: shape [episodes, longest].
        values: shape [episodes, longest]; a gradient is not passed on.
        lengths: shape [episodes]: steps of each; what lies beyond is padding.
        terminated: shape [episodes], bool: whether the task itself ended; False is truncation.
        bootstrap: shape [episodes]: V of the state after the last step; looked at only where truncated.
        gamma: discount, or one for every step: shape [episodes, longest].
        lam: lambda, likewise.
    """
    import torch

    values = values.detach()
    longest = rewards.shape[1]
    discount = torch.as_tensor(gamma, dtype=rewards.dtype, device=rewards.device).expand_as(rewards)
    decay = torch.as_tensor(lam, dtype=rewards.dtype, device=rewards.device).expand_as(rewards)
    final = bootstrap.detach().masked_fill(terminated, 0.0)
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(final)
    for t in range(longest - 1, -1, -1):
        inside = lengths > t
        last = lengths == t + 1
        next_value = final if t == longest - 1 else final.where(last, values[:, t + 1])
        delta = rewards[:, t] + discount[:, t] * next_value - values[:, t]
        carried = discount[:, t] * decay[:, t] * following.masked_fill(last, 0.0)
        following = (delta + carried).masked_fill(~inside, 0.0)
        advantages[:, t] = following
    within = torch.arange(longest, device=rewards.device) < lengths[:, None]
    return ValueTargets(advantages=advantages, returns=(advantages + values).masked_fill(~within, 0.0))


def whitened(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`values` with mean 0 and standard deviation 1 over `mask`, 0 outside; one value alone becomes 0.

    The usual normalisation of PPO's advantages (Andrychowicz et al. 2021, arXiv 2006.05990, C67).
    """
    import torch

    inside = values[mask]
    if inside.numel() == 0:
        return torch.zeros_like(values)
    centred = (values - inside.mean()).masked_fill(~mask, 0.0)
    return centred / (inside.var(correction=0).sqrt() + EPSILON)
