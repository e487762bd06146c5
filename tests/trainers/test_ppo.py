"""PPO on a model of a few thousand weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dreamsim.errors import UsageError
from dreamsim.records.episode import EpisodeOutcome
from dreamsim.testing.trainer_contracts import check_trainer

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from dreamsim_trainers.causal_lm import LoraShape
from dreamsim_trainers.optimisation import OptimiserSettings
from dreamsim_trainers.ppo import PpoSettings, PpoTrainer, TokenTimes, explained_variance
from dreamsim_trainers.rows import rows_of
from tests.trainers.tiny import batch, tiny

FAST = OptimiserSettings(learning_rate=1e-3, mixed_precision="no", cpu=True)
PLAIN = PpoSettings(optimiser=FAST, kl_coefficient=0.0, importance="none")
MIXED: tuple[tuple[EpisodeOutcome, ...], ...] = (("success", "failure"), ("truncated", "truncated"))


@pytest.mark.parametrize(
    "settings",
    [
        PpoSettings(optimiser=replace(FAST, minibatches=2, epochs=2)),
        PpoSettings(
            optimiser=replace(FAST, mixed_precision="bf16"),
            lora=LoraShape(rank=2, alpha=4),
            kl_estimator="k1",
            detach_critic=True,
        ),
    ],
    ids=["full", "lora"],
)
def test_interrupted_and_resumed_is_as_not_interrupted(settings: PpoSettings, tmp_path: Path) -> None:
    check_trainer(lambda: PpoTrainer(tiny(), settings), [batch(0, *MIXED), batch(1), batch(2, *MIXED)], tmp_path)


def test_rewards_stand_at_the_last_token_of_their_step() -> None:
    made = batch(0, ("success", "failure")).trajectories
    rows = rows_of(made)
    times = TokenTimes.of(made, rows)
    assert times.rewards.sum() == 1
    first = rows.episode == 0
    assert times.rewards[first][-1] == 1
    ends = np.flatnonzero(times.step_ends)
    assert len(ends) == sum(len(one.rewards) for one in made)
    assert set(rows.step[ends].tolist()) == set(range(len(ends)))
    flat = torch.arange(len(rows.step), dtype=torch.float32)
    assert torch.equal(times.flat(times.by_episode(flat)), flat)


def test_without_discount_and_critic_every_token_is_worth_the_return() -> None:
    made = batch(0, ("success", "failure")).trajectories
    rows = rows_of(made)
    trainer = PpoTrainer(tiny(), replace(PLAIN, gamma=1.0, lam=1.0))
    targets = trainer._targets(made, rows, torch.zeros(len(rows.step)), None)
    expected = [made[index].total_reward for index in rows.episode]
    assert targets.advantages.tolist() == pytest.approx(expected)


def test_time_passes_between_environment_steps_and_not_between_tokens() -> None:
    made = batch(0, ("failure", "success")).trajectories  # the second takes two steps
    rows = rows_of(made)
    trainer = PpoTrainer(tiny(), replace(PLAIN, gamma=0.5, lam=1.0))
    targets = trainer._targets(made, rows, torch.zeros(len(rows.step)), None)
    steps = rows.step - rows.step[rows.episode == 1].min()
    for place in np.flatnonzero(rows.episode == 1):
        assert targets.advantages[place].item() == pytest.approx(0.5 if steps[place] == 0 else 1.0)


def test_truncation_looks_on_with_the_value_of_the_continuation() -> None:
    made = batch(0, ("truncated", "failure")).trajectories
    rows = rows_of(made)
    trainer = PpoTrainer(tiny(), replace(PLAIN, gamma=1.0, lam=1.0))
    head = trainer._learner.network.value_head
    torch.nn.init.constant_(head.bias, 3.0)  # the critic expects 3 everywhere
    targets = trainer._targets(made, rows, torch.full((len(rows.step),), 3.0), None)
    truncated = torch.from_numpy(rows.episode == 0)
    assert targets.returns[truncated].tolist() == pytest.approx([3.0] * int(truncated.sum()))
    assert targets.returns[~truncated].tolist() == pytest.approx([0.0] * int((~truncated).sum()))


def test_running_out_of_steps_costs_something_unless_there_is_no_discount() -> None:
    """With gamma = 1 waiting until the steps run out is worth what the critic thinks of it, whatever that is."""
    made = batch(0, ("truncated", "failure")).trajectories
    rows = rows_of(made)
    waiting = torch.from_numpy(rows.episode == 0)
    hopes = torch.full((len(rows.step),), 0.7)
    for settings, worth in ((PLAIN, -0.05 * 0.7), (replace(PLAIN, gamma=1.0), 0.0)):
        trainer = PpoTrainer(tiny(), settings)
        torch.nn.init.constant_(trainer._learner.network.value_head.bias, 0.7)
        advantages = trainer._targets(made, rows, hopes, None).advantages
        assert advantages[waiting][-1].item() == pytest.approx(worth, abs=1e-6)


def test_a_truncated_episode_without_continuation_is_refused() -> None:
    made = batch(0, ("truncated", "failure"))
    group = made.groups[0]
    bare = tuple(replace(one, continuation=None) for one in group.trajectories)
    with pytest.raises(UsageError, match="continuation_of"):
        PpoTrainer(tiny(), PLAIN).step(replace(made, groups=(replace(group, trajectories=bare),)))


def test_the_critic_learns_what_returns_are() -> None:
    settings = replace(PLAIN, value_clip=None, lam=1.0, optimiser=replace(FAST, learning_rate=1e-2, epochs=4))
    trainer = PpoTrainer(tiny(), settings)
    seen = [trainer.step(batch(0)).explained_variance for _ in range(8)]
    assert seen[0] == 0
    assert seen[-1] is not None
    assert seen[-1] > 0.5


def test_a_detached_critic_leaves_the_policy_alone() -> None:
    settings = replace(PLAIN, detach_critic=True)
    trainer = PpoTrainer(tiny(), settings)
    before = {name: one.detach().clone() for name, one in trainer._learner.parameters.items()}
    trainer.step(batch(0, ("failure", "failure")))  # no reward anywhere: only the critic could learn, and knows it
    after = trainer._learner.parameters
    assert all(torch.equal(before[name], after[name]) for name in before if "value_head" not in name)


def test_a_penalty_by_k1_is_taken_off_the_rewards() -> None:
    made = batch(0, ("success", "failure")).trajectories
    rows = rows_of(made)
    trainer = PpoTrainer(tiny(), replace(PLAIN, gamma=1.0, lam=1.0))
    zero = torch.zeros(len(rows.step))
    plain = trainer._targets(made, rows, zero, None).returns
    penalised = trainer._targets(made, rows, zero, torch.full_like(zero, 0.1)).returns
    left = torch.tensor([float((rows.episode[place:] == rows.episode[place]).sum()) for place in range(len(zero))])
    assert penalised.tolist() == pytest.approx((plain - 0.1 * left).tolist(), abs=1e-5)


def test_explained_variance_of_a_perfect_critic_is_one_and_none_where_nothing_varies() -> None:
    returns = torch.tensor([0.0, 1.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(torch.zeros(2), returns) == 0
    assert explained_variance(returns, torch.ones(2)) is None
