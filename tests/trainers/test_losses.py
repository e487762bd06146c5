"""Losses, weights and divergences against slow loops, cases computed by hand and exact gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from dreamsim_trainers.advantages import group_advantages
from dreamsim_trainers.divergence import KlEstimator, entropy, kl_estimate, token_logprobs
from dreamsim_trainers.losses import (
    Normalisation,
    clipped,
    clipped_policy_loss,
    clipped_value_loss,
    importance_weights,
    token_weights,
)

LOGPROBS = st.floats(-8, 0)
ADVANTAGES = st.floats(-3, 3)
TOKENS = st.lists(st.tuples(LOGPROBS, LOGPROBS, ADVANTAGES), min_size=1, max_size=12)


def _column(rows: list[tuple[float, float, float]], place: int) -> torch.Tensor:
    return torch.tensor([row[place] for row in rows], dtype=torch.float64)


@settings(max_examples=25)
@given(TOKENS, st.floats(0.01, 0.9), st.floats(0.01, 2))
def test_clipped_loss_equals_the_slow_loop(rows: list[tuple[float, float, float]], low: float, high: float) -> None:
    found = clipped_policy_loss(
        _column(rows, 0), _column(rows, 1), _column(rows, 2), clip_low=low, clip_high=high
    ).tolist()
    for value, (new, old, advantage) in zip(found, rows, strict=True):
        ratio = math.exp(new - old)
        bounded = min(max(ratio, 1 - low), 1 + high)
        assert value == pytest.approx(-min(ratio * advantage, bounded * advantage), rel=1e-9, abs=1e-12)


@settings(max_examples=25)
@given(TOKENS)
def test_what_is_clipped_has_no_gradient_and_the_rest_has(rows: list[tuple[float, float, float]]) -> None:
    new = _column(rows, 0).requires_grad_()
    old, advantages = _column(rows, 1), _column(rows, 2)
    clipped_policy_loss(new, old, advantages, clip_low=0.2, clip_high=0.3).sum().backward()  # type: ignore[no-untyped-call]  # torch
    gone = clipped(new, old, advantages, clip_low=0.2, clip_high=0.3)
    assert new.grad is not None
    assert not new.grad[gone].any()
    kept = ~gone & (advantages != 0)
    assert (new.grad[kept] != 0).all()


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [("token", [1 / 4] * 4), ("sequence", [1 / 6, 1 / 6, 1 / 6, 1 / 2]), ("constant", [1 / 20] * 4)],
)
def test_weights_by_hand(normalisation: Normalisation, expected: list[float]) -> None:
    found = token_weights(torch.tensor([5, 5, 5, 2]), normalisation, constant=10.0)
    assert found.tolist() == pytest.approx(expected)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.sampled_from(["token", "sequence"]))
def test_weights_sum_to_one_and_sequences_count_alike(sequences: list[int], normalisation: Normalisation) -> None:
    numbers = torch.tensor(sequences)
    found = token_weights(numbers, normalisation)
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    if normalisation == "sequence":
        sums = {number: found[numbers == number].sum().item() for number in set(sequences)}
        assert list(sums.values()) == pytest.approx([1 / len(sums)] * len(sums), abs=1e-5)


@pytest.mark.parametrize(("estimator", "expected"), [("k1", 0.5), ("k2", 0.125), ("k3", math.exp(-0.5) - 0.5)])
def test_kl_estimators_by_hand(estimator: KlEstimator, expected: float) -> None:
    assert kl_estimate(torch.tensor(-1.0), torch.tensor(-1.5), estimator).item() == pytest.approx(expected)


def test_k3_of_a_token_that_only_the_reference_knows_does_not_overflow() -> None:
    policy = torch.tensor([-1e4, -math.inf, -21.0, 0.0], requires_grad=True)
    found = kl_estimate(policy, torch.tensor([0.0, 0.0, 0.0, -1e4]), "k3")
    found.sum().backward()  # type: ignore[no-untyped-call]  # torch
    largest = math.exp(20) - 1 - 20
    assert found.tolist() == pytest.approx([largest, largest, largest, 1e4 - 1], rel=1e-6)
    assert policy.grad is not None
    assert policy.grad.tolist() == [0.0, 0.0, 0.0, 1.0]  # what is too dear already goes on being dear


@settings(max_examples=25)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_k1_and_k3_are_unbiased_and_k2_has_the_gradient_of_the_kl(one: list[float], other: list[float]) -> None:
    """Expectations over the whole (small) vocabulary, so that nothing is left to chance."""
    logits = torch.tensor(one, dtype=torch.float64, requires_grad=True)
    reference = torch.tensor(other, dtype=torch.float64).log_softmax(-1)
    policy = logits.log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    fixed = policy.exp().detach()
    for estimator in ("k1", "k3"):
        assert (fixed * kl_estimate(policy, reference, estimator)).sum().item() == pytest.approx(exact.item(), abs=1e-9)
    wanted = torch.autograd.grad(exact, logits, retain_graph=True)[0]
    by_k2 = torch.autograd.grad((fixed * kl_estimate(policy, reference, "k2")).sum(), logits, retain_graph=True)[0]
    assert torch.allclose(by_k2, wanted, atol=1e-9)
    by_k1 = torch.autograd.grad((fixed * kl_estimate(policy, reference, "k1")).sum(), logits, retain_graph=True)[0]
    assert torch.allclose(by_k1, torch.zeros(3, dtype=torch.float64), atol=1e-9)
    other_way = (reference.exp() * (reference - policy)).sum()
    by_k3 = torch.autograd.grad((fixed * kl_estimate(policy, reference, "k3")).sum(), logits, retain_graph=True)[0]
    assert torch.allclose(by_k3, torch.autograd.grad(other_way, logits)[0], atol=1e-9)


def test_entropy_of_certainty_and_of_a_fair_coin() -> None:
    assert entropy(torch.tensor([[0.0, 0.0], [100.0, 0.0]])).tolist() == pytest.approx([math.log(2), 0.0])


def test_token_logprobs_equal_log_softmax() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([0, 6, 3, 3, 1])
    expected = logits.log_softmax(-1)[torch.arange(5), ids]
    assert torch.allclose(token_logprobs(logits, ids), expected, atol=1e-6)


@settings(max_examples=25)
@given(TOKENS, st.one_of(st.none(), st.floats(1, 5)))
def test_importance_weights_equal_the_truncated_ratio(
    rows: list[tuple[float, float, float]], truncate: float | None
) -> None:
    found = importance_weights(_column(rows, 0), _column(rows, 1), truncate=truncate).tolist()
    for value, (old, behaviour, _) in zip(found, rows, strict=True):
        ratio = math.exp(old - behaviour)
        assert value == pytest.approx(ratio if truncate is None else min(ratio, truncate))


def test_value_loss_by_hand() -> None:
    values, old, returns = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.9]), torch.tensor([1.0, 0.0])
    # the first value is right but moved too far: it counts as 0.2; the second may move and is off by 1
    found = clipped_value_loss(values, old, returns, clip=0.2)
    assert found.tolist() == pytest.approx([0.32, 0.5])
    assert clipped_value_loss(values, old, returns, clip=None).tolist() == pytest.approx([0.0, 0.5])


def test_grpo_is_reinforce_in_its_limit() -> None:
    """On policy, without clipping, KL or division by the deviation, the gradient is that of -A log pi."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 6, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    tokens = torch.randint(0, 9, (4, 6), generator=generator)
    returns = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    groups = torch.tensor([0, 0, 1, 1])
    logprobs = token_logprobs(logits, tokens)

    reinforce = torch.zeros((), dtype=torch.float64)
    for episode in range(4):
        baseline = returns[groups == groups[episode]].mean()
        for step in range(6):
            reinforce = reinforce - (returns[episode] - baseline) * logprobs[episode, step] / 4
    expected = torch.autograd.grad(reinforce, logits, retain_graph=True)[0]

    advantages = group_advantages(returns, groups, normalise=False).advantages[:, None].expand(4, 6)
    losses = clipped_policy_loss(
        logprobs.flatten(), logprobs.detach().flatten(), advantages.flatten(), clip_low=0.2, clip_high=0.2
    )
    weights = token_weights(torch.arange(4).repeat_interleave(6), "constant", constant=1.0)
    found = torch.autograd.grad((weights * losses).sum(), logits)[0]
    assert torch.allclose(found, expected, atol=1e-8)
