"""What a balance prefers among similar experiences, what a quality filter keeps out, and what a query excludes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamsim.records.balance import Balance
from dreamsim.records.episode import PURPOSES, Episode
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.quality import EVERYTHING, QualityFilter
from dreamsim.records.trust import Contradiction, Trust, Verdict
from dreamsim.store.store import Store, open_store
from tests.store.samples import ids_of, make_episode, query_like

ANY: dict[str, Any] = {"sources": ("real", "dreamed"), "folds": ("train", "dev", "test"), "purposes": PURPOSES}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


def real_of(experiences: tuple[Experience, ...]) -> int:
    return sum(experience.source == "real" for experience in experiences)


def mixed(number: int) -> Episode:
    """Every fourth is real, with folds and purposes of every kind."""
    return make_episode(
        number,
        source="real" if number % 4 == 0 else "dreamed",
        fold=("train", "train", "dev", "test")[number // 4 % 4],
        purpose=PURPOSES[number // 2 % 3],
    )


def dreamed(number: int, *, verified: bool = True, trust: Trust | None = None, **changes: Any) -> Episode:
    """A dreamed episode whose last step is confirmed."""
    episode = make_episode(number, source="dreamed")
    confirmed = Trust(verdict=Verdict(verifier="rules-1", outcome="running"))
    *first, last = episode.transitions
    steps = (*(replace(step, trust=trust) for step in first), replace(last, trust=confirmed if verified else None))
    return replace(episode, transitions=steps, **changes)


async def filled(store: Store, episodes: list[Episode]) -> None:
    await store.add_all(episodes)
    await store.flush()


EPISODES = {episode.id: episode for episode in map(mixed, range(48))}
KEYS = sorted(episode.task.key for episode in EPISODES.values())


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BlockingPortal, Store]]:
    """A store of all kinds of episodes."""
    path = tmp_path_factory.mktemp("balanced") / "store.sqlite3"
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_store(path, quality=EVERYTHING)) as store,
    ):
        portal.call(filled, store, list(EPISODES.values()))
        yield portal, store


@st.composite
def queries(draw: st.DrawFn) -> ExperienceQuery:
    """Queries that want all kinds of episodes and exclude some."""
    return query_like(
        draw(st.integers(0, 60)),
        k=draw(st.integers(1, 20)),
        **ANY,
        exclude_task=draw(st.none() | st.sampled_from(KEYS)),
        exclude_tasks=draw(st.frozensets(st.sampled_from(KEYS), max_size=30)),
        exclude_folds=draw(st.frozensets(st.sampled_from(ANY["folds"]))),
        exclude_episode=draw(st.none() | st.sampled_from(sorted(EPISODES))),
        balance=Balance(
            real_share=draw(st.floats(0, 1)),
            half_life=draw(st.none() | st.floats(1, 100)),
            quality_weight=draw(st.floats(0, 3)),
            candidates=draw(st.integers(1, 40)),
        ),
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(query=queries())
def test_nothing_excluded_is_found_and_no_evaluation(
    opened: tuple[BlockingPortal, Store], query: ExperienceQuery
) -> None:
    portal, store = opened
    found = portal.call(store.retrieve, query)
    for experience in found:
        assert EPISODES[experience.episode_id].purpose != "evaluation"
        assert experience.task_key != query.exclude_task
        assert experience.task_key not in query.exclude_tasks
        assert experience.fold not in query.exclude_folds
        assert experience.episode_id != query.exclude_episode
    similarities = [experience.similarity for experience in found]
    assert similarities == sorted(similarities, reverse=True)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(query=queries())
def test_enough_of_what_is_found_is_real(opened: tuple[BlockingPortal, Store], query: ExperienceQuery) -> None:
    portal, store = opened
    found = portal.call(store.retrieve, query)
    possible = portal.call(store.retrieve, replace(query, sources=("real",), balance=Balance()))
    assert real_of(found) >= min(query.balance.least_real(query.k), len(possible))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(query=queries())
def test_a_balance_without_weights_and_floor_finds_the_most_similar(
    opened: tuple[BlockingPortal, Store], query: ExperienceQuery
) -> None:
    portal, store = opened
    every = portal.call(store.retrieve, replace(query, k=500, balance=Balance()))
    assert portal.call(store.retrieve, replace(query, balance=Balance())) == every[: query.k]


async def test_the_newer_and_the_better_of_two_similar_is_preferred(path: Path) -> None:
    old, new = (make_episode(1, run=run, environment=run) for run in ("old", "new"))
    async with open_store(path) as store:
        await filled(store, [replace(old, quality={"judge": 1.0}), replace(new, quality={"judge": 0.5})])

        async def first(balance: Balance) -> str:
            (found,) = await ids_of(store, query_like(1, k=1, balance=balance))
            return found.partition(":")[0]

        assert await first(Balance()) == old.id
        assert await first(Balance(half_life=1)) == new.id
        assert await first(Balance(half_life=1, quality_weight=2)) == old.id


@pytest.mark.parametrize(
    ("episode", "reason"),
    [
        (dreamed(1), None),
        (dreamed(1, verified=False), "unverified"),
        (dreamed(1, generation=2), "generation"),
        (dreamed(1, quality={"judge.causality": 0.4, "certainty": 1.0}), "quality"),
        (dreamed(1, outcome="error", error_kind="experience"), "failed"),
        (dreamed(1, trust=Trust(contradictions=(Contradiction(rule="one_place", message="two"),))), "contradiction"),
        (replace(make_episode(1), quality={"judge": 0.1}), "quality"),
        (make_episode(1), None),
    ],
)
async def test_by_default_nothing_unproven_is_found_and_why_is_counted(
    path: Path, episode: Episode, reason: str | None
) -> None:
    async with open_store(path) as store:
        await filled(store, [episode, make_episode(2)])
        found = await store.retrieve(query_like(1, k=9, sources=("real", "dreamed")))
        assert {experience.episode_id for experience in found} == {make_episode(2).id} | (
            set() if reason else {episode.id}
        )
        assert store.statistics().filtered == ({reason: 1} if reason else {})
    async with open_store(path, quality=EVERYTHING) as store:
        everything = await store.retrieve(query_like(1, k=9, sources=("real", "dreamed")))
        assert episode.id in {experience.episode_id for experience in everything}


async def test_another_filter_makes_the_index_anew(path: Path) -> None:
    async with open_store(path) as store:
        await filled(store, [make_episode(1)])
    async with open_store(path, quality=QualityFilter(min_quality=0.9)) as store:
        await store.flush()
        assert store.statistics().index_rebuilt == "it has another filter"


async def test_a_saved_index_keeps_what_the_balance_needs(path: Path) -> None:
    query = query_like(1, k=1, sources=("real", "dreamed"), balance=Balance(half_life=1, real_share=0.0))
    async with open_store(path) as store:
        await filled(store, [make_episode(1), dreamed(1, run="dream")])
        before = await ids_of(store, query)
    async with open_store(path) as store:
        assert await ids_of(store, query) == before
        assert store.statistics().index_rebuilt is None
