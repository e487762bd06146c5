"""Groups that are waited for, and those that are not waited for any longer."""

from __future__ import annotations

from dataclasses import replace

import anyio

from dreamsim.flow.control import PausableClock, RunControl
from dreamsim.flow.groups import GroupAssembler, GroupSettings
from dreamsim.flow.planning import PlannedGroup
from dreamsim.records.episode import Episode
from dreamsim.records.task import Task
from dreamsim.runtime.boundary import CUT_OFF
from dreamsim.testing import scripted_tasks
from dreamsim.training.table import PlayedGroup, Table
from tests.flow.runs import in_virtual_time

TASK = scripted_tasks(1)[0]


def episode(repeat: int, task: Task = TASK) -> Episode:
    return Episode(
        id=f"e{repeat}",
        run="r",
        task=task,
        repeat=repeat,
        source="dreamed",
        purpose="training",
        transitions=(),
        outcome="error",
        error_kind="engine",
        generation=1,
    )


def table(*, deadline_s: float | None) -> Table:
    assembler = GroupAssembler(GroupSettings(size=3, minimum=1, deadline_s=deadline_s))
    return Table(assembler, group_size=3, now=anyio.current_time)


def test_a_group_is_closed_by_its_deadline_and_late_episodes_change_nothing() -> None:
    async def main() -> tuple[float, PlayedGroup]:
        one = table(deadline_s=10.0)
        one.planned(1)

        async def arrive() -> None:
            for repeat, after in ((0, 5.0), (1, 2.0), (2, 100.0)):
                await anyio.sleep(after)
                one.arrived(episode(repeat))

        async with anyio.create_task_group() as group:
            group.start_soon(arrive)
            (played,) = await one.complete([PlannedGroup(task=TASK, source="dreamed", number=0)])
            seconds = anyio.current_time()
        return seconds, played

    seconds, played = in_virtual_time(main)
    assert seconds == 15.0
    assert [one.repeat for one in played.episodes] == [0, 1]
    assert not played.closed.complete


def test_a_late_episode_is_told_once_so_that_it_can_be_counted() -> None:
    async def main() -> tuple[list[int], list[int]]:
        one = table(deadline_s=10.0)
        one.planned(1)
        for repeat in (0, 1):
            one.arrived(episode(repeat))
        await one.complete([PlannedGroup(task=TASK, source="dreamed", number=0)])
        one.arrived(episode(2))
        return [late.repeat for late in one.late()], [late.repeat for late in one.late()]

    assert in_virtual_time(main) == ([2], [])


def test_an_episode_that_comes_after_the_deadline_and_before_its_group_is_taken_is_played_but_not_learned_from() -> (
    None
):
    other = scripted_tasks(2)[1]

    async def main() -> tuple[PlayedGroup, PlayedGroup]:
        one = table(deadline_s=10.0)
        one.planned(2)
        for repeat in (0, 1):
            one.arrived(episode(repeat))

        async def arrive() -> None:
            await anyio.sleep(5.0)
            for repeat in (0, 1):
                one.arrived(episode(repeat, other))
            await anyio.sleep(8.0)  # the first group is closed, the round is not over
            one.arrived(episode(2))

        planned = [PlannedGroup(task=task, source="dreamed", number=0) for task in (TASK, other)]
        async with anyio.create_task_group() as group:
            group.start_soon(arrive)
            first, second = await one.complete(planned)
        return first, second

    first, second = in_virtual_time(main)
    assert [one.repeat for one in first.episodes] == [0, 1, 2]
    assert not first.closed.complete
    assert [one.repeat for one in second.episodes] == [0, 1]


def test_a_deadline_does_not_pass_while_the_run_is_paused() -> None:
    async def main() -> float:
        control = RunControl()
        assembler = GroupAssembler(GroupSettings(size=3, minimum=1, deadline_s=10.0))
        one = Table(assembler, group_size=3, now=PausableClock(anyio.current_time, control).now)
        one.planned(1)
        one.arrived(episode(0))

        async def rest() -> None:
            await anyio.sleep(4.0)
            control.pause()
            await anyio.sleep(100.0)
            control.resume()

        async with anyio.create_task_group() as group:
            group.start_soon(rest)
            await one.complete([PlannedGroup(task=TASK, source="dreamed", number=0)])
        return anyio.current_time()

    assert in_virtual_time(main) == 110.0


def test_without_a_deadline_all_are_waited_for() -> None:
    async def main() -> float:
        one = table(deadline_s=None)
        one.planned(1)

        async def arrive() -> None:
            for repeat in range(3):
                await anyio.sleep(100.0)
                one.arrived(episode(repeat))

        async with anyio.create_task_group() as group:
            group.start_soon(arrive)
            await one.complete([PlannedGroup(task=TASK, source="dreamed", number=0)])
        return anyio.current_time()

    assert in_virtual_time(main) == 300.0


def test_an_episode_that_the_end_of_the_run_cut_off_closes_no_group() -> None:
    async def main() -> bool:
        one = table(deadline_s=None)
        one.planned(1)
        for repeat in range(3):
            one.arrived(replace(episode(repeat), error_message=f"{CUT_OFF}: the engine is dead"))
        with anyio.move_on_after(100.0):
            await one.complete([PlannedGroup(task=TASK, source="dreamed", number=0)])
            return True
        return False

    assert not in_virtual_time(main)
