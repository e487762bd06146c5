"""Cells: what has a value of its own. A task, or a cluster of similar tasks where there are no groups.

In: real tasks, perhaps with clusters and vectors; choices and results. Out: members and statistics of cells.
Always: every task is a member of one cell; a cell is untried until it is chosen, and never again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsim.curriculum.statistics import CellStatistics
from dreamsim.curriculum.task_writing import family_of
from dreamsim.curriculum.value import GroupResult, TaskClusters
from dreamsim.records.task import Task


class Cells:
    """The cells of one curriculum."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        clusters: TaskClusters | None,
        vectors: NDArray[np.float32] | None,
        memory: int,
    ) -> None:
        """Cells of real tasks; of clusters, where the tasks' vectors (shape [tasks, dimension]) are given.

        `memory` is how many episodes a cluster's value is of.
        """
        self._clusters = clusters
        self._memory = memory
        if clusters is None or vectors is None:
            names = [task.key for task in tasks]
        else:
            names = [_cluster(int(number)) for number in clusters.nearest(vectors)]
        self._cell_of: dict[str, str] = {}
        self._members: defaultdict[str, list[str]] = defaultdict(list)
        self._statistics: dict[str, CellStatistics] = {}
        self.untried: dict[str, list[str]] = {}
        """Family -> cells never chosen; a cluster counts for the family of its first task."""
        self.families: dict[str, str] = {}
        """Cell -> the family of its first task."""
        for task, name in zip(tasks, names, strict=True):
            if name not in self._members:
                self.untried.setdefault(family_of(task), []).append(name)
            self.join(task, name)

    @property
    def clustered(self) -> bool:
        """Whether a cell is a cluster."""
        return self._clusters is not None

    @property
    def tried(self) -> Mapping[str, CellStatistics]:
        """Cell -> statistics, of cells that were chosen or have a result."""
        return self._statistics

    @property
    def names(self) -> tuple[str, ...]:
        """All cells, in the order of their first task."""
        return tuple(self._members)

    @property
    def of_tasks(self) -> Mapping[str, str]:
        """Task key -> cell."""
        return self._cell_of

    def members(self, cell: str) -> Sequence[str]:
        """Keys of the tasks of a cell that may be chosen or varied."""
        return self._members.get(cell, ())

    def statistics(self, cell: str) -> CellStatistics:
        """What is known of a cell."""
        return self._statistics.get(cell, CellStatistics())

    def cell_for(self, task: Task, vector: NDArray[np.float32] | None) -> str:
        """The cell that a new task counts for; its vector has shape [dimension]."""
        if self._clusters is None or vector is None:
            return task.key
        return _cluster(int(self._clusters.nearest(vector[None, :])[0]))

    def join(self, task: Task, cell: str) -> None:
        """Make a task a member of a cell; a task that is a member already stays where it is."""
        if task.key not in self._cell_of:
            self._cell_of[task.key] = cell
            self._members[cell].append(task.key)
            self.families.setdefault(cell, family_of(task))

    def choose(self, cell: str, number: int) -> None:
        """A cell was chosen, by the choice with this number."""
        self._statistics[cell] = replace(self.statistics(cell), chosen=number)
        for family, cells in self.untried.items():
            if cell in cells:
                cells.remove(cell)
                if not cells:
                    del self.untried[family]
                return

    def observe(self, cell: str, result: GroupResult) -> None:
        """Count a result: a task's value is that of its last group, a cluster's that of its last episodes."""
        memory = self._memory if self.clustered else None
        self._statistics[cell] = self.statistics(cell).after(result, memory=memory)

    def to_json(self) -> list[Any]:
        """Statistics as plain JSON, in their order, which draws depend on; members are known from the tasks."""
        return [[name, one.to_json()] for name, one in self._statistics.items()]

    def restore(self, found: Sequence[Any]) -> None:
        """Take over what `to_json` gave, into cells that were just made."""
        for name, one in found:
            known = CellStatistics.from_json(one)
            if known.chosen >= 0:
                self.choose(name, known.chosen)
            self._statistics[name] = known


def _cluster(number: int) -> str:
    return f"cluster {number}"
