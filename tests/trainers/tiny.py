"""A model of a few thousand weights and batches for it, for tests of trainers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dreamsim.flow.batches import trajectory
from dreamsim.records.batch import Batch
from dreamsim.records.episode import EpisodeOutcome
from dreamsim.records.sample import TrajectoryGroup
from dreamsim.testing.decisions import Layout, decided_episode, decided_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VOCABULARY = 64


def tiny(seed: int = 0) -> PreTrainedModel:
    """Two layers, 16 wide."""
    from dreamsim_trainers.causal_lm import TinyShape, tiny_model

    shape = TinyShape(hidden_size=16, layers=2, heads=2, intermediate_size=32, induction=False)
    return tiny_model(VOCABULARY, shape, pad_token_id=0, end_token_id=1, seed=seed)


def batch(
    number: int = 0,
    *outcomes: tuple[EpisodeOutcome, ...],
    layout: Layout = "growing",
    version: int = 0,
) -> Batch:
    """One group for each tuple of outcomes; by default two groups of three, each with a success."""
    wanted = outcomes or (("success", "failure", "failure"), ("failure", "success", "success"))
    groups = []
    for index, group in enumerate(wanted):
        task = decided_task(index)
        episodes = [
            decided_episode(
                100 * number + index,
                task=task,
                repeat=repeat,
                steps=1 + repeat,
                layout=layout,
                outcome=outcome,
                vocabulary=VOCABULARY,
                version=version,
            )
            for repeat, outcome in enumerate(group)
        ]
        made = tuple(
            trajectory(episode, continuation=lambda episode: np.arange(2, 7, dtype=np.int32)) for episode in episodes
        )
        groups.append(TrajectoryGroup(task_key=task.key, trajectories=made))
    return Batch(number=number, groups=tuple(groups))
