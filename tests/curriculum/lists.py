"""Task lists, results and a world that answers a curriculum, for its tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dreamsim.curriculum.source import Curriculum, PlannedGroup
from dreamsim.curriculum.value import GroupResult
from dreamsim.records.state import State
from dreamsim.records.task import Lineage, Task
from dreamsim.runtime.curriculum_settings import CurriculumSection


def a_task(number: int, family: str = "coin", **parameters: int) -> Task:
    lines = [f"at: room {number % 3}", f"thing {number}: here"]
    return Task(
        environment=f"e/{family}",
        instruction="find it",
        first_state=State.of(lines),
        fold="train",
        seed=number,
        parameters=parameters,
    )


def written(parent: Task, number: int, depth: int = 1) -> Task:
    lineage = Lineage(parent=parent.key, depth=depth, writer="model@1")
    state = State.of(["at: room 0", f"thing written {number}: here"])
    return replace(parent, first_state=state, seed=0, parameters={**parent.parameters, **lineage.parameters})


def a_curriculum(count: int = 6, *, size: int = 4, seed: int = 0, groups: int | None = None, **settings: object):  # type: ignore[no-untyped-def]
    section = CurriculumSection(**settings)  # type: ignore[arg-type]
    return Curriculum([a_task(n) for n in range(count)], section, size=size, seed=seed, groups=groups)


def a_result(group: PlannedGroup, successes: int, episodes: int | None = None) -> GroupResult:
    played = group.size if episodes is None else episodes
    returns = tuple(1.0 if place < successes else 0.0 for place in range(played))
    return GroupResult(task_key=group.task.key, number=group.number, returns=returns, successes=successes)


def run(curriculum: Curriculum, groups: int, solved: Callable[[Task], int]) -> list[PlannedGroup]:
    """Plan and observe so many groups, one by one; `solved` says how many episodes of a group solve the task."""
    given = []
    for _ in range(groups):
        group = curriculum.plan()
        assert group is not None
        given.append(group)
        curriculum.observe(a_result(group, solved(group.task)))
    return given
