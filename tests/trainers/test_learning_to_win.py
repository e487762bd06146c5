"""GRPO and PPO in a closed loop: what the model samples is rewarded, and it comes to do what is rewarded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dreamsim.records.batch import Batch
from dreamsim.records.sample import TokenSample, Trajectory, TrajectoryGroup
from tests.trainers.tiny import VOCABULARY, tiny

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from dreamsim_trainers.grpo import GrpoSettings, GrpoTrainer
from dreamsim_trainers.optimisation import OptimiserSettings
from dreamsim_trainers.ppo import PpoSettings, PpoTrainer

OPTIMISER = OptimiserSettings(learning_rate=2e-2, mixed_precision="no", cpu=True)
STEPS = 2
GROUPS, SIZE = 4, 8


def play(trainer: GrpoTrainer | PpoTrainer, number: int) -> Batch:
    """Episodes of two steps, each a token by the present weights; won if both are in the prompt's half of the ids."""
    model = trainer._learner.network.model
    draw = torch.Generator().manual_seed(number)
    prompts = torch.tensor([2 + index % 2 for index in range(GROUPS)]).repeat_interleave(SIZE)
    ids = prompts[:, None]
    steps, logprobs = torch.full_like(ids, -1), torch.zeros(len(ids), 1)
    for step in range(STEPS):
        with torch.no_grad():
            said = model(input_ids=ids).logits[:, -1].log_softmax(-1)
        chosen = torch.multinomial(said.exp(), 1, generator=draw)
        seen = torch.full_like(chosen, 5)  # what the environment answers
        ids = torch.cat([ids, chosen, seen], 1)
        steps = torch.cat([steps, torch.full_like(chosen, step), torch.full_like(seen, -1)], 1)
        logprobs = torch.cat([logprobs, said.gather(1, chosen), torch.zeros_like(said[:, :1])], 1)
    made = []
    for row in range(len(ids)):
        tokens = ids[row].numpy().astype(np.int32)
        won = all((token >= VOCABULARY // 2) == bool(tokens[0] % 2) for token in tokens[steps[row].numpy() >= 0])
        sample = TokenSample(
            token_ids=tokens,
            step_index=steps[row].numpy().astype(np.int32),
            logprobs=logprobs[row].numpy().astype(np.float32),
        )
        made.append(
            Trajectory(
                episode_id=f"{number}-{row}",
                task_key=str(row // SIZE),
                source="dreamed",
                samples=(sample,),
                rewards=np.array([0, float(won)], dtype=np.float32),
                anchors=("start", "middle"),
                terminated=True,
                success=won,
                oldest_version=trainer.version,
                newest_version=trainer.version,
            )
        )
    groups = tuple(
        TrajectoryGroup(task_key=str(group), trajectories=tuple(made[group * SIZE : (group + 1) * SIZE]))
        for group in range(GROUPS)
    )
    return Batch(number=number, groups=groups)


def trained(name: str) -> GrpoTrainer | PpoTrainer:
    if name == "ppo":
        return PpoTrainer(tiny(), PpoSettings(optimiser=OPTIMISER, kl_coefficient=0.0))
    stepwise = float(name == "gigpo")
    return GrpoTrainer(tiny(), GrpoSettings(optimiser=OPTIMISER, kl_coefficient=0.0, step_advantages=stepwise))


@pytest.mark.parametrize("name", ["grpo", "gigpo", "ppo"])
def test_a_policy_that_wins_one_time_in_four_comes_to_win_nearly_always(name: str) -> None:
    trainer = trained(name)
    metrics = [trainer.step(play(trainer, number)) for number in range(32)]
    first = float(np.mean([one.success_share for one in metrics[:4]]))
    last = float(np.mean([one.success_share for one in metrics[-4:]]))
    assert first < 0.5
    assert last > 0.9
    # sampled by the very weights that learn: nothing to correct
    assert max(one.logprob_difference for one in metrics) < 1e-4
    assert {one.staleness for one in metrics} == {0}
