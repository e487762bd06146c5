"""Retrieval through an open store: what is found, and what must not be."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsim.errors import RetrievalError
from dreamsim.records.experience import Experience, embedding_text
from dreamsim.records.quality import EVERYTHING
from dreamsim.store.lexical import LexicalEncoder
from dreamsim.store.partition import rounded
from dreamsim.store.store import Store, open_store
from dreamsim.testing.contracts import check_sink
from dreamsim.testing.model_contracts import check_retriever
from tests.store.samples import CountingEncoder, action_of, ids_of, make_episode, query_like, state_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


async def test_an_experience_is_the_step_that_was_stored(path: Path) -> None:
    episode = make_episode(3)
    async with open_store(path) as store:
        await store.add(episode)
        await store.flush()
        found, *_ = await store.retrieve(query_like(3, step=1))
    assert found.similarity == pytest.approx(1.0, abs=1e-3)
    assert found == Experience(
        id=f"{episode.id}:1",
        episode_id=episode.id,
        task_key=episode.task.key,
        environment="house",
        fold="train",
        source="real",
        instruction="task 3",
        state=state_of(3, 1).lines,
        action=action_of(3, 1),
        changes=found.changes,
        next_state=state_of(3, 2).lines,
        reasoning="",
        reward=0.0,
        outcome="running",
        similarity=found.similarity,
    )


async def test_the_store_finds_what_brute_force_finds(path: Path) -> None:
    encoder = LexicalEncoder()
    episodes = [make_episode(number) for number in range(60)]
    async with open_store(path, encoder=encoder) as store:
        await store.add_all(episodes)
        await store.flush()
        queries = [query_like(number, step=1, k=5) for number in range(60, 90)]
        found = [await store.retrieve(query) for query in queries]
    texts: dict[str, None] = {}
    for number in range(60):
        for step in range(3):
            texts[embedding_text(state_of(number, step).lines, action_of(number, step))] = None
    vectors = rounded(encoder.encode(list(texts))).astype(np.float64)
    for query, experiences in zip(queries, found, strict=True):
        asked = rounded(encoder.encode([embedding_text(query.state, query.action)]))[0]
        best = np.sort(vectors @ asked)[::-1][:5]
        assert [experience.similarity for experience in experiences] == best.tolist()
        assert len({(experience.state, experience.action) for experience in experiences}) == 5


async def test_only_what_the_query_asks_for_is_found(path: Path) -> None:
    async with open_store(path, quality=EVERYTHING) as store:
        await store.add(make_episode(1))
        await store.add(make_episode(1, environment="shop"))
        await store.add(make_episode(1, fold="test"))
        await store.add(make_episode(1, source="dreamed", run="dream"))
        await store.add(make_episode(1, purpose="training", run="training"))
        await store.flush()

        async def found(**changes: Any) -> set[tuple[str, str, str]]:
            experiences = await store.retrieve(query_like(1, k=99, **changes))
            return {(e.environment, e.fold, e.source) for e in experiences}

        assert await found() == {("house", "train", "real"), ("shop", "train", "real")}
        assert await found(environment="shop") == {("shop", "train", "real")}
        assert await found(environment="nowhere") == set()
        assert await found(folds=("test",)) == {("house", "test", "real")}
        assert await found(sources=("dreamed",)) == {("house", "train", "dreamed")}
        assert await found(sources=()) == set()
        purposes = await store.retrieve(query_like(1, purposes=("training",)))
        assert {experience.id.partition(":")[0] for experience in purposes} == {
            make_episode(1, purpose="training", run="training").id
        }


async def test_evaluation_episodes_are_never_found(path: Path) -> None:
    async with open_store(path) as store:
        await store.add(make_episode(1, purpose="evaluation"))
        await store.flush()
        assert store.statistics().indexed == 0
        purposes = ("evaluation", "experience", "training")
        assert await store.retrieve(query_like(1, purposes=purposes)) == ()


async def test_the_excluded_task_is_never_found_whatever_the_run(path: Path) -> None:
    async with open_store(path) as store:
        for repeat in range(5):
            await store.add(make_episode(1, repeat=repeat, run=f"run {repeat}"))
            await store.add(make_episode(2, repeat=repeat))
        await store.flush()
        key = make_episode(1).task.key
        found = await store.retrieve(query_like(1, k=50, exclude_task=key))
        assert {experience.task_key for experience in found} == {make_episode(2).task.key}


async def test_queries_asked_at_once_are_answered_in_few_batches_off_the_loop(path: Path) -> None:
    encoder = CountingEncoder()
    async with open_store(path, encoder=encoder) as store:
        await store.add_all(make_episode(number) for number in range(20))
        await store.flush()
        answers: dict[int, list[str]] = {}

        async def ask(number: int) -> None:
            answers[number] = await ids_of(store, query_like(number % 40, step=number % 3))

        async with anyio.create_task_group() as tasks:
            for number in range(400):
                tasks.start_soon(ask, number)
        statistics = store.statistics()
        assert statistics.queries == 400
        assert statistics.query_batches <= 8
        assert threading.get_ident() not in encoder.threads
        for number in range(0, 400, 37):
            assert await ids_of(store, query_like(number % 40, step=number % 3)) == answers[number]


async def test_an_asker_who_is_cancelled_leaves_the_others_their_answers(path: Path) -> None:
    async with open_store(path) as store:
        await store.add(make_episode(1))
        await store.flush()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.retrieve(query_like(1))
        assert scope.cancelled_caught
        assert len(await store.retrieve(query_like(1))) == 3


async def test_an_encoder_that_fails_fails_the_query_and_loses_no_step(path: Path) -> None:
    encoder = CountingEncoder()
    async with open_store(path, encoder=encoder) as store:
        await store.add_durable(make_episode(1))
        await store.flush()
        encoder.broken = True
        await store.add_durable(make_episode(2))
        with pytest.raises(RetrievalError, match="broken"):
            await store.retrieve(query_like(2))
        with pytest.raises(RetrievalError, match="behind"):
            await store.flush()
        encoder.broken = False
        await store.add_durable(make_episode(3))
        await store.flush()
        assert len(await store.retrieve(query_like(2, k=9))) == 9


class HangingEncoder(CountingEncoder):
    """Never answers until `released`."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.entered = threading.Event()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.entered.set()
        self.released.wait()
        return super().encode(texts)


async def test_closing_does_not_wait_for_an_encoder_that_hangs(path: Path) -> None:
    encoder = HangingEncoder()
    try:
        async with open_store(path, encoder=encoder, close_timeout_s=0.05) as store:
            await store.add_durable(make_episode(1))
            await anyio.to_thread.run_sync(encoder.entered.wait)
    finally:
        encoder.released.set()
    async with open_store(path) as store:
        assert (await store.counts()).episodes == 1
        assert len(await store.retrieve(query_like(1))) == 3


async def test_a_store_keeps_the_contracts_of_sinks_and_retrievers(path: Path) -> None:
    async with open_store(path) as store:

        async def stored() -> frozenset[str]:
            await store.flush()
            return await store.finished_ids("run")

        await check_sink(store, [make_episode(number) for number in range(20)], stored)
        await check_retriever(store, query_like(4))


async def test_answers_come_while_the_store_is_being_written(path: Path) -> None:
    async def write(store: Store) -> None:
        for number in range(30, 80):
            await store.add_durable(make_episode(number))

    async def ask(store: Store) -> None:
        for number in range(30):
            assert len(await store.retrieve(query_like(number))) == 4

    async with open_store(path) as store:
        await store.add_all(make_episode(number) for number in range(30))
        await store.flush()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, store)
            tasks.start_soon(ask, store)
            tasks.start_soon(ask, store)
        await store.flush()
        assert (await store.counts()).episodes == 80
        assert store.statistics().indexed == len(
            {
                embedding_text(state_of(number, step).lines, action_of(number, step))
                for number in range(80)
                for step in range(3)
            }
        )
