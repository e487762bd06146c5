"""Planning: no two episodes of one id, written tasks are never real, and a restored planner plans alike."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError, UsageError
from dreamsim.flow.groups import ClosedGroup
from dreamsim.flow.mixing import ShareSchedule, SourceMixer
from dreamsim.flow.planning import PlannedGroup, Planner, ShuffledTasks
from dreamsim.records.task import Lineage
from dreamsim.testing.world import scripted_tasks

pytestmark = pytest.mark.anyio
TASKS = scripted_tasks(3)
WRITTEN = replace(TASKS[0], parameters={**Lineage(parent=TASKS[0].key, depth=1, writer="m@0").parameters})


def planner(share: str = "0.5", *, groups: int = 4, seed: int = 0) -> Planner:
    mixer = SourceMixer(ShareSchedule.parse([share]), most_per_group=10)
    return Planner(ShuffledTasks((*TASKS, WRITTEN), seed=seed), mixer, groups=groups)


def closed(group: PlannedGroup) -> ClosedGroup:
    return ClosedGroup(task_key=group.task.key, number=group.number, episodes=(), viable=False, complete=True)


async def test_written_tasks_are_dreamed_and_never_real() -> None:
    planned = [group for update in range(20) for group in await planner("0.5", seed=update).round(update)]
    assert all(group.source == "dreamed" for group in planned if group.task.synthetic)
    assert any(group.task.synthetic for group in planned)
    assert any(group.source == "real" for group in planned)


async def test_no_two_episodes_share_an_id() -> None:
    made = planner()
    planned = [group for update in range(10) for group in await made.round(update)]
    given_out = [(one.task.key, one.repeat) for group in planned for one in group.assignments(3)]
    assert len(given_out) == len(set(given_out)) == 10 * 4 * 3


@given(st.integers(0, 6), st.fractions(0, 1, max_denominator=10))
async def test_a_restored_planner_plans_what_the_first_would_have(rounds: int, share: object) -> None:
    first, second = planner(str(share)), planner(str(share))
    for update in range(rounds):
        for group in await first.round(update):
            first.played(group, closed(group), transitions=3)
    second.restore(json.loads(json.dumps(first.state())))
    for update in range(rounds, rounds + 3):
        assert await first.round(update) == await second.round(update)


async def test_a_planned_group_is_the_same_after_json() -> None:
    for group in await planner().round(0):
        assert PlannedGroup.from_json(json.loads(json.dumps(group.to_json()))) == group


async def test_a_list_of_written_tasks_cannot_be_played_really() -> None:
    with pytest.raises(UsageError, match="no task of the list is a real one"):
        await ShuffledTasks((WRITTEN,)).choose("real")
    with pytest.raises(ConfigurationError, match="no tasks"):
        ShuffledTasks(())
