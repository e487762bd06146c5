"""Classes of episodes by length, for counts in which a bias towards short or long ones would show.

In: numbers of steps. Out: names of classes. Always: each class but the first two is twice as wide as the one before,
so that episodes of every length fall into a dozen of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthCount:
    """Episodes of one class of lengths."""

    steps: str
    """Which: `0`, `1`, `2-3`, `4-7`, `8-15`, ..."""
    episodes: int
    """Episodes that ended with so many steps, however they ended."""
    timeouts: int
    """Those among them that used up their time."""


def length_class(steps: int) -> str:
    """The class of an episode of `steps` steps."""
    if steps < 2:
        return str(max(0, steps))
    first = 1 << (steps.bit_length() - 1)
    return f"{first}-{2 * first - 1}"


def length_counts(rows: Iterable[tuple[int, int, int]]) -> tuple[LengthCount, ...]:
    """Counts by class, the shortest first, from rows of (steps, episodes, timeouts)."""
    found: dict[str, tuple[int, int]] = {}
    for steps, episodes, timeouts in sorted(rows):
        before = found.get(length_class(steps), (0, 0))
        found[length_class(steps)] = before[0] + episodes, before[1] + timeouts
    return tuple(LengthCount(steps=name, episodes=one[0], timeouts=one[1]) for name, one in found.items())
