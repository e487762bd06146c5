"""What the curriculum has seen, of cells and of families.

In: results of groups. Out: statistics, also as plain JSON and back. Always: `from_json(to_json(x)) == x`, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from dreamsim.curriculum.value import GroupResult, value_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStatistics:
    """A task, or a cluster of tasks."""

    returns: tuple[float, ...] = ()
    """Latest returns: those of the last group, or of a cluster's last episodes."""
    solved: tuple[bool, ...] = ()
    """Which of these episodes solved the task; as many as `returns`."""
    groups: int = 0
    """Groups with a result."""
    episodes: int = 0
    """Episodes with a result."""
    successes: int = 0
    """How many of all these episodes solved the task."""
    chosen: int = -1
    """Number of the last choice of it; -1 before the first."""

    @property
    def value(self) -> float:
        """V of the latest episodes."""
        return value_of(self.returns)

    @property
    def success(self) -> float:
        """Share of the latest episodes that solved the task."""
        return sum(self.solved) / len(self.solved) if self.solved else 0.0

    def after(self, result: GroupResult, *, memory: int | None) -> Self:
        """With one more group; `memory` episodes count, or those of this group alone."""
        if not result.returns:
            return self
        solved = tuple(place < result.successes for place in range(len(result.returns)))
        before = 0 if memory is None else max(0, memory - len(solved))
        return replace(
            self,
            returns=(*_last(self.returns, before), *result.returns),
            solved=(*_last(self.solved, before), *solved),
            groups=self.groups + 1,
            episodes=self.episodes + len(solved),
            successes=self.successes + result.successes,
        )

    def to_json(self) -> list[Any]:
        """A short list: there are thousands of cells."""
        ones = [int(one) for one in self.solved]
        return [list(self.returns), ones, self.groups, self.episodes, self.successes, self.chosen]

    @classmethod
    def from_json(cls, found: list[Any]) -> Self:
        """The inverse of `to_json`."""
        returns, solved, groups, episodes, successes, chosen = found
        return cls(
            returns=tuple(float(one) for one in returns),
            solved=tuple(bool(one) for one in solved),
            groups=groups,
            episodes=episodes,
            successes=successes,
            chosen=chosen,
        )


def _last(items: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    return items[-count:] if count else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """Success averaged exponentially over groups."""

    mean: float = 0.0
    """The average; 0 before the first group."""
    groups: int = 0
    """Groups that went into it."""

    def after(self, success: float, *, memory: int) -> Self:
        """With one more group: a plain mean over the first `memory` groups, from then on each counts 1 / memory."""
        groups = self.groups + 1
        return replace(self, mean=self.mean + (success - self.mean) / min(groups, memory), groups=groups)

    def to_json(self) -> list[Any]:
        """Plain JSON."""
        return [self.mean, self.groups]

    @classmethod
    def from_json(cls, found: list[Any]) -> Self:
        """The inverse of `to_json`."""
        mean, groups = found
        return cls(mean=mean, groups=groups)
