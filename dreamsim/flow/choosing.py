"""A curriculum as the chooser of tasks: it plans, and has new tasks written when it wants some.

In: a `Curriculum`, perhaps a `TaskGenerator`; played groups. Out: tasks, one for each planned group.
Always: written tasks are waited for before the next task is chosen and are taken in the order they were ordered in, so
what comes next depends on results and answers alone, not on how long an answer took; a real group is of a real task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from dreamsim.curriculum.generator import TaskGenerator, Written
from dreamsim.curriculum.source import Curriculum
from dreamsim.curriculum.value import GroupResult
from dreamsim.curriculum.written import Order
from dreamsim.errors import UsageError
from dreamsim.flow.groups import ClosedGroup
from dreamsim.records.episode import Source
from dreamsim.records.task import Task


class CurriculumChooser:
    """A `TaskChooser` by a curriculum. Numbers of groups are those that `flow.planning` counts itself."""

    def __init__(self, curriculum: Curriculum, generator: TaskGenerator | None = None) -> None:
        """Choose by `curriculum`; without a generator no tasks are written."""
        self.curriculum = curriculum
        """Decides; its counts and statistics may be read at any time."""
        self._generator = generator

    async def choose(self, source: Source) -> Task:
        """The task of the next group.

        Raises:
            UsageError: the curriculum gives no more groups.
            EngineError: the engine that writes tasks is dead.
        """
        if self._generator is not None:
            await self._write(self._generator)
        group = self.curriculum.plan(real_only=source == "real")
        if group is None:
            raise UsageError("the curriculum was made for fewer groups than are asked for")
        return group.task

    async def _write(self, generator: TaskGenerator) -> None:
        """Have everything written that is wanted now, all of it at once."""
        orders: list[Order] = []
        while (order := self.curriculum.order()) is not None:
            orders.append(order)
        found: dict[int, Written] = {}

        async def write(order: Order) -> None:
            found[order.number] = await generator.write(order)

        async with anyio.create_task_group() as group:
            for order in orders:
                group.start_soon(write, order)
        for order in orders:
            generator.settle(self.curriculum, order, found[order.number])

    def observe(self, group: ClosedGroup, source: Source) -> None:
        """Tell the curriculum of a group that was played, wherever it was."""
        self.curriculum.observe(GroupResult.of(group.task_key, group.number, group.episodes))

    def state(self) -> Mapping[str, Any]:
        """All that `restore` needs, as JSON."""
        return self.curriculum.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`; what was planned is kept by whoever planned it, and is not given again.

        Raises:
            ConfigurationError: it is the state of another curriculum.
        """
        self.curriculum.restore(state, again=False)
        if self._generator is not None:
            self._generator.remember([one.task for one in self.curriculum.written])
