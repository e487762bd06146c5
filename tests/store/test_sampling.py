"""Samples for trainers: what is drawn, how often, and what never is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError, StoreError
from dreamsim.records.balance import Balance
from dreamsim.records.episode import PURPOSES, SOURCES, Episode
from dreamsim.records.quality import EVERYTHING, Provenance, QualityFilter
from dreamsim.store.sampling import SamplingRule
from dreamsim.store.store import Store, open_store
from tests.store.samples import make_episode

FOLDS = ("train", "dev", "test")


def kind(number: int) -> Episode:
    """Episodes of every source, purpose, fold and environment, of different quality and length."""
    episode = make_episode(
        number,
        steps=number % 4,
        source=SOURCES[number % 3 % 2],
        purpose=PURPOSES[number // 3 % 3],
        fold=FOLDS[number // 9 % 3],
        environment=("house", "shop")[number // 27 % 2],
        run=("one", "two")[number // 5 % 2],
    )
    return replace(episode, quality={"judge": (number % 7) / 6}, started_at=float(number * 60))


EPISODES = {episode.id: episode for episode in map(kind, range(80))}
Opened = tuple[BlockingPortal, Store]
EACH = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A store of all kinds of episodes."""
    path = tmp_path_factory.mktemp("sampled") / "store.sqlite3"
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(open_store(path, encoder=None)) as store:
        portal.call(store.add_all, EPISODES.values())
        yield portal, store


@st.composite
def rules(draw: st.DrawFn) -> SamplingRule:
    """Rules of all kinds."""
    some = st.lists(st.sampled_from(FOLDS), unique=True)
    return SamplingRule(
        balance=Balance(
            real_share=draw(st.floats(0, 1)),
            half_life=draw(st.none() | st.floats(1, 100)),
            half_life_s=draw(st.none() | st.floats(60, 6000)),
            quality_weight=draw(st.floats(0, 3)),
        ),
        quality=draw(st.sampled_from([EVERYTHING, QualityFilter(), replace(EVERYTHING, min_quality=0.5)])),
        sources=tuple(draw(st.lists(st.sampled_from(SOURCES), unique=True))),
        purposes=tuple(draw(st.lists(st.sampled_from(PURPOSES), unique=True))),
        folds=tuple(draw(some)),
        exclude_folds=frozenset(draw(some)),
        exclude_tasks=frozenset(draw(st.lists(st.sampled_from(sorted(e.task.key for e in EPISODES.values()))))),
        environment=draw(st.sampled_from([None, "house", "shop"])),
        run=draw(st.sampled_from([None, "one", "two"])),
    )


def allowed(rule: SamplingRule, episode: Episode) -> bool:
    return (
        episode.purpose != "evaluation"
        and episode.purpose in rule.purposes
        and episode.source in rule.sources
        and episode.task.fold in rule.folds
        and episode.task.fold not in rule.exclude_folds
        and episode.task.key not in rule.exclude_tasks
        and rule.environment in (None, episode.task.environment)
        and rule.run in (None, episode.run)
    )


@EACH
@given(rule=rules(), n=st.integers(0, 100), seed=st.integers(0, 99))
def test_only_what_the_rule_allows_is_drawn_and_no_evaluation(
    opened: Opened, rule: SamplingRule, n: int, seed: int
) -> None:
    portal, store = opened
    drawn = portal.call(partial(store.sample, n, rule, seed=seed))
    asked = [episode for episode in EPISODES.values() if allowed(rule, episode)]
    passing = [episode for episode in asked if rule.quality.objection(Provenance.of(episode)) is None]
    ids = [episode.id for episode in drawn.items]
    assert len(ids) == len(set(ids)) == min(n, len(passing))
    assert set(ids) <= {episode.id for episode in passing}
    assert drawn.considered == len(asked)
    assert sum(drawn.filtered.values()) == len(asked) - len(passing)


@EACH
@given(rule=rules(), n=st.integers(0, 100), seed=st.integers(0, 99))
def test_enough_of_a_sample_is_real(opened: Opened, rule: SamplingRule, n: int, seed: int) -> None:
    portal, store = opened
    drawn = portal.call(partial(store.sample, n, rule, seed=seed))
    available = portal.call(partial(store.sample, 100, replace(rule, balance=Balance()), seed=0)).real
    wanted = rule.balance.least_real(n)
    assert drawn.real == sum(episode.source == "real" for episode in drawn.items)
    assert drawn.real >= min(wanted, available)
    assert drawn.real_missing == max(0, wanted - available)


@EACH
@given(rule=rules(), n=st.integers(0, 100), seed=st.integers(0, 99))
def test_the_same_seed_draws_the_same(opened: Opened, rule: SamplingRule, n: int, seed: int) -> None:
    portal, store = opened
    one, two = (portal.call(partial(store.sample, n, rule, seed=seed)) for _ in range(2))
    assert [episode.id for episode in one.items] == [episode.id for episode in two.items]
    assert one.weights.tolist() == two.weights.tolist()
    assert all(0 <= weight <= 1 for weight in one.weights.tolist())


@EACH
@given(rule=rules(), n=st.integers(0, 200), seed=st.integers(0, 99))
def test_single_steps_are_drawn_by_the_same_rule(opened: Opened, rule: SamplingRule, n: int, seed: int) -> None:
    portal, store = opened
    drawn = portal.call(partial(store.sample_experiences, n, rule, seed=seed))
    possible = [
        (episode, step)
        for episode in EPISODES.values()
        if allowed(rule, episode) and rule.quality.objection(Provenance.of(episode)) is None
        for step in range(len(episode.transitions))
    ]
    names = [experience.id for experience in drawn.items]
    assert len(names) == len(set(names)) == min(n, len(possible))
    assert set(names) <= {f"{episode.id}:{step}" for episode, step in possible}
    available = sum(episode.source == "real" for episode, _ in possible)
    assert drawn.real >= min(rule.balance.least_real(n), available)


def test_another_seed_draws_something_else(opened: Opened) -> None:
    portal, store = opened
    rule = SamplingRule(quality=EVERYTHING, folds=FOLDS)
    one, two = (portal.call(partial(store.sample, 10, rule, seed=seed)) for seed in (1, 2))
    assert [episode.id for episode in one.items] != [episode.id for episode in two.items]


def frequencies(opened: Opened, rule: SamplingRule) -> Counter[str]:
    portal, store = opened
    counts: Counter[str] = Counter()
    for seed in range(400):
        (item,) = portal.call(partial(store.sample, 1, rule, seed=seed)).items
        counts[item.id] += 1
    return counts


def test_items_are_drawn_in_proportion_to_their_weight(opened: Opened) -> None:
    low, high = (kind(number) for number in (3, 4))  # of quality 1/2 and 2/3
    others = frozenset(episode.task.key for episode in EPISODES.values()) - {low.task.key, high.task.key}
    rule = SamplingRule(quality=EVERYTHING, folds=FOLDS, exclude_tasks=others, balance=Balance(quality_weight=4))
    counts = frequencies(opened, rule)
    expected = 400 * (2 / 3) ** 4 / ((2 / 3) ** 4 + (1 / 2) ** 4)  # 304 of 400; standard deviation 9
    assert abs(counts[high.id] - expected) < 36


def test_without_weights_all_are_drawn_alike(opened: Opened) -> None:
    keys = [kind(number).task.key for number in (3, 4, 5, 12)]
    others = frozenset(episode.task.key for episode in EPISODES.values()) - set(keys)
    counts = frequencies(opened, SamplingRule(quality=EVERYTHING, folds=FOLDS, exclude_tasks=others))
    assert all(abs(count - 400 / len(counts)) < 40 for count in counts.values())
    assert len(counts) >= 3


async def test_scores_that_come_later_decide_what_is_drawn(path: Path) -> None:
    one, two = make_episode(1), make_episode(2)
    async with open_store(path, encoder=None) as store:
        await store.add_all([replace(one, quality={"certainty": 1.0}), two])
        assert await store.score({one.id: {"judge.causality": 0.25}, "unknown": {"judge": 1}}) == 1
        drawn = await store.sample(2, seed=0)
        assert [episode.id for episode in drawn.items] == [two.id]
        assert drawn.filtered == {"quality": 1}
        stored = await store.episode(one.id)
        assert stored is not None
        assert stored.quality == {"certainty": 1.0, "judge.causality": 0.25}


async def test_a_score_that_is_none_is_refused(path: Path) -> None:
    async with open_store(path, encoder=None) as store:
        with pytest.raises(StoreError, match=r"judge is 2"):
            await store.score({"e": {"judge": 2}})


async def test_nothing_can_be_drawn_from_an_empty_store_and_no_negative_number(path: Path) -> None:
    async with open_store(path, encoder=None) as store:
        drawn = await store.sample(5, SamplingRule(balance=Balance(real_share=0.5, half_life=3)), seed=0)
        assert (drawn.items, drawn.real_missing) == ((), 3)
        assert (await store.sample_experiences(5, seed=0)).items == ()
        with pytest.raises(ConfigurationError, match="-1"):
            await store.sample(-1, seed=0)
