"""How far two policies are from each other, seen from sampled tokens; and how undecided one is. Pure functions.

In: log-probabilities of tokens that were sampled from `policy`, or its logits. Out: one number per token.
Always: estimates are of KL(policy || reference), the way round that keeps a policy where the reference has support.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dreamsim_trainers.losses import LARGEST_LOG_RATIO

if TYPE_CHECKING:
    import torch

KlEstimator = Literal["k1", "k2", "k3"]


def kl_estimate(policy: torch.Tensor, reference: torch.Tensor, estimator: KlEstimator) -> torch.Tensor:
    """KL(policy || reference) per token, with d = log policy(x) - log reference(x) and x sampled from the policy.

    Schulman 2020, "Approximating KL Divergence":

    - k1 = d: unbiased, of high variance, often negative.
    - k2 = d^2 / 2: biased (by the third order of d), low variance, never negative.
    - k3 = exp(-d) - 1 + d: unbiased, low variance, never negative. There d is held at -20 or more
      (`LARGEST_LOG_RATIO`), where k3 is 4.9e8 and has no gradient any more: exp(-d) overflows float32 at d = -89. Above
      nothing is clamped: exp(-d) goes to 0 there.

    As a *loss* it is the gradient that counts. E[grad k2] is the gradient of the KL; E[grad k1] is 0, so k1 belongs
    into a reward only; grad k3 = (1 - exp(-d)) grad log policy is that of the KL the other way round,
    KL(reference || policy), and GRPO's choice (arXiv 2402.03300, Eq. 4). These hold for samples of the present policy.

    Args:
        policy: log-probabilities, any shape.
        reference: log-probabilities of the same tokens, same shape.
        estimator: by name.
    """
    difference = policy - reference
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference.square() / 2
    difference = difference.clamp(min=-LARGEST_LOG_RATIO)
    return (-difference).exp() - 1 + difference


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """H = -sum_x p(x) log p(x) of each row, in nats. Shapes [..., vocabulary] and [...]."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def token_logprobs(logits: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[token]. Shapes [..., vocabulary], [...] and [...].

    The normaliser is computed apart, so that no second tensor of the size of `logits` is kept.
    """
    chosen: torch.Tensor = logits.gather(-1, token_ids[..., None]).squeeze(-1)
    return chosen - logits.logsumexp(-1)
