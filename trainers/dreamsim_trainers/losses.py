"""Losses of policy-gradient methods over tokens. Pure functions of tensors.

In: log-probabilities, advantages, values, one per token of the agent. Out: one loss per token, and weights to add them
up with: `loss = (weights * losses).sum()`.
Always: a loss per token never mixes tokens, so a batch cut into pieces of any size gives the same sum and the same
gradient; what normalises is decided for the whole batch beforehand (`token_weights`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Normalisation = Literal["token", "sequence", "constant"]

LARGEST_LOG_RATIO = 20.0
"""Log-ratios are held within this on both sides: exp of more overflows and means nothing any more."""


def token_weights(sequences: torch.Tensor, normalisation: Normalisation, *, constant: float = 1.0) -> torch.Tensor:
    """What each token's loss counts for. N episodes are in the batch, episode i has n_i tokens of the agent.

    - `token`: 1 / sum_i n_i. Every token counts alike, so long episodes count more (DAPO, arXiv 2503.14476, Eq. 8).
    - `sequence`: 1 / (N n_i). Every episode counts alike, so tokens of long ones count less (GRPO, arXiv 2402.03300,
      Eq. 3).
    - `constant`: 1 / (N constant). No length enters, which is the unbiased policy gradient up to a factor (Dr. GRPO,
      arXiv 2503.20783, section 3.2); `constant` is a typical number of tokens.

    A sequence is a whole episode, also where it is laid out as several samples.

    Args:
        sequences: shape [tokens], whole numbers: the episode each token belongs to.
        normalisation: by name.
        constant: tokens that an episode is taken to have; for `constant` only.
    """
    import torch

    _, index, counts = torch.unique(sequences, return_inverse=True, return_counts=True)
    lengths: torch.Tensor = counts[index].to(torch.float32)
    if normalisation == "token":
        return torch.full_like(lengths, 1.0 / max(len(sequences), 1))
    if normalisation == "sequence":
        return 1.0 / (len(counts) * lengths)
    return torch.full_like(lengths, 1.0 / (max(len(counts), 1) * constant))


def clipped_policy_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> torch.Tensor:
    """-min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), rho = pi(x) / pi_old(x). All of shape [tokens].

    PPO (arXiv 1707.06347), Eq. 7; two bounds as in DAPO (arXiv 2503.14476, Eq. 10): a higher upper one lets unlikely
    tokens become likelier and so keeps entropy up. At rho = 1 the gradient is that of REINFORCE, -A grad log pi.
    """
    ratio = probability_ratio(logprobs, old_logprobs)
    return -(ratio * advantages).minimum(ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)


def probability_ratio(logprobs: torch.Tensor, old_logprobs: torch.Tensor) -> torch.Tensor:
    """pi(x) / pi_old(x), any shape; held within exp(+-20)."""
    return (logprobs - old_logprobs).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()


def clipped(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> torch.Tensor:
    """Whether clipping took a token's gradient away: rho is beyond the bound that A pushes to. Shape [tokens], bool."""
    ratio = probability_ratio(logprobs, old_logprobs)
    return ((advantages > 0) & (ratio > 1 + clip_high)) | ((advantages < 0) & (ratio < 1 - clip_low))


def importance_weights(
    old_logprobs: torch.Tensor, behaviour_logprobs: torch.Tensor, *, truncate: float | None
) -> torch.Tensor:
    """min(pi_old(x) / mu(x), C): corrects for tokens sampled by mu while the loss takes them as sampled by pi_old.

    mu is the engine: other kernels, another precision, maybe older weights. Truncated importance sampling (Ionides
    2008; for engines: Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"; with
    old weights it is the decoupled objective of Hilton et al. 2022, arXiv 2110.00641). No gradient passes.

    Args:
        old_logprobs: shape [tokens], by the trainer's weights before this batch.
        behaviour_logprobs: shape [tokens], as the engine sampled.
        truncate: C, at least 1; None is no truncation.
    """
    ratio = probability_ratio(old_logprobs.detach(), behaviour_logprobs)
    return ratio if truncate is None else ratio.clamp(max=truncate)


def clipped_value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, *, clip: float | None
) -> torch.Tensor:
    """max((V - R)^2, (V_old + clip(V - V_old, -clip, clip) - R)^2) / 2. All of shape [tokens].

    The value loss of PPO's first implementation (baselines; see Engstrom et al. 2020, arXiv 2005.12729, section 3).
    `clip=None` is the plain squared error.
    """
    plain = (values - returns).square()
    if clip is None:
        return plain / 2
    near = old_values + (values - old_values).clamp(-clip, clip)
    return plain.maximum((near - returns).square()) / 2
