"""The limit on live episodes: what the controller decides, for every history; and what it does to a modelled engine."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.flow.concurrency import COOL_LOOKS, START, LimitState, Look, decide, first_state
from dreamsim.records.load import EngineLoad

LOADS = st.builds(
    EngineLoad,
    running=st.integers(0, 300),
    waiting=st.integers(0, 3000),
    cache_use=st.none() | st.floats(0, 1),
    preemptions=st.just(0),
)
LOOKS = st.lists(st.builds(Look, load=LOADS, preempted=st.integers(0, 50)), min_size=0, max_size=2)
FREE = Look(load=EngineLoad(running=100, waiting=0, cache_use=0.2))


class Plant:
    """An engine in which every request takes its share of a cache, and what does not fit is preempted."""

    def __init__(self, *, fits: int, width: int, tells_use: bool = True) -> None:
        self.fits = fits
        self.width = width
        self.tells_use = tells_use
        self.preempted = 0

    def look(self, alive: int) -> Look:
        wanting = min(alive, self.width)
        running = min(wanting, self.fits)
        lost = wanting - running
        self.preempted += lost
        use = min(1.0, wanting / self.fits) if self.tells_use else None
        return Look(load=EngineLoad(running=running, waiting=alive - running, cache_use=use), preempted=lost)


def drive(plant: Plant, *, ceiling: int, looks: int) -> list[int]:
    """Limits at every look; episodes are as many as the limit says, but a lower limit takes some looks to show."""
    state, alive, limits = first_state(ceiling), 0, []
    for _ in range(looks):
        alive = state.limit if alive <= state.limit else max(state.limit, math.ceil(alive * 0.8))
        decision = decide(state, [plant.look(alive)], alive=alive, ceiling=ceiling)
        state, alive = decision.state, alive - decision.requeue
        limits.append(state.limit)
    return limits


@given(st.lists(st.tuples(LOOKS, st.integers(0, 5000), st.integers(1, 5000)), max_size=60))
def test_the_limit_stays_between_one_and_the_ceiling(history: list[tuple[list[Look], int, int]]) -> None:
    state = first_state(2048)
    for looks, alive, ceiling in history:
        decision = decide(state, looks, alive=alive, ceiling=ceiling)
        state = decision.state
        assert 1 <= state.limit <= ceiling
        assert 0 <= decision.requeue <= max(0, alive - state.limit)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(LOOKS, st.integers(0, 5000)), max_size=40),
    st.sampled_from([1, 16, 2048, 16384]),
)
def test_without_pressure_it_recovers_from_anything(history: list[tuple[list[Look], int]], ceiling: int) -> None:
    state = first_state(ceiling)
    for looks, alive in history:
        state = decide(state, looks, alive=alive, ceiling=ceiling).state
    for _ in range(6_000):  # 50 minutes, from a cut at a single episode
        state = decide(state, [FREE], alive=state.limit, ceiling=ceiling).state
        if state.limit == ceiling:
            break
    assert state.limit == ceiling


@pytest.mark.parametrize(("ceiling", "looks"), [(100, 0), (2048, 3), (16384, 6)])
def test_with_no_pressure_the_ceiling_is_reached_in_a_few_looks(ceiling: int, looks: int) -> None:
    state = first_state(ceiling)
    for _ in range(looks):
        state = decide(state, [FREE], alive=state.limit, ceiling=ceiling).state
    assert state.limit == ceiling


def test_a_long_queue_alone_does_not_lower_the_limit() -> None:
    queued = Look(load=EngineLoad(running=256, waiting=1792, cache_use=0.3))
    decision = decide(LimitState(limit=2048), [queued], alive=2048, ceiling=2048)
    assert (decision.state.limit, decision.reason) == (2048, "ceiling")


def test_a_queue_so_long_that_more_would_only_wait_holds_the_limit() -> None:
    crowded = Look(load=EngineLoad(running=8, waiting=300, cache_use=0.1))
    assert decide(LimitState(limit=308), [crowded], alive=308, ceiling=2048).reason == "held"


def test_a_cut_takes_away_those_that_wait_and_some_that_run() -> None:
    full = Look(load=EngineLoad(running=200, waiting=100, cache_use=1.0), preempted=3)
    decision = decide(LimitState(limit=1000), [full], alive=1000, ceiling=2048)
    assert (decision.reason, decision.state.limit, decision.state.cool) == ("cut", 1000 - 100 - 20, COOL_LOOKS)


def test_a_cut_leaves_at_least_half() -> None:
    full = Look(load=EngineLoad(running=10, waiting=990, cache_use=1.0), preempted=3)
    assert decide(LimitState(limit=1000), [full], alive=1000, ceiling=2048).state.limit == 500


def test_episodes_are_requeued_only_where_work_is_lost_and_the_limit_falls_far() -> None:
    load = EngineLoad(running=300, waiting=500, cache_use=1.0)
    waiting = decide(LimitState(limit=1000), [Look(load=load)], alive=1000, ceiling=2048)
    losing = decide(LimitState(limit=1000), [Look(load=load, preempted=9)], alive=1000, ceiling=2048)
    assert (waiting.requeue, losing.requeue) == (0, 1000 - losing.state.limit)


def test_a_cut_that_is_not_carried_out_yet_is_not_followed_by_another() -> None:
    full = Look(load=EngineLoad(running=200, waiting=500, cache_use=1.0), preempted=1)
    decision = decide(LimitState(limit=600), [full], alive=900, ceiling=2048)
    assert (decision.state.limit, decision.requeue) == (600, 300)


def test_the_tightest_of_two_engines_decides() -> None:
    full = Look(load=EngineLoad(running=100, waiting=10, cache_use=0.97))
    assert decide(LimitState(limit=400), [FREE, full], alive=400, ceiling=2048).state.limit == 400 - 10 - 10


@pytest.mark.parametrize("state", [LimitState(limit=300), LimitState(limit=300, cool=2, wall=400.0)])
def test_a_look_at_which_nobody_tells_changes_nothing(state: LimitState) -> None:
    decision = decide(state, [], alive=300, ceiling=2048)
    assert (decision.state, decision.requeue, decision.reason) == (state, 0, "held")


def test_a_ceiling_lowered_while_nobody_tells_is_kept() -> None:
    assert decide(LimitState(limit=300), [], alive=300, ceiling=40).state.limit == 40


def test_where_many_episodes_are_alive_the_first_limit_cuts_none_of_them() -> None:
    assert first_state(2048, alive=1500) == LimitState(limit=1500)
    assert first_state(2048, alive=2) == first_state(2048) == LimitState(limit=START)
    assert first_state(100, alive=1500) == LimitState(limit=100)


def test_an_engine_that_was_started_again_counts_from_zero() -> None:
    assert Look.since(EngineLoad(preemptions=50), EngineLoad(preemptions=2)).preempted == 2
    assert Look.since(None, EngineLoad(preemptions=50)).preempted == 0


@settings(max_examples=60)
@given(
    fits=st.integers(4, 3000),
    width=st.sampled_from([64, 256, 4096]),
    ceiling=st.sampled_from([64, 2048, 4096]),
    tells_use=st.booleans(),
)
def test_a_constant_engine_is_not_made_to_swing(fits: int, width: int, ceiling: int, tells_use: bool) -> None:
    plant = Plant(fits=fits, width=width, tells_use=tells_use)
    drive(plant, ceiling=ceiling, looks=120)
    limits = drive(Plant(fits=fits, width=width, tells_use=tells_use), ceiling=ceiling, looks=360)[120:]
    assert min(limits) >= 0.75 * max(limits) - 2


@settings(max_examples=60)
@given(fits=st.integers(20, 3000), ceiling=st.sampled_from([64, 2048]))
def test_a_cache_that_tells_its_use_is_used_well_and_not_overrun(fits: int, ceiling: int) -> None:
    plant = Plant(fits=fits, width=100_000)
    limits = drive(plant, ceiling=ceiling, looks=200)
    assert limits[-1] >= min(ceiling, math.floor(0.7 * fits))
    # One look too many at the start, before the first is understood; nothing after that.
    assert plant.preempted <= 10 * max(0, START - fits) + 8 * fits**0.5


def test_a_new_limit_is_found_when_the_load_changes() -> None:
    plant = Plant(fits=1000, width=100_000)
    state, alive = first_state(2048), 0
    seen = []
    for number in range(600):
        plant.fits = 1000 if number < 200 else 250 if number < 400 else 1000
        alive = state.limit
        state = decide(state, [plant.look(alive)], alive=alive, ceiling=2048).state
        seen.append(state.limit)
    assert 700 <= seen[199] <= 950
    assert 170 <= seen[399] <= 250
    assert seen[599] > 1.15 * seen[399]
