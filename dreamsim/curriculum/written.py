"""The tasks that a model wrote: what was ordered, what came, what was tried and what of it can be solved.

In: orders, tasks that passed every check, results of their groups. Out: candidates, feasible tasks, counts.
Always: a task is a candidate until somebody solves it (feasible) or nobody does in so many groups (retired), and never
changes its standing again; a group whose episodes all failed for technical reasons says nothing of it, and lets other
candidates go first; the same task is held once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from dreamsim.curriculum.value import GroupResult
from dreamsim.records.codec import task_from_json, task_to_json
from dreamsim.records.task import Task

Standing = Literal["candidate", "feasible", "retired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A variation that is wanted."""

    number: int
    """Counts orders, from 0; names the draws of the writing."""
    seed: Task
    """What to vary."""
    others: tuple[Task, ...]
    """Other real tasks of its family, to be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTask:
    """A task that a model wrote and that passed every check."""

    task: Task
    """The task; `task.lineage` says where it comes from."""
    cell: str
    """The cell it counts for once it is feasible."""
    standing: Standing = "candidate"
    """`candidate` until somebody solves it, which makes it `feasible`, or nobody does, which makes it `retired`."""
    tries: int = 0
    """Groups with a played episode that were closed while it was a candidate."""

    def after(self, result: GroupResult, *, attempts: int) -> Self:
        """With one more group; one without a played episode changes nothing."""
        if not result.returns or self.standing != "candidate":
            return self
        tries = self.tries + 1
        standing: Standing = "feasible" if result.successes else "retired" if tries >= attempts else "candidate"
        return replace(self, standing=standing, tries=tries)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"task": task_to_json(self.task), "cell": self.cell, "standing": self.standing, "tries": self.tries}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        task = task_from_json(found["task"])
        return cls(task=task, cell=found["cell"], standing=found["standing"], tries=found["tries"])


class WrittenTasks:
    """All of them."""

    def __init__(self) -> None:
        self._tasks: dict[str, WrittenTask] = {}
        self.orders = 0
        """Orders given so far."""
        self.ordered: set[int] = set()
        """Orders that nothing has come of yet."""
        self.refused: Counter[str] = Counter()
        """What was written and not taken, by reason."""

    def __contains__(self, key: str) -> bool:
        return key in self._tasks

    def __iter__(self) -> Iterator[WrittenTask]:
        return iter(self._tasks.values())

    def get(self, key: str) -> WrittenTask | None:
        """The task with this key."""
        return self._tasks.get(key)

    def order(self, seed: Task, others: tuple[Task, ...]) -> Order:
        """A new order."""
        order = Order(number=self.orders, seed=seed, others=others)
        self.orders += 1
        self.ordered.add(order.number)
        return order

    def add(self, task: Task, cell: str) -> None:
        """Take a task; one that is there already stays as it is."""
        self._tasks.setdefault(task.key, WrittenTask(task=task, cell=cell))

    def observe(self, result: GroupResult, *, attempts: int) -> WrittenTask:
        """Take the result of a group of one of these tasks; returns the task as it stands now."""
        key = result.task_key
        known = self._tasks[key].after(result, attempts=attempts)
        if not result.returns:  # to the end: a task that cannot be played must not keep others from their trial
            del self._tasks[key]
        self._tasks[key] = known
        return known

    @property
    def expected(self) -> int:
        """Candidates, and orders that may become some."""
        return len(self.ordered) + sum(one.standing == "candidate" for one in self)

    def candidate(self, under_way: Callable[[str], bool]) -> str | None:
        """Key of the first candidate that is not under way."""
        return next(
            (key for key, one in self._tasks.items() if one.standing == "candidate" and not under_way(key)), None
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; orders that nothing has come of yet are forgotten."""
        return {
            "tasks": [one.to_json() for one in self],
            "orders": self.orders,
            "refused": dict(self.refused),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        made = cls()
        for one in map(WrittenTask.from_json, found["tasks"]):
            made._tasks[one.task.key] = one
        made.orders = found["orders"]
        made.refused = Counter(found["refused"])
        return made
