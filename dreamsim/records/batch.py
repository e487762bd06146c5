"""A batch: what one step of a trainer learns from.

In: groups of trajectories. Out: the same, with what they add up to. Always: real and dreamed are counted apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dreamsim.errors import RecordError
from dreamsim.records.episode import Source
from dreamsim.records.sample import Trajectory, TrajectoryGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Groups of trajectories."""

    number: int
    """Counts batches of a run, from 0."""
    groups: tuple[TrajectoryGroup, ...]
    """At least one."""

    def __post_init__(self) -> None:
        if not self.trajectories:
            raise RecordError("batch", "holds no trajectory")

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """All trajectories, group after group."""
        return tuple(trajectory for group in self.groups for trajectory in group.trajectories)

    @property
    def group_index(self) -> tuple[int, ...]:
        """For each of `trajectories`, the index of its group."""
        return tuple(index for index, group in enumerate(self.groups) for _ in group.trajectories)

    @property
    def sources(self) -> Mapping[Source, int]:
        """Steps (transitions) by source."""
        steps: Counter[Source] = Counter()
        for trajectory in self.trajectories:
            steps[trajectory.source] += len(trajectory.rewards)
        return steps

    @property
    def oldest_version(self) -> int:
        """Least policy version that any step was decided with."""
        return min(trajectory.oldest_version for trajectory in self.trajectories)
