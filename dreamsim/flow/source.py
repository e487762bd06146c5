"""Task sources for a list of tasks: each so many times, or round and round to a number of episodes.

In: tasks. Out: assignments, in an order that depends on the arguments alone.
Always: no two assignments of one source share task and repeat, also when a task is listed twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence

from dreamsim.protocols import Assignment
from dreamsim.records.episode import Purpose
from dreamsim.records.task import Task


class FixedTasks:
    """Every task of a list, `repeats` times: all tasks once, then all of them again."""

    def __init__(self, tasks: Sequence[Task], *, repeats: int = 1, purpose: Purpose = "training") -> None:
        """`len(tasks) * repeats` assignments."""
        if repeats < 1:
            raise ValueError("repeats must be at least 1")
        self._tasks = tuple(tasks)
        self._episodes = len(self._tasks) * repeats
        self._purpose: Purpose = purpose

    def __len__(self) -> int:
        return self._episodes

    def assignments(self) -> AsyncIterator[Assignment]:
        """All assignments; may be called again and gives the same."""
        return _in_turn(self._tasks, self._episodes, self._purpose)


class CyclingTasks:
    """Tasks of a list round and round, until `episodes` assignments are given."""

    def __init__(self, tasks: Sequence[Task], *, episodes: int, purpose: Purpose = "training") -> None:
        """Exactly `episodes` assignments."""
        if not tasks and episodes:
            raise ValueError("there are no tasks to make episodes of")
        if episodes < 0:
            raise ValueError("episodes must not be negative")
        self._tasks = tuple(tasks)
        self._episodes = episodes
        self._purpose: Purpose = purpose

    def __len__(self) -> int:
        return self._episodes

    def assignments(self) -> AsyncIterator[Assignment]:
        """All assignments; may be called again and gives the same."""
        return _in_turn(self._tasks, self._episodes, self._purpose)


class GroupedTasks:
    """Tasks of a list round and round, each `size` times in a row, until `groups` such groups are given."""

    def __init__(self, tasks: Sequence[Task], *, size: int, groups: int) -> None:
        """`size * groups` assignments for training; each group has its own repeats."""
        if not tasks and groups:
            raise ValueError("there are no tasks to make groups of")
        if size < 1 or groups < 0:
            raise ValueError("size must be at least 1, and groups must not be negative")
        self._tasks = tuple(tasks)
        self._size = size
        self._groups = groups

    def __len__(self) -> int:
        return self._size * self._groups

    async def assignments(self) -> AsyncIterator[Assignment]:
        """All assignments; may be called again and gives the same."""
        for first in in_turn(self._tasks, self._groups, "training"):
            for place in range(self._size):
                yield Assignment(task=first.task, repeat=first.repeat * self._size + place)


def in_turn(tasks: Sequence[Task], episodes: int, purpose: Purpose) -> Iterator[Assignment]:
    """`episodes` assignments of `tasks` in turn; `repeat` counts how often a task's key has come before."""
    repeats: Counter[str] = Counter()
    for index in range(episodes):
        task = tasks[index % len(tasks)]
        yield Assignment(task=task, repeat=repeats[task.key], purpose=purpose)
        repeats[task.key] += 1


async def _in_turn(tasks: Sequence[Task], episodes: int, purpose: Purpose) -> AsyncIterator[Assignment]:
    for assignment in in_turn(tasks, episodes, purpose):
        yield assignment
