"""What one step of a trainer did, in numbers.

In: a trainer. Out: `UpdateMetrics`, one per batch. Always: every number has its formula beside it; means over tokens
are over the agent's tokens that were learned from; a number that does not exist for an algorithm is None, not 0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMetrics:
    """One batch, learned from."""

    batch: int
    """`Batch.number`."""
    version: int
    """Version of the weights after it."""
    staleness: int
    """Version before it minus the oldest version that any of its steps was decided with."""
    episodes: int
    """Episodes in the batch."""
    steps_real: int
    """Transitions from real environments."""
    steps_dreamed: int
    """Transitions from experience models."""
    sequences: int
    """Token sequences learned from."""
    tokens: int
    """Tokens of the agent learned from."""
    tokens_read: int
    """All tokens of these sequences."""
    return_mean: float
    """Mean undiscounted return over the episodes."""
    success_share: float
    """Episodes that solved their task / episodes."""
    informative_share: float
    """Groups whose returns differ / groups."""
    teaching_share: float | None
    """Episodes whose group's returns differ or, with step advantages, with a step whose return to go differs from that
    of another step from the same state / episodes; None where an algorithm does not compare within groups."""
    updates: int
    """Optimizer steps taken; 0 when nothing could be learned."""
    skipped_updates: int
    """Optimizer steps that were not taken because the gradient's L2 norm, sqrt(sum g^2), was not finite; what the
    network said for them is in no other number."""
    loss: float
    """What was minimised, mean over updates: policy loss + kl_coefficient * KL + value_coefficient * value loss
    - entropy_coefficient * entropy, each a weighted sum over tokens."""
    policy_loss: float
    """Sum over tokens of weight * importance * clipped policy loss, mean over updates."""
    kl_reference: float | None
    """Mean over tokens of the chosen estimator of KL(policy || reference); None without a reference."""
    entropy: float
    """Mean over tokens of H = -sum p log p, nats, at the sampling temperature."""
    kl_step: float
    """Mean over tokens of exp(-d) - 1 + d, d = max(log pi_old - log pi, -20): KL(pi_old || pi), how far this batch
    moved the policy (k3; pi_old sampled the tokens, and the other way round one token that pi avoids outweighs all
    others)."""
    clipped_share: float
    """Tokens whose gradient clipping took away / tokens."""
    logprob_difference: float
    """Mean over tokens of |log pi_old - log mu|: trainer against engine, before the first update."""
    logprob_difference_fresh: float | None
    """The same over tokens of episodes that were decided wholly with the weights that learn from them, so that no
    update lies between; None without any."""
    importance_mean: float
    """Mean over tokens of min(pi_old / mu, C); 1 where no correction is made."""
    importance_truncated: float
    """Tokens with pi_old / mu > C / tokens."""
    advantage_spread: float
    """Standard deviation of the advantages over tokens."""
    value_loss: float | None
    """Sum over tokens of weight * clipped value loss, mean over updates; None without a critic."""
    explained_variance: float | None
    """1 - Var(R - V) / Var(R) over tokens, before the first update; None without a critic or where R is constant."""
    gradient_norm: float
    """L2 norm of the gradient before clipping, mean over updates."""
    learning_rate: float
    """At the last update."""
    seconds: float
    """Wall time of the step."""
