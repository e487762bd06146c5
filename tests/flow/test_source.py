"""Sources of tasks."""

from __future__ import annotations

import pytest

from dreamsim.flow.source import CyclingTasks, FixedTasks, GroupedTasks
from dreamsim.protocols import TaskSource
from dreamsim.testing import scripted_tasks

A, B = scripted_tasks(2)


async def pairs(source: TaskSource) -> list[tuple[str, int]]:
    return [(one.task.key, one.repeat) async for one in source.assignments()]


async def test_every_task_comes_once_before_any_comes_again() -> None:
    assert await pairs(FixedTasks([A, B], repeats=2)) == [(A.key, 0), (B.key, 0), (A.key, 1), (B.key, 1)]


async def test_cycling_gives_exactly_as_many_as_asked_for() -> None:
    source = CyclingTasks([A, B], episodes=3)
    assert await pairs(source) == [(A.key, 0), (B.key, 0), (A.key, 1)]
    assert len(source) == 3


async def test_a_task_listed_twice_gives_two_different_episodes() -> None:
    assert await pairs(FixedTasks([A, A])) == [(A.key, 0), (A.key, 1)]


async def test_asking_again_gives_the_same() -> None:
    source = CyclingTasks([A, B], episodes=5)
    assert await pairs(source) == await pairs(source)


async def test_the_purpose_is_passed_on() -> None:
    source = FixedTasks([A], purpose="evaluation")
    assert [one.purpose async for one in source.assignments()] == ["evaluation"]


async def test_no_tasks_are_no_episodes() -> None:
    assert await pairs(FixedTasks([])) == await pairs(CyclingTasks([], episodes=0)) == []


def test_episodes_without_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="no tasks"):
        CyclingTasks([], episodes=1)


async def test_a_group_is_given_whole_before_the_next_one() -> None:
    source = GroupedTasks([A, B], size=2, groups=3)
    first, second, third = [(A.key, 0), (A.key, 1)], [(B.key, 0), (B.key, 1)], [(A.key, 2), (A.key, 3)]
    assert await pairs(source) == [*first, *second, *third]
    assert len(source) == 6
    assert {one.purpose async for one in source.assignments()} == {"training"}
