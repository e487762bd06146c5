"""What a trainer reads of an episode: token sequences with the agent's tokens marked, and what the steps led to.

In: decisions with the engine's token ids and log-probabilities (`flow.batches` lays them out). Out: numpy arrays.
Always:
- a token is the agent's (`step_index >= 0`) if and only if the engine sampled it as part of a decision;
- the agent's tokens carry the log-probability they were sampled with, all others 0;
- every step of the trajectory stands in exactly one of its samples, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import RecordError
from dreamsim.records.episode import Source

RETURN_TOLERANCE = 1e-6
"""Returns of a group that differ by no more than this share of the largest of them are the same: rewards are float32,
whose neighbours are up to 2^-23 = 1.2e-7 of themselves apart, and sums of them a few times that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSample:
    """One sequence that a forward pass reads."""

    token_ids: NDArray[np.int32]
    """Shape [n]."""
    step_index: NDArray[np.int32]
    """Shape [n]: the step whose decision the token is part of; -1 for what the agent only read."""
    logprobs: NDArray[np.float32]
    """Shape [n]: log-probability the token was sampled with; 0 for what the agent only read."""

    def __post_init__(self) -> None:
        if not len(self.token_ids) == len(self.step_index) == len(self.logprobs):
            raise RecordError("sample", "token_ids, step_index and logprobs must be of the same length")
        if len(self.step_index) and self.step_index[0] >= 0:
            raise RecordError("sample", "the first token is the agent's: nothing stands before it to predict it from")

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def loss_mask(self) -> NDArray[np.bool_]:
        """Shape [n]: whether a token is the agent's, and so has a loss."""
        mask: NDArray[np.bool_] = self.step_index >= 0
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One episode as a trainer sees it."""

    episode_id: str
    """The episode's id."""
    task_key: str
    """The task's key."""
    source: Source
    """`real` or `dreamed`: counted apart wherever samples are counted."""
    samples: tuple[TokenSample, ...]
    """One for the whole episode where its prompts only grow, else one per step, or something between."""
    rewards: NDArray[np.float32]
    """Shape [steps]."""
    anchors: tuple[str, ...]
    """Shape [steps]: hash of the state that each step was taken in; the same state has the same hash."""
    terminated: bool
    """Whether the task itself ended; False when the steps ran out, so that a value function must look further."""
    success: bool
    """Whether the task was solved."""
    continuation: NDArray[np.int32] | None = None
    """Shape [m]: the prompt that would have asked for one more step; of truncated episodes, where it was wanted."""
    oldest_version: int = 0
    """Least policy version among the steps."""
    newest_version: int = 0
    """Greatest policy version among the steps."""

    @property
    def total_reward(self) -> float:
        """Undiscounted return, summed in float64 so that the order of the rewards hardly matters."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def agent_tokens(self) -> int:
        """Tokens with a loss."""
        return sum(int(sample.loss_mask.sum()) for sample in self.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryGroup:
    """Episodes of one task, to be compared with each other."""

    task_key: str
    """The task's key."""
    trajectories: tuple[Trajectory, ...]
    """In order of their repeats."""

    @property
    def value(self) -> float:
        """V = (1/n) sum_i (r_i - mean r)^2, the task's value of Eq. 7 in arXiv 2511.03773."""
        return float(np.var([trajectory.total_reward for trajectory in self.trajectories]))

    @property
    def informative(self) -> bool:
        """Whether the returns differ: max r - min r > `RETURN_TOLERANCE` * max |r|.

        `value > 0` would not tell: the mean of equal floats need not be that float.
        """
        returns = [trajectory.total_reward for trajectory in self.trajectories]
        return max(returns) - min(returns) > RETURN_TOLERANCE * max(map(abs, returns))
