"""Samples per insert: the invariant, that nobody is stuck, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dreamsim.errors import ConfigurationError
from dreamsim.store.rate_limiter import RateLimiter, SampleInsertCounts, SamplesPerInsert


@st.composite
def any_settings(draw: st.DrawFn) -> dict[str, Any]:
    """Settings that may or may not be possible."""
    return {
        "samples_per_insert": draw(st.sampled_from([0.1, 0.25, 0.3, 1.0, 1.7, 4.0]) | st.floats(0.05, 8)),
        "min_size_to_sample": draw(st.integers(1, 12)),
        "error_buffer": draw(st.sampled_from([0.5, 0.55, 1.0, 2.5, 4.0]) | st.floats(0.1, 40)),
        "largest_insert": draw(st.integers(1, 5)),
        "largest_sample": draw(st.integers(1, 9)),
    }


@st.composite
def limits(draw: st.DrawFn) -> SamplesPerInsert:
    """Settings that are possible."""
    values = draw(any_settings())
    insert = values["largest_insert"] * values["samples_per_insert"]
    least = max((values["largest_sample"] + insert) / 2, insert)
    return SamplesPerInsert(**values | {"error_buffer": least * draw(st.floats(1.001, 3))})


class CountsMachine(RuleBasedStateMachine):
    """Any order of requests keeps the invariant, and one of the largest requests is always allowed."""

    @initialize(limit=limits())
    def begin(self, limit: SamplesPerInsert) -> None:
        self.limit = limit
        self.counts = SampleInsertCounts(limit)

    @rule(data=st.data(), insert=st.booleans())
    def ask(self, data: st.DataObject, insert: bool) -> None:
        counts, limit = self.counts, self.limit
        n = data.draw(st.integers(1, limit.largest_insert if insert else limit.largest_sample))
        before = (counts.inserts, counts.samples)
        try:
            if insert:
                counts.insert_nowait(n)
            else:
                counts.sample_nowait(n)
        except anyio.WouldBlock:
            assert (counts.inserts, counts.samples) == before
        else:
            assert (counts.inserts + counts.samples) == sum(before) + n

    @invariant()
    def samples_keep_up_with_inserts(self) -> None:
        counts, limit = self.counts, self.limit
        if counts.inserts >= limit.min_size_to_sample:
            inserted = counts.inserts - limit.min_size_to_sample
            assert abs(inserted * limit.samples_per_insert - counts.samples) <= limit.error_buffer + 1e-9
        else:
            assert counts.samples == 0

    @invariant()
    def somebody_can_go_on(self) -> None:
        counts, limit = self.counts, self.limit
        assert counts.can_insert(limit.largest_insert) or counts.can_sample(limit.largest_sample)


CountsMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestCounts = CountsMachine.TestCase


def stuck(limit: SamplesPerInsert) -> bool:
    """Whether a state in which both largest requests are refused can be reached, found by trying."""
    seen, todo = set(), [(0, 0)]
    while todo:
        inserts, samples = todo.pop()
        if (inserts, samples) in seen or inserts > limit.min_size_to_sample + 12:
            continue
        seen.add((inserts, samples))
        counts = SampleInsertCounts(limit, inserts=inserts, samples=samples)
        if not counts.can_insert(limit.largest_insert) and not counts.can_sample(limit.largest_sample):
            return True
        todo += [(inserts + n, samples) for n in range(1, limit.largest_insert + 1) if counts.can_insert(n)]
        todo += [(inserts, samples + n) for n in range(1, limit.largest_sample + 1) if counts.can_sample(n)]
    return False


@settings(max_examples=60, deadline=None)
@given(values=any_settings())
def test_under_settings_that_are_not_refused_nobody_can_be_stuck(values: dict[str, Any]) -> None:
    assume(values["error_buffer"] < 20)
    try:
        limit = SamplesPerInsert(**values)
    except ConfigurationError:
        return
    assert not stuck(limit)


def unchecked(**values: Any) -> SamplesPerInsert:
    """A limit whose settings were not looked at."""
    limit = SamplesPerInsert(samples_per_insert=1.0, error_buffer=99.0)
    for name, value in values.items():
        object.__setattr__(limit, name, value)
    return limit


@pytest.mark.parametrize(
    "values",
    [
        {"samples_per_insert": 1.0, "error_buffer": 0.5},
        {"samples_per_insert": 0.1, "error_buffer": 0.45},
        {"samples_per_insert": 4.0, "error_buffer": 1.5},
        {"samples_per_insert": 1.0, "error_buffer": 3.5, "largest_sample": 8},
        {"samples_per_insert": 1.0, "error_buffer": 3.0, "largest_insert": 5, "min_size_to_sample": 4},
    ],
)
def test_what_is_refused_would_really_be_stuck(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="for ever"):
        SamplesPerInsert(**values)
    assert stuck(unchecked(**values))


def test_a_buffer_below_the_bound_is_taken_where_no_number_falls_between() -> None:
    assert not stuck(SamplesPerInsert(samples_per_insert=4.0, error_buffer=2.0))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"samples_per_insert": 0.0}, "samples_per_insert"),
        ({"error_buffer": 0.0}, "error_buffer"),
        ({"error_buffer": float("nan")}, "error_buffer"),
        ({"min_size_to_sample": 0}, "min_size_to_sample"),
        ({"largest_sample": 0}, "largest_sample"),
    ],
)
def test_settings_without_meaning_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        SamplesPerInsert(**{"samples_per_insert": 1.0, "error_buffer": 4.0} | values)


PLAIN = SamplesPerInsert(samples_per_insert=2.0, min_size_to_sample=3, error_buffer=4.0, largest_sample=4)


def test_a_request_larger_than_agreed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="largest_sample"):
        SampleInsertCounts(PLAIN).can_sample(5)
    with pytest.raises(ConfigurationError, match="largest_insert"):
        SampleInsertCounts(PLAIN).can_insert(2)


def test_counting_goes_on_where_it_stopped_but_not_from_what_cannot_be() -> None:
    assert SampleInsertCounts(PLAIN, inserts=10, samples=12).difference == 2
    for inserts, samples in ((10, 0), (2, 1), (-1, 0)):
        with pytest.raises(ConfigurationError, match="count on"):
            SampleInsertCounts(PLAIN, inserts=inserts, samples=samples)


def limiter(limit: SamplesPerInsert = PLAIN) -> RateLimiter:
    return RateLimiter(limit, now=anyio.current_time)


async def test_a_fast_learner_waits_for_the_actors_and_they_for_it() -> None:
    limited = limiter()
    order: list[str] = []

    async def insert() -> None:
        for _ in range(20):
            await limited.insert()
            order.append("i")

    async def sample() -> None:
        for _ in range(8):
            await limited.sample(4)
            order.append("ssss")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sample)
        tasks.start_soon(insert)
    statistics = limited.statistics()
    assert (statistics.inserts, statistics.samples, statistics.difference) == (20, 32, 2)
    assert (statistics.inserting_waits, statistics.sampling_waits) == (0, 0)
    text = "".join(order)
    assert text.startswith("iii")
    for end in range(len(text)):
        inserts, samples = text[:end].count("i"), text[:end].count("s")
        assert inserts < 3 or abs(2 * (inserts - 3) - samples) <= 4 + 3  # a sample of 4 is one request


@settings(max_examples=25, deadline=None)
@given(limit=limits(), actors=st.integers(1, 4), learners=st.integers(1, 3))
def test_any_number_of_actors_and_learners_come_to_an_end(limit: SamplesPerInsert, actors: int, learners: int) -> None:
    async def scene() -> None:
        limited = limiter(limit)
        done = 0

        async def act() -> None:
            nonlocal done
            for _ in range(15):
                await limited.insert(limit.largest_insert)
            done += 1
            if done == actors:
                await limited.end_inserts()

        async def learn() -> None:
            with suppress(anyio.EndOfStream):
                while True:
                    await limited.sample(limit.largest_sample)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(learners):
                    tasks.start_soon(learn)
                for _ in range(actors):
                    tasks.start_soon(act)
        assert limited.statistics().inserts == 15 * actors * limit.largest_insert
        assert abs(limited.statistics().difference) <= limit.error_buffer + 1e-9

    anyio.run(scene)


async def test_a_cancelled_request_counts_nothing_and_lets_the_next_one_pass() -> None:
    limited = limiter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limited.sample, 4)
        await anyio.wait_all_tasks_blocked()
        assert limited.statistics().sampling_waits == 1
        tasks.cancel_scope.cancel()
    for _ in range(3):
        await limited.insert()
    await limited.sample(4)
    assert limited.statistics().samples == 4
    assert limited.statistics().sampling_waits == 0


async def test_a_large_sample_is_not_overtaken_by_small_ones() -> None:
    limited = limiter()
    order: list[int] = []

    async def sample(n: int) -> None:
        await limited.sample(n)
        order.append(n)

    for _ in range(3):
        await limited.insert()
    await limited.sample(2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sample, 4)  # must wait for an insert
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(sample, 1)  # would not have to
        await anyio.wait_all_tasks_blocked()
        assert order == []
        await limited.insert()
        await anyio.wait_all_tasks_blocked()
        assert order == [4]
        await limited.insert()
    assert order == [4, 1]


async def test_who_waits_is_told_that_the_other_side_has_ended() -> None:
    limited = limiter(replace(PLAIN, min_size_to_sample=1))

    async def insert() -> None:
        for _ in range(3):
            await limited.insert()
        with pytest.raises(anyio.BrokenResourceError):
            await limited.insert()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(insert)
        await anyio.wait_all_tasks_blocked()
        assert limited.statistics().inserting_waits == 1
        await limited.end_samples()
    assert limited.statistics().inserts == 3
    with pytest.raises(anyio.ClosedResourceError):
        await limited.sample()


async def test_time_spent_waiting_is_told() -> None:
    time = 0.0
    limited = RateLimiter(PLAIN, now=lambda: time)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limited.sample)
        await anyio.wait_all_tasks_blocked()
        time = 5.0
        for _ in range(3):
            await limited.insert()
    assert limited.statistics().sample_blocked_s == 5
    assert limited.statistics().insert_blocked_s == 0
