"""Real and dreamed groups: exact shares, exact budgets, for every schedule."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError
from dreamsim.flow.mixing import ShareSchedule, SourceMixer

SHARES = st.fractions(0, 1, max_denominator=50)
SCHEDULES = st.dictionaries(st.integers(1, 30), SHARES, max_size=4).flatmap(
    lambda later: SHARES.map(lambda first: ShareSchedule(points=((0, first), *sorted(later.items()))))
)


@given(SCHEDULES, st.integers(1, 5))
def test_the_share_is_exact_after_every_group(schedule: ShareSchedule, groups: int) -> None:
    mixer, wanted, real = SourceMixer(schedule, most_per_group=1), Fraction(0), 0
    for update in range(40):
        for _ in range(groups):
            wanted += schedule.at(update)
            real += mixer.next(update) == "real"
            assert abs(real - wanted) < 1


@given(SCHEDULES, st.integers(0, 300), st.data())
def test_the_budget_is_never_exceeded_whatever_groups_take(
    schedule: ShareSchedule, budget: int, data: st.DataObject
) -> None:
    mixer, playing, spent = SourceMixer(schedule, most_per_group=20, budget=budget), 0, 0
    for update in range(40):
        source = mixer.next(update)
        playing += source == "real"
        assert source is not None or schedule.at(update) == 1
        while playing and data.draw(st.booleans()):
            taken = data.draw(st.integers(0, 20))
            mixer.settle(taken)
            playing, spent = playing - 1, spent + taken
        assert spent + 20 * playing <= budget


def test_what_was_spent_and_may_still_be_spent_beside_open_groups_is_in_the_budget() -> None:
    mixer = SourceMixer(ShareSchedule.parse(["1"]), most_per_group=20, budget=60)
    mixer.spend(15, outstanding=5)
    assert [mixer.next(0) for _ in range(3)] == ["real", "real", None]
    for _ in range(2):
        mixer.settle(5)
    mixer.spend(0, outstanding=16)
    assert mixer.next(1) is None
    mixer.spend(5, outstanding=0)
    assert mixer.next(1) == "real"
    assert mixer.spent == 30


@given(SCHEDULES, st.integers(0, 39))
def test_a_restored_mixer_decides_as_the_first_would_have(schedule: ShareSchedule, stop: int) -> None:
    first = SourceMixer(schedule, most_per_group=7, budget=100)
    for update in range(stop):
        if first.next(update) == "real":
            first.settle(3)
    second = SourceMixer(schedule, most_per_group=7, budget=100)
    second.restore(json.loads(json.dumps(first.state())))
    assert [first.next(update) for update in range(stop, 60)] == [second.next(update) for update in range(stop, 60)]


def test_sim_to_real_is_a_schedule() -> None:
    schedule = ShareSchedule.parse(["0", "3:1"])
    mixer = SourceMixer(schedule, most_per_group=1)
    assert [mixer.next(update) for update in range(5)] == ["dreamed"] * 3 + ["real"] * 2
    assert schedule.ever("real")
    assert not ShareSchedule.parse(["0"]).ever("real")
    assert not ShareSchedule.parse(["1"]).ever("dreamed")


@pytest.mark.parametrize("wrong", [["2"], ["-0.1"], ["x"], ["5:1"], ["0", "0:1"], [], ["0", "4:1", "2:0"], ["1/0"]])
def test_what_is_no_schedule_is_refused(wrong: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="real share"):
        ShareSchedule.parse(wrong)
