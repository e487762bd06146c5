"""What holds when a store is opened, written to, interrupted and closed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import pytest

from dreamsim.errors import StoreError, StoreLockedError, StoreSchemaError
from dreamsim.records.codec import episode_to_json
from dreamsim.records.completion import Completion, Decision
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.schema import open_writer
from dreamsim.store.store import open_store
from tests.store.samples import make_episode, query_like


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "store.sqlite3"


async def test_everything_added_is_stored_when_the_store_is_closed(path: Path) -> None:
    async with open_store(path, encoder=None) as store:
        for number in range(50):
            await store.add(make_episode(number))
    async with open_store(path, encoder=None) as store:
        assert (await store.counts()).episodes == 50


async def test_adding_an_episode_again_keeps_the_first(path: Path) -> None:
    first = make_episode(1)
    async with open_store(path, encoder=None) as store:
        await store.add_durable(first)
        await store.add_durable(replace(first, policy="another"))
        stored = await store.episode(first.id)
        assert stored is not None
        assert stored.policy == ""
        assert (await store.counts()).steps == len(first.transitions)
        assert store.statistics().episodes == 1


async def test_a_durable_episode_can_be_read_by_another_connection_at_once(path: Path) -> None:
    async with open_store(path, encoder=None) as store:
        await store.add_durable(make_episode(1))
        async with open_store(path, encoder=None, read_only=True) as reader:
            assert (await reader.counts()).episodes == 1


async def test_many_tasks_add_through_a_small_queue(path: Path) -> None:
    async with open_store(path, encoder=None, capacity=2) as store:
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(store.add_durable, make_episode(number, steps=1))
        statistics = store.statistics()
        assert statistics.episodes == 100
        assert statistics.queue_depth == 0
        assert statistics.lag_s == 0


async def test_what_was_added_is_stored_although_everything_is_cancelled(path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with open_store(path, encoder=None, capacity=4) as store, anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(store.add, make_episode(number))
            scope.cancel()
    assert scope.cancelled_caught
    async with open_store(path, encoder=None, read_only=True) as store:
        stored = (await store.counts()).episodes
        assert stored in (0, 40)  # tasks cancelled before their first step never called `add`


async def test_an_add_that_waits_for_room_is_not_lost_to_a_cancellation(path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with open_store(path, encoder=None, capacity=1) as store:

            async def add_some(start: int) -> None:
                scope.cancel()
                await store.add(make_episode(start))

            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(add_some, number)
                await anyio.lowlevel.cancel_shielded_checkpoint()
    async with open_store(path, encoder=None, read_only=True) as store:
        assert (await store.counts()).episodes == 20


async def test_an_error_in_the_body_comes_out_as_it_is(path: Path) -> None:
    async def body() -> None:
        async with open_store(path) as store:
            await store.add(make_episode(1))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await body()
    async with open_store(path, read_only=True) as store:
        assert (await store.counts()).episodes == 1


async def test_a_closed_store_refuses_and_closing_again_does_nothing(path: Path) -> None:
    async with open_store(path) as store:
        await store.close()
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.add(make_episode(1))
        with pytest.raises(StoreError, match="closed"):
            await store.counts()
        with pytest.raises(StoreError, match="closed"):
            await store.retrieve(query_like(1))


async def test_a_read_only_store_refuses_to_add(path: Path) -> None:
    async with open_store(path, encoder=None):
        pass
    async with open_store(path, encoder=None, read_only=True) as store:
        with pytest.raises(StoreError, match="read-only"):
            await store.add(make_episode(1))


async def test_a_missing_store_cannot_be_read(path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        async with open_store(path, read_only=True):
            pass


async def test_a_second_writer_is_refused_by_name_of_the_first(path: Path) -> None:
    async with open_store(path, encoder=None):
        with pytest.raises(StoreLockedError, match=str(os.getpid())):
            async with open_store(path, encoder=None):
                pass
    async with open_store(path, encoder=None):
        pass


async def test_a_store_of_another_schema_version_is_refused(path: Path) -> None:
    async with open_store(path, encoder=None):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    connection.close()
    with pytest.raises(StoreSchemaError, match="999"):
        async with open_store(path, encoder=None):
            pass
    with pytest.raises(StoreSchemaError, match="999"):
        async with open_store(path, encoder=None, read_only=True):
            pass


async def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(StoreSchemaError, match="not a dreamsim store"):
        async with open_store(path, encoder=None):
            pass


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    path.write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        async with open_store(path, encoder=None):
            pass


async def test_a_reward_that_is_no_number_is_refused_by_name(path: Path) -> None:
    episode = make_episode(1)
    broken = replace(episode.transitions[1], reward=float("nan"))
    async with open_store(path, encoder=None) as store:
        with pytest.raises(StoreError, match=r"steps\[1\]\.reward"):
            await store.add(replace(episode, transitions=(episode.transitions[0], broken)))


async def test_text_that_is_no_unicode_is_stored_with_replacements(path: Path) -> None:
    episode = make_episode(1, steps=1)
    odd = replace(episode.transitions[0], reasoning="a\ud800b", action="\udfff")
    async with open_store(path) as store:
        await store.add_durable(replace(episode, transitions=(odd,)))
        stored = await store.episode(episode.id)
        assert stored is not None
        assert stored.transitions[0].reasoning == "a\ufffdb"
        await store.flush()


async def test_prompts_that_grow_share_what_they_repeat(path: Path) -> None:
    prompt = np.arange(1000, dtype=np.int32)
    answer = np.array([7, 8], dtype=np.int32)
    steps = []
    for transition in make_episode(1, steps=20).transitions:
        completion = Completion(
            token_ids=answer,
            logprobs=np.zeros(2, dtype=np.float32),
            finish_reason="stop",
            prompt_tokens=prompt.size,
        )
        decision = Decision(action=transition.action, prompt_token_ids=prompt, completion=completion)
        steps.append(replace(transition, decision=decision))
        prompt = np.concatenate([prompt, answer, np.array([9], dtype=np.int32)])
    episode = replace(make_episode(1), transitions=tuple(steps))
    async with open_store(path, encoder=None) as store:
        await store.add_durable(episode)
        stored = await store.episode(episode.id)
    assert stored is not None
    assert episode_to_json(stored) == episode_to_json(episode)
    with sqlite3.connect(path) as connection:
        (kept,) = connection.execute("SELECT sum(length(prompt_ids)) FROM steps").fetchone()
    connection.close()
    assert kept == 4 * (1000 + 19)


async def test_when_writing_fails_nobody_waits_for_ever(path: Path) -> None:
    async def body() -> None:
        async with open_store(path, encoder=None) as store:
            await store.add_durable(make_episode(1))
            await anyio.to_thread.run_sync(_drop_steps, path)
            with pytest.raises(StoreError, match="no such table"):
                await store.add_durable(make_episode(2))
            with pytest.raises(StoreError, match="can no longer be written"):
                await store.add(make_episode(3))
            raise KeyError("said by the body")

    with pytest.raises(KeyError, match="said by the body"):
        await body()


async def test_a_failed_write_is_an_error_of_the_store_even_if_the_body_did_not_notice(path: Path) -> None:
    async def body() -> None:
        async with open_store(path, encoder=None) as store:
            await anyio.to_thread.run_sync(_drop_steps, path)
            await store.add(make_episode(2))

    with pytest.raises(StoreError, match="1 episodes were not written"):
        await body()


def _drop_steps(path: Path) -> None:
    connection = open_writer(path)
    connection.execute("DROP TABLE steps")
    connection.close()


async def test_episodes_come_in_pages_in_the_order_of_storing(path: Path) -> None:
    async with open_store(path, encoder=None) as store:
        added = [make_episode(number, steps=1) for number in range(150)]
        await store.add_all(added)
        ids = [episode.id async for episode in store.episodes()]
        assert ids == [episode.id for episode in added]
        some = [episode.id async for episode in store.episodes(EpisodeFilter(environment="house"), limit=70)]
        assert some == ids[:70]


@pytest.mark.may_block  # counting threads and files reads /proc
async def test_opening_and_closing_leaves_no_thread_and_no_file(tmp_path: Path) -> None:
    async def once(number: int) -> None:
        async with open_store(tmp_path / f"{number % 2}.sqlite3") as store:
            await store.add(make_episode(number))
            await store.flush()
            await store.retrieve(query_like(number))

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await once(0)
    threads, files = threading.active_count(), open_files()
    for number in range(1, 12):
        await once(number)
    assert threading.active_count() <= threads
    assert open_files() <= files


WRITER = """
import sys
import anyio
from dreamsim.store.store import open_store
from tests.store.samples import make_episode

async def main():
    async with open_store(sys.argv[1]) as store:
        async def write(start):
            for number in range(start, 100_000, 4):
                episode = make_episode(number)
                await store.add_durable(episode)
                print(episode.id, flush=True)
        async with anyio.create_task_group() as tasks:
            for start in range(4):
                tasks.start_soon(write, start)

anyio.run(main)
"""


@pytest.mark.may_block  # the test itself waits for a process
async def test_a_killed_writer_loses_nothing_that_was_committed(path: Path) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(60)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read().split()
    process.wait()
    process.stdout.close()
    committed = {line for line in said if len(line) == 20}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    async with open_store(path) as store:
        found = [episode.id async for episode in store.episodes()]
        assert len(found) == len(set(found))
        assert committed <= set(found)
        counts = await store.counts()
        assert counts.steps == 3 * counts.episodes
        await store.add_all(make_episode(number) for number in range(len(found)))
        assert len(await store.retrieve(query_like(0))) == 4
