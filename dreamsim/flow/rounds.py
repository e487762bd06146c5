"""What the groups of one update did, in numbers.

In: the episodes of planned groups. Out: `RoundFigures`. Always: real and dreamed apart; episodes that ended in an error
are counted, and are in no mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dreamsim.records.episode import Episode, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures:
    """Episodes of one source."""

    groups: int
    """Their groups."""
    success: float | None
    """Solved / played."""
    mean_return: float | None
    """Mean undiscounted return."""
    length: float | None
    """Mean number of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFigures:
    """The groups of one update."""

    real: SourceFigures
    """The real ones."""
    dreamed: SourceFigures
    """The dreamed ones."""
    not_viable: int
    """Groups with too few episodes to learn from."""
    failed: Counter[str]
    """Episodes that ended in an error, by kind."""

    @property
    def failed_kinds(self) -> str:
        """`engine 3, timeout 1`."""
        return ", ".join(f"{kind} {count}" for kind, count in self.failed.most_common())

    def numbers(self) -> dict[str, Any]:
        """As `TrainingStep` names them."""
        return {
            "groups_real": self.real.groups,
            "groups_dreamed": self.dreamed.groups,
            "groups_not_viable": self.not_viable,
            "episodes_failed": self.failed.total(),
            "success_real": self.real.success,
            "success_dreamed": self.dreamed.success,
            "return_real": self.real.mean_return,
            "return_dreamed": self.dreamed.mean_return,
            "length_real": self.real.length,
            "length_dreamed": self.dreamed.length,
        }


def round_figures(groups: Sequence[tuple[Source, Sequence[Episode]]], *, not_viable: int = 0) -> RoundFigures:
    """Figures of groups, each with its source and all its episodes."""
    failed = Counter(str(one.error_kind) for _, episodes in groups for one in episodes if one.outcome == "error")
    return RoundFigures(real=_of("real", groups), dreamed=_of("dreamed", groups), not_viable=not_viable, failed=failed)


def _of(source: Source, groups: Sequence[tuple[Source, Sequence[Episode]]]) -> SourceFigures:
    mine = [episodes for of, episodes in groups if of == source]
    played = [one for episodes in mine for one in episodes if one.outcome != "error"]
    n = len(played)
    return SourceFigures(
        groups=len(mine),
        success=sum(one.outcome == "success" for one in played) / n if n else None,
        mean_return=sum(one.total_reward for one in played) / n if n else None,
        length=sum(len(one.transitions) for one in played) / n if n else None,
    )
