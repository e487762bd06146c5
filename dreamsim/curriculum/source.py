"""The curriculum: observe what came of groups, decide what comes next, give whole groups to whoever runs them.

In: a list of real tasks, results of groups, tasks that a model wrote. Out: assignments; orders for new tasks.
Always:
- a group is `size` assignments of one task in a row, repeats `number * size` to `number * size + size - 1`; numbers of
  a task count up from 0 and never come twice;
- of the groups given so far, never more than the share lambda are of written tasks, exactly;
- a written task is a seed, and its value counts, only once somebody has solved it; what nobody solves is given up;
- what comes next depends on seed, settings, the list, and the results and written tasks so far, in their order;
- `restore(state())` goes on as if nothing had been interrupted; groups that had no result come again first.

It decides without waiting (`plan`, `observe`, `order`, `take`); `assignments` is async because a `TaskSource` is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
import numpy as np
from numpy.typing import NDArray

from dreamsim.curriculum.cells import Cells
from dreamsim.curriculum.choice import (
    Choice,
    Tried,
    View,
    Why,
    choose,
    draw_shared,
    score,
    synthetic_allowed,
    target_success,
)
from dreamsim.curriculum.statistics import Average, CellStatistics
from dreamsim.curriculum.task_writing import family_of
from dreamsim.curriculum.value import GroupResult, TaskClusters
from dreamsim.curriculum.written import Order, WrittenTask, WrittenTasks
from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Assignment
from dreamsim.records.episode import Purpose
from dreamsim.records.task import Task
from dreamsim.runtime.curriculum_settings import CurriculumSection
from dreamsim.runtime.seeds import generator

VERSION: Final = 1
SHOWN: Final = 4
"""Tasks shown to whoever writes one, the seed among them, where the settings do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGroup:
    """A group to be run."""

    task: Task
    """The task."""
    number: int
    """Which of the task's groups."""
    size: int
    """Episodes."""
    why: Why
    """What the task was chosen for."""

    def assignments(self, purpose: Purpose = "training") -> tuple[Assignment, ...]:
        """Its episodes."""
        first = self.number * self.size
        return tuple(Assignment(task=self.task, repeat=first + place, purpose=purpose) for place in range(self.size))


class Curriculum:
    """A `TaskSource` that learns which tasks are worth most."""

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: CurriculumSection,
        *,
        size: int,
        seed: int,
        groups: int | None = None,
        clusters: TaskClusters | None = None,
        vectors: NDArray[np.float32] | None = None,
        purpose: Purpose = "training",
    ) -> None:
        """A curriculum over `tasks`.

        Args:
            tasks: real tasks; one listed twice counts once.
            settings: how to choose.
            size: episodes of a group; 1 where the algorithm knows no groups.
            seed: root of every draw.
            groups: groups to give in all; None is without end.
            clusters: values are then those of clusters; None values every task by itself.
            vectors: shape [tasks, dimension], of `value.task_words` of the tasks in their order; with `clusters` only.
            purpose: what the episodes are for.

        Raises:
            ConfigurationError: there are no real tasks, or one of them was written by a model.
        """
        if not tasks:
            raise ConfigurationError("a curriculum needs at least one real task")
        if any(task.synthetic for task in tasks):
            raise ConfigurationError("the list of real tasks holds one that a model wrote: leave it out")
        if size < 1 or (clusters is None) != (vectors is None):
            raise ConfigurationError("a group has at least one episode; clusters and vectors come together")
        self.settings = settings
        self.size = size
        self.groups = groups
        self._real = {task.key: task for task in tasks}
        self._family = {key: family_of(task) for key, task in self._real.items()}
        self._shares = {family: n / len(self._real) for family, n in Counter(self._family.values()).items()}
        self._seed = seed
        self._purpose: Purpose = purpose
        self._made_from = (tuple(tasks), clusters, vectors)
        self._changed = anyio.Event()
        self._closed = False
        self._forget()

    def _forget(self) -> None:
        """As before the first decision."""
        tasks, clusters, vectors = self._made_from
        self._cells = Cells(tasks, clusters=clusters, vectors=vectors, memory=self.settings.cluster_memory)
        self._explored = Average()
        self._numbers: Counter[str] = Counter()
        self._open: dict[tuple[str, int], Why] = {}
        self._again: list[tuple[str, int]] = []
        self._written = WrittenTasks()
        self.planned = 0
        """Groups given so far."""
        self.synthetic = 0
        """How many of them are of written tasks."""
        self.chosen: Counter[Why] = Counter()
        """Groups given, by what their task was chosen for."""

    # what came of it

    def observe(self, result: GroupResult) -> None:
        """Take the result of a group that was given; a result that comes twice counts once."""
        key = result.task_key
        why = self._open.pop((key, result.number), None)
        if why is None:
            return
        written = self._written.observe(result, attempts=self.settings.attempts) if key in self._written else None
        if written is not None and written.standing == "feasible" and key not in self._cells.of_tasks:
            self._cells.join(written.task, written.cell)
            if not self._cells.clustered:
                self._cells.choose(written.cell, self.planned)  # its trial was a choice of it
        if key in self._cells.of_tasks and result.returns:
            self._cells.observe(self._cells.of_tasks[key], result)
            if why != "value" and written is None:
                self._explored = self._explored.after(result.success, memory=self.settings.memory)
        self._tell()

    @property
    def competence(self) -> float:
        """Mean success on real tasks that were not chosen for their value."""
        return self._explored.mean

    @property
    def target(self) -> float:
        """The success aimed at."""
        return target_success(self.competence, self.settings)

    def statistics(self, cell: str) -> CellStatistics:
        """What is known of a cell (a task's key where there are no clusters)."""
        return self._cells.statistics(cell)

    @property
    def results(self) -> dict[str, CellStatistics]:
        """What is known of every cell that has a result."""
        return {cell: known for cell, known in self._cells.tried.items() if known.groups}

    @property
    def written(self) -> tuple[WrittenTask, ...]:
        """Every written task that was taken, in order."""
        return tuple(self._written)

    @property
    def refused(self) -> Counter[str]:
        """Written tasks that were not taken, by reason."""
        return self._written.refused

    # what comes next

    def plan(self, *, real_only: bool = False) -> PlannedGroup | None:
        """The next group; None when as many as wanted were given, or the curriculum is closed.

        Args:
            real_only: for episodes that must be played in a real environment: no written task is chosen.
        """
        self._again = [group for group in self._again if group in self._open]  # what has a result by now is done
        if self._again and not (real_only and self._again[0][0] in self._written):
            key, number = self._again.pop(0)
            return PlannedGroup(task=self._task(key), number=number, size=self.size, why=self._open[key, number])
        if self._closed or (self.groups is not None and self.planned >= self.groups):
            return None
        if self.settings.mode == "uniform":
            return self._give(self._in_turn(), "uniform")
        allowed = not real_only and synthetic_allowed(
            self.settings.synthetic, synthetic=self.synthetic, total=self.planned
        )
        choice = self._choose(allowed)
        return self._give(choice.cell if choice.why == "candidate" else self._member(choice.cell, allowed), choice.why)

    def _give(self, key: str, why: Why) -> PlannedGroup:
        number = self._numbers[key]
        self._numbers[key] += 1
        if key in self._cells.of_tasks:
            self._cells.choose(self._cells.of_tasks[key], self.planned)
        self._open[key, number] = why
        self.planned += 1
        self.synthetic += key in self._written
        self.chosen[why] += 1
        self._tell()
        return PlannedGroup(task=self._task(key), number=number, size=self.size, why=why)

    def _choose(self, allowed: bool) -> Choice:
        """The next cell; `allowed` says whether a written task may come."""
        tried = [
            Tried(
                cell=cell,
                value=known.value,
                success=known.success,
                age=self.planned - known.chosen,
                family=self._cells.families[cell],
            )
            for cell, known in self._cells.tried.items()
            if known.groups and self._ready(cell, allowed)
        ]
        view = View(
            tried=tried,
            untried=self._cells.untried,
            target=self.target,
            shares=self._shares,
            candidate=self._written.candidate(self._under_way) if allowed else None,
        )
        draw = generator(self._seed, "curriculum", self.planned)
        found = choose(view, self.settings, draw)
        if found is None:  # whatever may come is under way: give it once more
            cells = [cell for cell in self._cells.names if any(key in self._real for key in self._cells.members(cell))]
            found = Choice(cell=cells[int(draw.integers(len(cells)))], why="uniform")
        return found

    def _in_turn(self) -> str:
        """Every real task once in a shuffled order, then all of them in another one."""
        keys = list(self._real)
        turn, place = divmod(self.planned, len(keys))
        return keys[int(generator(self._seed, "turn", turn).permutation(len(keys))[place])]

    def _ready(self, cell: str, allowed: bool) -> list[str]:
        """Members of a cell that may come now; a task that is valued by itself waits for its own result."""
        return [
            key
            for key in self._cells.members(cell)
            if (allowed or key in self._real) and (self._cells.clustered or not self._under_way(key))
        ]

    def _under_way(self, key: str) -> bool:
        number = self._numbers[key]
        return number > 0 and (key, number - 1) in self._open

    def _member(self, cell: str, allowed: bool) -> str:
        """The task of a cell that was given least often; of equals, one drawn."""
        keys = self._ready(cell, allowed) or [key for key in self._cells.members(cell) if key in self._real]
        least = min(self._numbers[key] for key in keys)
        rarest = [key for key in keys if self._numbers[key] == least]
        return rarest[int(generator(self._seed, "member", self.planned).integers(len(rarest)))]

    def _task(self, key: str) -> Task:
        written = self._written.get(key)
        return self._real[key] if written is None else written.task

    async def assignments(self) -> AsyncIterator[Assignment]:
        """Whole groups, one after another. For one consumer: what another one took does not come again."""
        while (group := self.plan()) is not None:
            for assignment in group.assignments(self._purpose):
                yield assignment

    def close(self) -> None:
        """Give no more groups and order no more tasks."""
        self._closed = True
        self._tell()

    # new tasks

    def order(self) -> Order | None:
        """A variation that is wanted now, if any: candidates are few, and some task is worth varying.

        Orders come `waiting` at a time, and no more of them than `waiting` and lambda for each group given: a writer
        who only repeats what is known costs little, and whoever waits for it waits seldom.
        """
        if self._closed or self.settings.mode == "uniform" or not self.settings.synthetic:
            return None
        waiting = self.settings.waiting
        most = waiting * (1 + int(self.settings.synthetic * self.planned / waiting))
        wanted = self._written.expected < waiting and self._written.orders < most
        seed = self._seed_task() if wanted else None
        return None if seed is None else self._written.order(seed, self._others(seed))

    def _seed_task(self) -> Task | None:
        """A solved task not too far from a real one, of a family by its share of the list, then by its score."""
        found: list[tuple[str, str, float]] = []
        for cell, known in self._cells.tried.items():
            worth = score(known.value, known.success, self.target, self.settings.band) if known.successes else 0.0
            members = [key for key in self._cells.members(cell) if self._depth(key) < self.settings.depth]
            found += [(key, self._cells.families[cell], worth / len(members)) for key in members if worth > 0]
        drawn = draw_shared(found, self._shares, generator(self._seed, "seed", self._written.orders))
        return None if drawn is None else self._task(drawn)

    def _depth(self, key: str) -> int:
        lineage = self._task(key).lineage
        return 0 if lineage is None else lineage.depth

    def _others(self, seed: Task) -> tuple[Task, ...]:
        shown = (SHOWN if self.settings.examples is None else self.settings.examples) - 1
        draw = generator(self._seed, "others", self._written.orders)
        family = family_of(seed)
        keys = [key for key, name in self._family.items() if name == family and key != seed.key]
        return tuple(self._real[keys[int(place)]] for place in draw.permutation(len(keys))[:shown])

    def take(self, order: Order, task: Task, vector: NDArray[np.float32] | None = None) -> None:
        """A task that was written for `order` and passed every check; `vector` (shape [dimension]) is its embedding."""
        self._written.ordered.discard(order.number)
        if task.key not in self._real:
            self._written.add(task, self._cells.cell_for(task, vector))
        self._tell()

    def refuse(self, order: Order, reasons: Mapping[str, int]) -> None:
        """Count what was written for `order` and not taken, by reason; nothing more comes of the order."""
        self._written.refused.update(reasons)
        self._written.ordered.discard(order.number)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    async def changed(self) -> None:
        """Wait until something changes, or the curriculum is closed."""
        if not self._closed:
            await self._changed.wait()

    # to be continued

    def state(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return {
            "version": VERSION,
            "made_from": self._fingerprint(),
            "planned": self.planned,
            "synthetic": self.synthetic,
            "explored": self._explored.to_json(),
            "cells": self._cells.to_json(),
            "numbers": dict(self._numbers),
            "open": [[key, number, why] for (key, number), why in self._open.items()],
            "written": self._written.to_json(),
            "chosen": dict(self.chosen),
        }

    def restore(self, state: Mapping[str, Any], *, again: bool = True) -> None:
        """Go on from `state()` of a curriculum that was made with the same arguments.

        Args:
            state: what `state` gave.
            again: whether groups without a result are given again, first and with the numbers they had; False where
                the caller keeps what was given.

        Raises:
            ConfigurationError: it is the state of another one.
        """
        if (state.get("version"), state.get("made_from")) != (VERSION, self._fingerprint()):
            raise ConfigurationError(
                "the saved curriculum was made from other tasks, settings or another seed: use those, or begin anew"
            )
        self._forget()
        self.planned, self.synthetic = state["planned"], state["synthetic"]
        self._explored = Average.from_json(state["explored"])
        self._numbers = Counter(state["numbers"])
        self._open = {(key, number): why for key, number, why in state["open"]}
        self._again = list(self._open) if again else []
        self._written, self.chosen = WrittenTasks.from_json(state["written"]), Counter(state["chosen"])
        for one in self._written:
            if one.standing == "feasible":
                self._cells.join(one.task, one.cell)
        self._cells.restore(state["cells"])

    def _fingerprint(self) -> str:
        """Hash of what decisions depend on besides results."""
        cells = [(key, self._cells.of_tasks[key]) for key in self._real]
        told = [self._seed, self.size, self.settings.model_dump_json(), cells]
        return hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()
