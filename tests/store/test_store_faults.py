"""A database that fails now and then loses nothing; one that keeps failing says so."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dreamsim.errors import StoreError
from dreamsim.records.lengths import length_class, length_counts
from dreamsim.store import writer
from dreamsim.store.store import open_store
from dreamsim.testing import Fault, FaultSchedule, faulty_connection
from tests.store.samples import make_episode


@pytest.mark.parametrize("fault", ["locked", "read_only", "disk_full"])
async def test_what_may_pass_is_tried_again_and_nothing_is_lost_or_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(writer, "FIRST_WAIT_S", 0.001)
    schedule = FaultSchedule(1, {fault: 0.3})
    async with open_store(tmp_path / "a.sqlite", encoder=None, connect=faulty_connection(schedule)) as store:
        for number in range(20):
            await store.add_durable(make_episode(number))
    assert schedule.struck[fault]
    async with open_store(tmp_path / "a.sqlite", encoder=None, read_only=True) as store:
        assert (await store.counts()).episodes == 20
        assert (await store.counts()).steps == 60


async def test_what_does_not_pass_ends_the_store_with_what_sqlite_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.05)
    connect = faulty_connection(FaultSchedule(1, {"disk_full": 1.0}))
    with pytest.raises(StoreError, match="database or disk is full"):
        async with open_store(tmp_path / "a.sqlite", encoder=None, connect=connect) as store:
            await store.add_durable(make_episode(1))


@pytest.mark.parametrize(
    "change", [{"policy": 3 + 4j}, {"run": object()}, {"quality": {"score": object()}}], ids=["type", "object", "json"]
)
async def test_an_episode_that_no_row_can_hold_takes_none_with_it(tmp_path: Path, change: dict[str, Any]) -> None:
    bad = make_episode(2)
    for name, value in change.items():
        object.__setattr__(bad, name, value)

    async def fill() -> None:
        async with open_store(tmp_path / "a.sqlite", encoder=None) as store:
            for one in (make_episode(1), bad, make_episode(3)):
                await store.add(one)
            await store.flush()
            with pytest.raises(StoreError, match=f"episode {bad.id} cannot be stored"):
                await store.add_durable(bad)
            await store.add_durable(make_episode(4))

    with pytest.raises(StoreError, match=f"of 2 episodes no row could be made.*{bad.id}"):
        await fill()
    async with open_store(tmp_path / "a.sqlite", encoder=None, read_only=True) as store:
        found = [one.id async for one in store.episodes()]
    assert found == [make_episode(number).id for number in (1, 3, 4)]


def test_an_error_of_ours_is_not_tried_again() -> None:
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(":memory:").execute("SELECT nothing FROM nowhere")
    assert not writer.may_pass(caught.value)


@pytest.mark.parametrize(("steps", "name"), [(0, "0"), (1, "1"), (2, "2-3"), (3, "2-3"), (4, "4-7"), (100, "64-127")])
def test_classes_of_length_double(steps: int, name: str) -> None:
    assert length_class(steps) == name


def test_timeouts_are_counted_by_length() -> None:
    counted = length_counts([(5, 10, 4), (0, 3, 3), (4, 2, 0)])
    assert [(one.steps, one.episodes, one.timeouts) for one in counted] == [("0", 3, 3), ("4-7", 12, 4)]
