"""Groups close exactly once, hold one task's episodes of near versions, and never wait for ever."""

from __future__ import annotations

import math
from collections import Counter

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError
from dreamsim.flow.groups import ClosedGroup, GroupAssembler, GroupSettings, assemble_groups, versions
from dreamsim.records.episode import Episode, EpisodeOutcome, Purpose
from dreamsim.runtime.pipes import Pipe
from dreamsim.testing.decisions import decided_episode, decided_task
from dreamsim.testing.virtual_time import VirtualTimeLoop


def episode(
    task: int,
    repeat: int,
    *,
    version: int = 0,
    outcome: EpisodeOutcome = "success",
    purpose: Purpose = "training",
) -> Episode:
    return decided_episode(
        task,
        task=decided_task(task),
        repeat=repeat,
        steps=1,
        version=version,
        outcome=outcome,
        purpose=purpose,
    )


def test_a_group_closes_when_its_last_episode_comes_and_is_in_order() -> None:
    assembler = GroupAssembler(GroupSettings(size=3))
    assert assembler.add(episode(0, 2), 0.0) is None
    assert assembler.add(episode(0, 0), 0.0) is None
    assert assembler.add(episode(0, 3), 0.0) is None  # of the next group
    closed = assembler.add(episode(0, 1), 0.0)
    assert closed is not None
    assert [one.repeat for one in closed.episodes] == [0, 1, 2]
    assert closed.complete
    assert closed.viable
    assert closed.number == 0


def test_errors_and_evaluations_complete_a_group_without_being_in_it() -> None:
    assembler = GroupAssembler(GroupSettings(size=4, minimum=2))
    assembler.add(episode(0, 0, outcome="error"), 0.0)
    assembler.add(episode(0, 1, purpose="evaluation"), 0.0)
    assembler.add(episode(0, 2), 0.0)
    closed = assembler.add(episode(0, 3), 0.0)
    assert closed is not None
    assert [one.repeat for one in closed.episodes] == [2, 3]
    assert closed.viable
    assert assembler.left_out == Counter({"error": 1, "evaluation": 1})


def test_a_deadline_closes_what_is_there_and_who_comes_late_is_counted() -> None:
    assembler = GroupAssembler(GroupSettings(size=3, minimum=2, deadline_s=10.0))
    assembler.add(episode(0, 0), 5.0)
    assembler.add(episode(1, 0), 6.0)
    assembler.add(episode(0, 1), 14.0)
    assert assembler.next_deadline == 15.0
    assert assembler.expire(14.9) == ()
    first, second = assembler.expire(16.0)
    assert (first.viable, first.complete, len(first.episodes)) == (True, False, 2)
    assert (second.viable, len(second.episodes)) == (False, 1)
    assert assembler.next_deadline == math.inf
    assert assembler.add(episode(0, 2), 17.0) is None
    assert assembler.left_out["late"] == 1


def test_what_much_older_weights_decided_is_left_out() -> None:
    assembler = GroupAssembler(GroupSettings(size=3, minimum=2, version_span=1))
    assembler.add(episode(0, 0, version=3), 0.0)
    assembler.add(episode(0, 1, version=5), 0.0)
    closed = assembler.add(episode(0, 2, version=4), 0.0)
    assert closed is not None
    assert [versions(one) for one in closed.episodes] == [(5,), (4,)]
    assert assembler.left_out["too old"] == 1


def test_an_episode_given_twice_counts_once() -> None:
    assembler = GroupAssembler(GroupSettings(size=2))
    assembler.add(episode(0, 0), 0.0)
    assert assembler.add(episode(0, 0), 0.0) is None


def test_a_minimum_that_no_group_reaches_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="minimum 4"):
        GroupSettings(size=3, minimum=4)


STEPS = st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 4))
ARRIVALS = st.lists(STEPS, max_size=20, unique_by=lambda arrival: arrival[:2])


@settings(max_examples=60)
@given(ARRIVALS, st.integers(1, 3), st.one_of(st.none(), st.integers(1, 6)))
def test_every_episode_is_in_one_group_or_counted_and_groups_close_once(
    arrivals: list[tuple[int, int, int]], size: int, deadline: int | None
) -> None:
    limit = None if deadline is None else float(deadline)
    assembler = GroupAssembler(GroupSettings(size=size, minimum=1, deadline_s=limit))
    closed: list[ClosedGroup] = []
    now = 0.0
    for task, repeat, wait in arrivals:
        now += wait
        closed += assembler.expire(now)
        done = assembler.add(episode(task, repeat), now)
        closed += [] if done is None else [done]
    closed += assembler.close_all()
    keys = [(group.task_key, group.number) for group in closed]
    assert len(set(keys)) == len(keys)
    for group in closed:
        assert {one.task.key for one in group.episodes} == {group.task_key}
        assert all(one.repeat // size == group.number for one in group.episodes)
    assert sum(len(group.episodes) for group in closed) + assembler.left_out["late"] == len(arrivals)
    assert assembler.closed.total() == len(closed)


def test_the_station_closes_a_group_at_its_deadline_and_the_rest_at_the_end() -> None:
    async def main() -> list[tuple[int, bool, float]]:
        episodes: Pipe[Episode] = Pipe("episodes", 4, now=anyio.current_time)
        groups: Pipe[ClosedGroup] = Pipe("groups", 4, now=anyio.current_time)
        assembler = GroupAssembler(GroupSettings(size=2, minimum=1, deadline_s=30.0))

        async def feed() -> None:
            with episodes.sender:
                await episodes.sender.send(episode(0, 0))
                await anyio.sleep(100)  # virtual
                await episodes.sender.send(episode(0, 2))
                await episodes.sender.send(episode(0, 3))
                await episodes.sender.send(episode(0, 4))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            tasks.start_soon(assemble_groups, episodes.receiver, groups.sender, assembler)
            with groups.receiver:
                seen = [(one.number, one.complete, anyio.current_time()) async for one in groups.receiver]
        return seen

    assert anyio.run(main, backend_options={"loop_factory": VirtualTimeLoop}) == [
        (0, False, 30.0),
        (1, True, 100.0),
        (2, False, 100.0),
    ]
