"""Planning: which groups the next updates learn from.

In: a `TaskChooser`, a mixer of sources. Out: rounds of planned groups.
Always:
- a group is planned before it is played, and what is planned is kept until it is learned from: a resumed training
  plays the same groups under the same ids;
- no two groups share a task and a number, so no two episodes an id;
- real groups are of tasks that a real environment has: never of written ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dreamsim.errors import ConfigurationError, UsageError
from dreamsim.flow.groups import ClosedGroup
from dreamsim.flow.mixing import SourceMixer
from dreamsim.protocols import Assignment
from dreamsim.records.codec import task_from_json, task_to_json
from dreamsim.records.episode import Source
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import generator


class TaskChooser(Protocol):
    """Says which task comes next: a list in turn, or a curriculum."""

    async def choose(self, source: Source) -> Task:
        """The task of the next group. For `real`, one that the real environment has."""
        ...

    def observe(self, group: ClosedGroup, source: Source) -> None:
        """A group that was chosen has been played; told in the order of planning, just before it is learned from."""
        ...

    def state(self) -> Mapping[str, Any]:
        """All that `restore` needs, as JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        ...


class ShuffledTasks:
    """Every task of a list once, in an order that the seed names; then all again in another one."""

    def __init__(self, tasks: Sequence[Task], *, seed: int = 0) -> None:
        """`tasks`, of which the written ones are never real."""
        if not tasks:
            raise ConfigurationError("there are no tasks to learn from")
        self._tasks = {
            "dreamed": tuple(tasks),
            "real": tuple(task for task in tasks if not task.synthetic),
        }
        self._seed = seed
        self._given: Counter[str] = Counter()

    async def choose(self, source: Source) -> Task:
        """The next one."""
        tasks = self._tasks[source]
        if not tasks:
            raise UsageError("real groups are asked for, and no task of the list is a real one")
        turn, place = divmod(self._given[source], len(tasks))
        self._given[source] += 1
        order = generator(self._seed, "tasks", source, turn).permutation(len(tasks))
        return tasks[int(order[place])]

    def observe(self, group: ClosedGroup, source: Source) -> None:
        """Results change nothing."""

    def state(self) -> Mapping[str, Any]:
        """How many were given."""
        return dict(self._given)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after so many."""
        self._given = Counter(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGroup:
    """A group that is to be played."""

    task: Task
    """Its task."""
    number: int
    """Which of the task's groups."""
    source: Source
    """Where it is played."""

    @property
    def key(self) -> tuple[str, int]:
        """What `ClosedGroup` calls it."""
        return (self.task.key, self.number)

    def assignments(self, size: int) -> tuple[Assignment, ...]:
        """Its episodes."""
        first = self.number * size
        return tuple(Assignment(task=self.task, repeat=first + place) for place in range(size))

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"task": task_to_json(self.task), "number": self.number, "source": self.source}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> PlannedGroup:
        """From JSON."""
        return cls(task=task_from_json(told["task"]), number=told["number"], source=told["source"])


class Planner:
    """Plans rounds: the groups of one update each."""

    def __init__(self, chooser: TaskChooser, mixer: SourceMixer, *, groups: int) -> None:
        """Rounds of `groups` groups."""
        self._chooser = chooser
        self._groups = groups
        self._numbers: Counter[str] = Counter()
        self.mixer = mixer
        """Decides between real and dreamed."""

    async def round(self, update: int) -> tuple[PlannedGroup, ...]:
        """The groups that update number `update` learns from; fewer, or none, where the budget is spent."""
        planned: list[PlannedGroup] = []
        for _ in range(self._groups):
            source = self.mixer.next(update)
            if source is None:
                break
            task = await self._chooser.choose(source)
            planned.append(PlannedGroup(task=task, number=self._numbers[task.key], source=source))
            self._numbers[task.key] += 1
        return tuple(planned)

    def played(self, group: PlannedGroup, closed: ClosedGroup, *, transitions: int) -> None:
        """A planned group is over, after so many transitions of all its episodes; tell in the order of planning."""
        if group.source == "real":
            self.mixer.settle(transitions)
        self._chooser.observe(closed, group.source)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as JSON."""
        return {
            "numbers": dict(self._numbers),
            "mixer": self.mixer.state(),
            "tasks": dict(self._chooser.state()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._numbers = Counter(state["numbers"])
        self.mixer.restore(state["mixer"])
        self._chooser.restore(state["tasks"])
