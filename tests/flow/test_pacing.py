"""Pacing: what may be admitted when, for every history; and who waited for whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError, UsageError
from dreamsim.flow.groups import ClosedGroup
from dreamsim.flow.learning import Learned
from dreamsim.flow.source import FixedTasks, GroupedTasks
from dreamsim.flow.staleness import Pace, PacedTasks, PaceSettings, PaceState, admission
from dreamsim.protocols import Assignment
from dreamsim.records.weights import WeightsUpdate
from dreamsim.testing import scripted_tasks
from dreamsim.testing.decisions import decided_episode
from tests.flow.test_learning import METRICS

TASKS = scripted_tasks(3)


class Run:
    """A loop of rollouts and trainer as pacing sees it, one event at a time."""

    def __init__(self, settings: PaceSettings) -> None:
        self.settings = settings
        self.state = PaceState()
        self.waiting = 0
        self.begun_with: list[int] = []

    def admit(self) -> bool:
        if admission(self.state, self.settings) in ("held", "done"):
            return False
        self.begun_with.append(self.state.delivered)
        self.state = replace(self.state, admitted=self.state.admitted + 1)
        return True

    def end(self, *, dropped: bool = False) -> bool:
        if not self.state.playing:
            return False
        state = replace(self.state, ended=self.state.ended + 1, left_out=self.state.left_out + dropped)
        self.waiting += not dropped
        if self.waiting == self.settings.batch_groups:
            self.waiting, state = 0, replace(state, batches=state.batches + 1)
        self.state = state
        return True

    def learn(self) -> bool:
        if self.state.learned == self.state.batches:
            return False
        learned = self.state.learned + 1
        due = learned % self.settings.publish_every == 0
        self.state = replace(self.state, learned=learned, published=learned if due else self.state.published)
        return True

    def deliver(self) -> bool:
        if self.state.delivered == self.state.published:
            return False
        self.state = replace(self.state, delivered=self.state.published)
        return True


@st.composite
def pace_settings(draw: st.DrawFn) -> PaceSettings:
    lag = draw(st.integers(0, 4))
    return PaceSettings(
        max_lag=lag, batch_groups=draw(st.integers(1, 5)), publish_every=draw(st.integers(1, lag + 1)), steps=None
    )


EVENTS = st.lists(st.sampled_from(["admit", "end", "drop", "learn", "deliver"]), max_size=120)


def happen(run: Run, event: str) -> bool:
    events: dict[str, Callable[[], bool]] = {
        "admit": run.admit,
        "end": run.end,
        "drop": lambda: run.end(dropped=True),
        "learn": run.learn,
        "deliver": run.deliver,
    }
    return events[event]()


@given(pace_settings(), EVENTS)
def test_no_group_is_admitted_beyond_the_bound(settings: PaceSettings, events: list[str]) -> None:
    run = Run(settings)
    for event in events:
        happen(run, event)
        counted = run.state.admitted - run.state.left_out
        assert counted <= (run.state.delivered + settings.max_lag + 1) * settings.batch_groups


@given(pace_settings(), EVENTS)
def test_something_can_always_happen(settings: PaceSettings, events: list[str]) -> None:
    run = Run(settings)
    for event in events:
        happen(run, event)
        if admission(run.state, settings) == "held":
            assert any(happen(run, other) for other in ("end", "learn", "deliver"))


@given(pace_settings(), EVENTS)
def test_without_losses_nobody_is_admitted_for_starving(settings: PaceSettings, events: list[str]) -> None:
    run = Run(settings)
    for event in events:
        happen(run, event)
        assert admission(run.state, settings) != "starving"


@given(pace_settings(), EVENTS)
def test_groups_that_end_in_order_are_never_staler_than_allowed(settings: PaceSettings, events: list[str]) -> None:
    run = Run(settings)
    for event in events:
        before = run.state
        if happen(run, event) and event == "end":
            assert before.batches - run.begun_with[before.ended] <= settings.max_lag


@given(st.integers(0, 3), st.integers(1, 4), st.integers(0, 30))
def test_a_group_that_got_lost_does_not_stop_the_run(lag: int, size: int, lost: int) -> None:
    settings = PaceSettings(max_lag=lag, batch_groups=size)
    state = PaceState(admitted=lost, ended=lost)  # ended, and neither in a batch nor known to be left out
    assert admission(state, settings) in ("ahead", "starving")


def test_lag_0_alternates() -> None:
    run = Run(PaceSettings(max_lag=0, batch_groups=2))
    assert [run.admit(), run.admit(), run.admit()] == [True, True, False]
    assert [run.end(), run.admit(), run.end(), run.admit()] == [True, False, True, False]
    assert [run.learn(), run.admit(), run.deliver(), run.admit()] == [True, False, True, True]


def test_lag_1_plays_the_next_batch_while_the_trainer_learns() -> None:
    run = Run(PaceSettings(max_lag=1, batch_groups=2))
    assert [run.admit() for _ in range(5)] == [True] * 4 + [False]


def test_no_group_is_begun_that_no_step_will_need() -> None:
    run = Run(PaceSettings(max_lag=5, batch_groups=2, steps=1))
    assert [run.admit() for _ in range(3)] == [True, True, False]
    assert admission(run.state, run.settings) == "held"
    assert [run.end(), run.end()] == [True, True]
    assert admission(run.state, run.settings) == "done"


def test_a_lag_that_publishing_seldom_cannot_keep_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="raise max_lag to 2"):
        PaceSettings(max_lag=1, publish_every=3)


@pytest.mark.parametrize(("number", "stale"), [(3, False), (5, False), (6, True)])
def test_staleness_counts_from_the_oldest_step_to_the_version_that_will_learn(number: int, stale: bool) -> None:
    episodes = tuple(decided_episode(0, repeat=repeat, version=version) for repeat, version in enumerate((5, 3)))
    group = ClosedGroup(task_key="t", number=0, episodes=episodes, viable=True, complete=True)
    assert Pace(PaceSettings(max_lag=2), now=lambda: 0.0).too_stale(group, number) is stale


async def give(pace: Pace, groups: int, seen: Callable[[Assignment], None]) -> None:
    """Take assignments of groups of one episode as they are given."""
    source = PacedTasks(GroupedTasks(TASKS, size=1, groups=groups), pace, group_size=1)
    async for assignment in source.assignments():
        seen(assignment)


async def test_assignments_stop_where_pacing_says() -> None:
    given: list[Assignment] = []
    async with anyio.create_task_group() as group:
        group.start_soon(give, Pace(PaceSettings(max_lag=1, batch_groups=2)), 100, given.append)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert len(given) == 4


async def test_new_weights_let_the_next_groups_in() -> None:
    pace = Pace(PaceSettings(max_lag=0, batch_groups=2))
    given: list[Assignment] = []
    async with anyio.create_task_group() as group:
        group.start_soon(give, pace, 4, given.append)
        await anyio.wait_all_tasks_blocked()
        assert len(given) == 2
        pace.group_ended()
        pace.group_ended(batch=True)
        update = WeightsUpdate(version=1, path=Path("v1"), kind="full")
        pace.learned(Learned(metrics=METRICS, update=update, waited_s=0.0, worked_s=0.0))
        await anyio.wait_all_tasks_blocked()
        assert len(given) == 2  # learned, but no engine has the weights
        pace.delivered(1)
    assert len(given) == 4


async def test_whoever_waits_is_told_that_the_trainer_is_gone() -> None:
    pace = Pace(PaceSettings(max_lag=0, batch_groups=1))
    given: list[Assignment] = []
    async with anyio.create_task_group() as group:
        group.start_soon(give, pace, 9, given.append)
        await anyio.wait_all_tasks_blocked()
        pace.close()
    assert len(given) == 1


async def test_a_source_that_mixes_groups_is_refused() -> None:
    paced = PacedTasks(FixedTasks(TASKS, repeats=2), Pace(PaceSettings()), group_size=2)
    with pytest.raises(UsageError, match="one after the other"):
        [one async for one in paced.assignments()]


async def test_what_a_resumed_run_has_already_is_given_without_being_counted() -> None:
    pace = Pace(PaceSettings(max_lag=0, batch_groups=1))
    tasks = GroupedTasks(TASKS, size=2, groups=3)
    paced = PacedTasks(tasks, pace, group_size=2, passed=lambda one: one.task != TASKS[2])
    assert len([one async for one in paced.assignments()]) == 6
    assert pace.state.admitted == 1


def test_waits_are_told_apart() -> None:
    clock = [0.0]
    pace = Pace(PaceSettings(max_lag=0, batch_groups=1), now=lambda: clock[0])

    async def main() -> None:
        assert await pace.turn()
        clock[0] = 10.0  # played for 10 s, nobody held
        async with anyio.create_task_group() as group:
            group.start_soon(pace.turn)
            await anyio.wait_all_tasks_blocked()
            clock[0] = 12.0  # held for 2 s while the group was playing
            pace.group_ended(batch=True)
            await anyio.wait_all_tasks_blocked()
            clock[0] = 15.0  # held for 3 s while nobody played
            update = WeightsUpdate(version=1, path=Path("v1"), kind="full")
            pace.learned(Learned(metrics=METRICS, update=update, waited_s=12.0, worked_s=3.0))
            pace.loading()
            clock[0] = 16.0  # and 1 s for the weights
            pace.delivered(1)

    anyio.run(main)
    told = pace.statistics()
    assert (told.elapsed_s, told.held_s, told.engine_waited_s) == (16.0, 6.0, 4.0)
    assert (told.engine_wait_share, told.trainer_wait_share) == (0.25, 0.75)
