"""What a task is worth: V of Eq. 7 in arXiv 2511.03773, over a group of episodes or over a cluster of tasks.

In: the returns of episodes; vectors of task texts. Out: values; clusters.
Always: V is largest where success and failure are equally likely (p (1 - p) for returns of 0 and 1) and 0 where all
episodes end alike, from which a group-relative advantage learns nothing; the same vectors and seed give the same
clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode
from dreamsim.records.task import Task


def value_of(returns: Sequence[float]) -> float:
    """V = (1/n) sum_i (r_i - mean r)^2; 0 without episodes."""
    return float(np.var(returns)) if len(returns) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """What came of one group, as the curriculum sees it."""

    task_key: str
    """The task's key."""
    number: int
    """Which of the task's groups."""
    returns: tuple[float, ...]
    """Undiscounted return of each episode that did not fail for technical reasons; may be empty."""
    successes: int
    """How many of them solved the task."""

    @classmethod
    def of(cls, task_key: str, number: int, episodes: Sequence[Episode]) -> Self:
        """The result of these episodes; those that ended in an error say nothing of the task."""
        played = [episode for episode in episodes if episode.outcome != "error"]
        return cls(
            task_key=task_key,
            number=number,
            returns=tuple(episode.total_reward for episode in played),
            successes=sum(episode.outcome == "success" for episode in played),
        )

    @property
    def value(self) -> float:
        """V of the group."""
        return value_of(self.returns)

    @property
    def success(self) -> float:
        """Share of episodes that solved the task; 0 without episodes."""
        return self.successes / len(self.returns) if self.returns else 0.0


def task_words(task: Task) -> str:
    """What a task is embedded by: instruction and first state."""
    return f"{task.instruction}\n{task.first_state.text}"


class TaskClusters:
    """Clusters of similar tasks, for algorithms without groups (PPO): each cluster is valued as if it were one."""

    def __init__(self, centres: NDArray[np.float32]) -> None:
        """Clusters around `centres`, shape [clusters, dimension]."""
        if not len(centres):
            raise ConfigurationError("clusters need at least one task")
        self.centres = centres

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], *, clusters: int, seed: int) -> Self:
        """K-means over unit vectors of shape [tasks, dimension]. Blocks: call it off the event loop.

        At most as many clusters as there are different vectors are made.

        Raises:
            ConfigurationError: there are no vectors.
            MissingExtraError: scikit-learn is not installed.
        """
        different = np.unique(vectors, axis=0)
        if len(different) <= clusters:
            return cls(different)
        from sklearn.cluster import KMeans

        means = KMeans(n_clusters=clusters, n_init=4, random_state=seed % 2**32).fit(vectors)
        return cls(np.asarray(means.cluster_centers_, dtype=np.float32))

    def nearest(self, vectors: NDArray[np.float32]) -> NDArray[np.intp]:
        """Index of the nearest centre for each of `vectors`, shape [tasks]."""
        # |v - c|^2 = |v|^2 - 2 v.c + |c|^2, and |v| is the same for all centres
        distances = (self.centres**2).sum(axis=1)[None, :] - 2.0 * vectors @ self.centres.T
        nearest: NDArray[np.intp] = distances.argmin(axis=1)
        return nearest
