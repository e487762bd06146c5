"""The whole simulator under faults of every kind: each task ends in exactly one episode, and nothing hangs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.faulty_run import Attack, Outcome, attacked
from dreamsim.flow import collector
from dreamsim.flow.failures import FailurePolicy
from dreamsim.runtime.clock import VirtualClock
from dreamsim.store import writer
from dreamsim.testing import FAULTS, Fault
from tests.flow.runs import in_virtual_time

STORED: tuple[Fault, ...] = (
    "error",
    "bug",
    "disconnect",
    "foreign",
    "disk_full",
    "read_only",
    "locked",
    "corrupt_index",
)
World = Literal["dreamed", "scripted"]
WORLDS: tuple[World, ...] = ("dreamed", "scripted")
POLICIES = (FailurePolicy(), FailurePolicy(on_failure="retry", retries=2, backoff_s=0.5))


def in_memory(attack: Attack) -> Outcome:
    """A run without a store, in virtual time: hours of hanging pass in no time."""
    return in_virtual_time(lambda: attacked(attack, None, VirtualClock()))


def few(rates: Mapping[Fault, float]) -> Mapping[Fault, float]:
    """The same kinds at rates with which four tries to store an episode do not all fail."""
    total = sum(rates.values())
    return {kind: rate * min(1.0, 0.08 / total) if total else 0.0 for kind, rate in rates.items()}


def check(outcome: Outcome, tasks: int) -> None:
    assert not outcome.hung
    assert outcome.error is None
    assert outcome.accounted == len(outcome.given) == tasks
    assert sum(outcome.stored.values()) == tasks


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_task_ends_in_one_episode_under_one_kind_of_fault(fault: Fault, world: World) -> None:
    check(in_memory(Attack(seed=1, rates={fault: 0.05}, world=world, tasks=12, start_s=1.0, within_s=3000.0)), 12)


@pytest.mark.parametrize("seed", range(2))
def test_every_task_ends_in_one_episode_under_all_of_them_at_one_percent(seed: int) -> None:
    attack = Attack(seed=seed, rates=dict.fromkeys(FAULTS, 0.01), tasks=12, start_s=1.0, within_s=3000.0)
    outcome = in_memory(attack)
    check(outcome, 12)
    assert sum(outcome.struck.values()) >= 1


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    rates=st.dictionaries(st.sampled_from(FAULTS), st.floats(0, 0.06)).map(few),
    concurrency=st.integers(1, 12),
    policy=st.sampled_from(POLICIES),
    world=st.sampled_from(WORLDS),
)
def test_every_task_ends_in_one_episode_whatever_the_schedule(
    seed: int, rates: Mapping[Fault, float], concurrency: int, policy: FailurePolicy, world: World
) -> None:
    attack = Attack(
        seed=seed,
        rates=rates,
        world=world,
        tasks=8,
        concurrency=concurrency,
        failures=policy,
        episode_s=10.0,
        slow_s=1.0,
        start_s=1.0,
        within_s=3500.0,
    )
    check(in_memory(attack), 8)


def test_the_same_schedule_meets_the_same_faults_at_another_concurrency() -> None:
    rates: dict[Fault, float] = dict.fromkeys(("error", "garbage", "truncated", "bug", "disconnect"), 0.02)
    found = [in_memory(Attack(seed=5, rates=rates, tasks=6, concurrency=at_once)) for at_once in (1, 7)]
    assert found[0].struck == found[1].struck
    assert found[0].kinds == found[1].kinds


@pytest.mark.parametrize("kinds", [*((fault,) for fault in STORED[2:]), FAULTS])
async def test_what_the_store_holds_accounts_for_every_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[Fault, ...]
) -> None:
    monkeypatch.setattr(collector, "STORE_SECONDS", 8.0)  # real time: what a hanging store costs
    monkeypatch.setattr(writer, "FIRST_WAIT_S", 0.001)
    rates = dict.fromkeys(kinds, 0.01 if len(kinds) > 1 else 0.2)
    attack = Attack(seed=4, rates=rates, world="scripted", tasks=12, episode_s=5.0, slow_s=0.001, within_s=120.0)
    outcome = await attacked(attack, tmp_path / "store.sqlite")
    check(outcome, 12)
    assert outcome.broken == 0
