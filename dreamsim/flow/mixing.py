"""Dyna: which groups of a training are real and which are dreamed.

In: a schedule of the real share, a budget of real transitions. Out: the source of each group, in order.
Always:
- a group is wholly real or wholly dreamed;
- after every group |real groups - sum of the shares so far| < 1, while the budget lasts;
- real transitions never exceed the budget: a real group is begun only if its longest episodes would fit;
- what is decided depends on the decisions and figures before, not on time: a resumed training decides alike.

Dyna: Sutton 1991; sim-to-real (arXiv 2511.03773, section 4.4) is a schedule that ends with a share of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSchedule:
    """The real share of the groups, by update."""

    points: tuple[tuple[int, Fraction], ...] = ((0, Fraction(0)),)
    """(update, share from there on), by update, the first at 0."""

    def __post_init__(self) -> None:
        updates = [update for update, _ in self.points]
        if not updates or updates[0] != 0 or updates != sorted(set(updates)):
            raise ConfigurationError("a schedule of the real share begins at update 0 and names later ones in order")
        if any(not 0 <= share <= 1 for _, share in self.points):
            raise ConfigurationError("a real share is a number from 0 (all dreamed) to 1 (all real)")

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Self:
        """Read `0.1`, or `0, 40:1`: nothing real before update 40, all real from there on.

        Raises:
            ConfigurationError: the parts are no such thing.
        """
        points = []
        for part in parts:
            update, colon, share = str(part).rpartition(":")
            try:
                points.append((int(update) if colon else 0, Fraction(share.strip())))
            except (ValueError, ZeroDivisionError):
                raise ConfigurationError(
                    f"'{part}' is no real share: write 0.1, or SHARE,UPDATE:SHARE,... as in 0,40:1"
                ) from None
        return cls(points=tuple(points))

    def at(self, update: int) -> Fraction:
        """The share of the groups that update number `update` (from 0) learns from."""
        return next(share for first, share in reversed(self.points) if first <= update)

    def ever(self, source: Source) -> bool:
        """Whether groups of `source` can come at all."""
        return any(share > 0 if source == "real" else share < 1 for _, share in self.points)


class SourceMixer:
    """Says of one group after the other whether it is real."""

    def __init__(self, schedule: ShareSchedule, *, most_per_group: int, budget: int | None = None) -> None:
        """Nothing decided yet.

        Args:
            schedule: the share.
            most_per_group: transitions that a group can have at most.
            budget: real transitions that may be made in all; None is any number.
        """
        self._schedule = schedule
        self._most = most_per_group
        self._budget = budget
        self._owed = Fraction(0)
        self._open = 0
        self._outstanding = 0
        self.spent = 0
        """Real transitions so far but those of open groups."""
        self.refused = 0
        """Real groups that became dreamed ones because the budget did not allow them."""

    def next(self, update: int) -> Source | None:
        """The source of the next group, which update number `update` learns from.

        None where only real groups are wanted and the budget is spent: there is nothing more to do.
        """
        share = self._schedule.at(update)
        if self._owed + share < 1:
            self._owed += share
            return "dreamed"
        affordable = self._budget is None or self._promised + self._most <= self._budget
        if not affordable and share == 1:
            return None
        self._owed += share - 1
        if not affordable:
            self.refused += 1
            return "dreamed"
        self._open += 1
        return "real"

    @property
    def _promised(self) -> int:
        """Real transitions at the end, at most, if no further group is begun."""
        return self.spent + self._outstanding + self._open * self._most

    def settle(self, transitions: int) -> None:
        """A real group is over, and took so many transitions."""
        self._open -= 1
        self.spent += transitions

    def spend(self, transitions: int, *, outstanding: int) -> None:
        """So many real transitions were made beside open groups, and `outstanding` of them may still come.

        What is outstanding is not part of `state`: it ends with the process that plays it.
        """
        self.spent += transitions
        self._outstanding = outstanding

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as JSON."""
        return {"owed": str(self._owed), "open": self._open, "spent": self.spent, "refused": self.refused}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._owed = Fraction(state["owed"])
        self._open, self.spent, self.refused = state["open"], state["spent"], state["refused"]
