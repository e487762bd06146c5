"""Gradients that are not finite: nothing is learned from them, and they are told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from dreamsim.records.learning import UpdateMetrics
from dreamsim_trainers.grpo import GrpoSettings, GrpoTrainer
from dreamsim_trainers.network import TokenOutputs
from dreamsim_trainers.optimisation import OptimiserSettings
from dreamsim_trainers.ppo import PpoSettings, PpoTrainer
from tests.trainers.tiny import batch, tiny

AnyTrainer = GrpoTrainer | PpoTrainer
TWO = OptimiserSettings(learning_rate=1e-3, mixed_precision="no", cpu=True, minibatches=2)
MAKERS: list[Callable[[], AnyTrainer]] = [
    lambda: GrpoTrainer(tiny(), GrpoSettings(optimiser=TWO)),
    lambda: PpoTrainer(tiny(), PpoSettings(optimiser=TWO)),
]
BOTH = pytest.mark.parametrize("make", MAKERS, ids=["grpo", "ppo"])


def stepped(trainer: AnyTrainer, monkeypatch: pytest.MonkeyPatch, *, broken: int) -> UpdateMetrics:
    """A step in which the network gives no numbers in the first `broken` passes that are learned from."""
    forward = trainer._learner._forward
    passes = 0

    def breaking(*arguments: Any, **named: Any) -> TokenOutputs:
        nonlocal passes
        said = forward(*arguments, **named)
        passes += torch.is_grad_enabled()
        wrong = torch.is_grad_enabled() and passes <= broken
        return replace(said, logprobs=said.logprobs * math.nan) if wrong else said

    monkeypatch.setattr(trainer._learner, "_forward", breaking)
    return trainer.step(batch())


def weights(trainer: AnyTrainer) -> list[torch.Tensor]:
    return [one.detach().clone() for one in trainer._learner.parameters.values()]


def finite(metrics: UpdateMetrics) -> bool:
    return all(math.isfinite(value) for value in asdict(metrics).values() if value is not None)


@BOTH
def test_a_step_whose_gradient_is_not_finite_is_not_taken(
    make: Callable[[], AnyTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make()
    before = weights(trainer)
    metrics = stepped(trainer, monkeypatch, broken=99)
    assert all(torch.equal(one, other) for one, other in zip(before, weights(trainer), strict=True))
    assert (metrics.updates, metrics.skipped_updates, metrics.version) == (0, 2, 1)
    assert trainer._learner.updates == 0
    assert finite(metrics)


@BOTH
def test_the_other_steps_of_the_batch_are_taken_and_the_metrics_are_of_these(
    make: Callable[[], AnyTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make()
    before = weights(trainer)
    metrics = stepped(trainer, monkeypatch, broken=1)
    assert (metrics.updates, metrics.skipped_updates) == (1, 1)
    assert not all(torch.equal(one, other) for one, other in zip(before, weights(trainer), strict=True))
    assert all(one.isfinite().all() for one in weights(trainer))
    assert finite(metrics)
    assert metrics.entropy > 0


@BOTH
def test_finite_gradients_skip_nothing(make: Callable[[], AnyTrainer]) -> None:
    metrics = make().step(batch())
    assert (metrics.updates, metrics.skipped_updates) == (2, 0)
