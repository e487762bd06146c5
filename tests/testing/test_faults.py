"""A schedule of faults is a function of its seed and of names; each part fails as it says."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.errors import EngineDeadError, EngineError
from dreamsim.records.completion import GenerationRequest, Sampling
from dreamsim.store.store import open_store
from dreamsim.testing import (
    FAULTS,
    Fault,
    FaultSchedule,
    FaultyEngine,
    JumpingClock,
    check_completion,
    damage_index,
    faulty_connection,
)
from tests.flow.runs import in_virtual_time
from tests.store.samples import make_episode, query_like

TOKENIZER = ByteTokenizer()
EVERY: dict[Fault, float] = dict.fromkeys(FAULTS, 1 / len(FAULTS))


def request(id: str = "r", seed: int = 0) -> GenerationRequest:
    prompt = TOKENIZER.encode("hello")
    return GenerationRequest(request_id=id, prompt_token_ids=prompt, sampling=Sampling(max_tokens=50), seed=seed)


def engine(fault: Fault, *, clock: JumpingClock | None = None, rate: float = 1.0) -> FaultyEngine:
    scripted = ScriptedEngine(lambda request: "an answer of many words", TOKENIZER)
    return FaultyEngine(scripted, FaultSchedule(0, {fault: rate}), clock=clock)


@given(st.integers(0, 2**62), st.permutations([(name, n) for name in "abc" for n in range(3)]))
def test_the_nth_call_of_a_name_meets_the_same_fault_in_every_order(seed: int, calls: list[tuple[str, int]]) -> None:
    one, other = FaultSchedule(seed, EVERY), FaultSchedule(seed, EVERY)
    found: dict[str, list[Fault | None]] = {name: [] for name in "abc"}
    for name, _ in calls:
        found[name].append(one.due(name, FAULTS))
    for name, faults in found.items():
        assert faults == [other.fault(name, n) for n in range(3)]


def test_a_fault_that_a_part_cannot_have_does_not_happen_to_it() -> None:
    schedule = FaultSchedule(0, {"disk_full": 1.0})
    assert schedule.due("a", ("error", "hang")) is None
    assert not schedule.struck


def test_a_rate_is_about_the_share_of_calls_that_fail() -> None:
    schedule = FaultSchedule(3, {"error": 0.01})
    assert 60 <= sum(schedule.fault("a", n) is not None for n in range(10_000)) <= 140


@pytest.mark.parametrize("rates", [{"eror": 0.1}, {"error": 0.7, "hang": 0.7}, {"error": -0.1}])
def test_rates_that_make_no_sense_are_refused(rates: dict[Fault, float]) -> None:
    with pytest.raises(ValueError, match="fault"):
        FaultSchedule(0, rates)


def test_a_dead_engine_fails_those_who_wait_and_those_who_come() -> None:
    async def main() -> list[bool]:
        faulty = engine("hang")
        met: list[bool] = []

        async def ask(id: str) -> None:
            with pytest.raises(EngineDeadError):
                await faulty.generate(request(id))
            met.append(True)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "waiting")
            await anyio.wait_all_tasks_blocked()
            faulty.die()
        await ask("later")
        return met

    assert in_virtual_time(main) == [True, True]


@pytest.mark.parametrize("fault", ["garbage", "truncated", "slow"])
def test_a_spoilt_answer_keeps_the_protocol(fault: Fault) -> None:
    async def main() -> float:
        for seed in range(20):
            check_completion(await engine(fault).generate(request(seed=seed)))
        return anyio.current_time()

    assert in_virtual_time(main) == (40.0 if fault == "slow" else 0.0)


def test_an_error_says_that_another_try_may_help() -> None:
    async def main() -> bool:
        with pytest.raises(EngineError) as caught:
            await engine("error").generate(request())
        return caught.value.recoverable

    assert in_virtual_time(main)


def test_a_clock_jumps_both_ways_but_durations_are_never_negative() -> None:
    clock = JumpingClock()
    before, begun = clock.unix(), clock.monotonic()
    clock.jump(-1000)
    assert clock.unix() < before
    assert clock.monotonic() >= begun
    clock.jump(+5000)
    assert clock.monotonic() >= begun + 5000


def test_an_engine_makes_the_clock_jump_and_answers_all_the_same() -> None:
    clock = JumpingClock()
    before = clock.unix()
    in_virtual_time(lambda: engine("clock_jump", clock=clock).generate(request("x")))
    assert abs(clock.unix() - before) > 1


@pytest.mark.parametrize(("fault", "said"), [("locked", "locked"), ("disk_full", "full"), ("read_only", "readonly")])
def test_sqlite_fails_as_it_does(tmp_path: Path, fault: Fault, said: str) -> None:
    connection = faulty_connection(FaultSchedule(0, {fault: 1.0}))(tmp_path / "a.sqlite", isolation_level=None)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("PRAGMA foreign_keys = ON")
    problems: list[str] = []
    for statement in ("BEGIN IMMEDIATE", "INSERT INTO t VALUES (1)", "COMMIT"):
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            problems.append(str(error))
    connection.close()
    assert said in problems[0]


@pytest.mark.may_block  # damaging files is what the test does
async def test_a_damaged_index_is_made_again_and_finds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with open_store(path) as store:
        await store.add_all(make_episode(number) for number in range(10))
        await store.flush()
        before = await store.retrieve(query_like(3, 1))
    assert damage_index(path)
    async with open_store(path) as store:
        await store.flush()
        assert await store.retrieve(query_like(3, 1)) == before
        assert store.statistics().index_rebuilt is not None
