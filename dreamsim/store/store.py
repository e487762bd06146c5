"""The replay store: every finished episode, durable and searchable.

In: episodes from any number of tasks. Out: episodes, counts, similar experiences. Always:
- `add` returns when the episode is on its way and `add_durable` when it is on disk; both are idempotent by id;
- leaving `async with open_store(...)` writes everything that `add` took, also while being cancelled;
- one process writes; others may read meanwhile;
- SQLite is the truth, the search index a cache of it.

    async with open_store("runs/today/store.sqlite3") as store:
        await store.add(episode)
        experiences = await store.retrieve(ExperienceQuery(state=lines, action="open door", k=4))
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from dreamsim.errors import StoreError
from dreamsim.protocols import Encoder
from dreamsim.records.episode import Episode
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.lengths import LengthCount
from dreamsim.records.quality import DEFAULT_FILTER, QualityFilter
from dreamsim.runtime.clock import Clock, RealClock
from dreamsim.store.encoders import encoder_from_name
from dreamsim.store.lock import WriterLock
from dreamsim.store.queries import (
    Counts,
    EpisodeFilter,
    read_counts,
    read_episode,
    read_ids,
    read_known_ids,
    read_lengths,
    read_page,
    read_runs,
)
from dreamsim.store.retrieval import IndexService
from dreamsim.store.sampling import Sample, SamplingRule, check_number, sample_episodes, sample_experiences
from dreamsim.store.schema import NOT_OURS, Connect, open_reader, open_writer, unreadable
from dreamsim.store.statistics import StoreStatistics
from dreamsim.store.writer import SqliteThread, Writer

T = TypeVar("T")

PAGE = 64
"""Episodes read at a time by `Store.episodes`."""


class Store:
    """An open store; made by `open_store`."""

    def __init__(
        self,
        path: Path,
        reader: SqliteThread,
        writer: Writer | None,
        index: IndexService | None,
        *,
        close_timeout_s: float,
    ) -> None:
        self.path = path
        self._reader = reader
        self._writer = writer
        self._index = index
        self._close_timeout_s = close_timeout_s
        self._closed = False

    async def add(self, episode: Episode) -> None:
        """Hand over `episode`: it will be stored. Waits while the writer is behind, shielded from cancellation.

        Raises:
            StoreError: the store is closed, read-only or broken, or a number of the episode fits no row.
        """
        await self._writable().add(episode)

    async def add_durable(self, episode: Episode) -> None:
        """Store `episode`; returns when it is on disk.

        Raises:
            StoreError: as `add`; or the commit failed.
        """
        writer = self._writable()
        await writer.committed(await writer.add(episode))

    async def add_all(self, episodes: Iterable[Episode]) -> None:
        """Store all of `episodes`; returns when they are on disk.

        Raises:
            StoreError: as `add`; or the commit failed.
        """
        writer = self._writable()
        items = [await writer.add(episode) for episode in episodes]
        for item in items:
            await writer.committed(item)

    async def flush(self) -> None:
        """Wait until everything added so far is on disk and can be retrieved.

        Raises:
            StoreError: it could not be written.
            RetrievalError: it is on disk, but the encoder failed.
        """
        if self._writer is not None:
            await self._writer.flush()
        if self._index is not None:
            await self._index.caught_up()

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        """At most `query.k` experiences with different (state, action), the most similar first.

        Of episodes that pass the quality filter, those that `query.balance` prefers; never of an evaluation.

        Raises:
            RetrievalError: the encoder failed.
            StoreError: the store is closed or was opened without an encoder.
        """
        if self._index is None:
            raise StoreError(f"{self.path} was opened without an encoder, so nothing can be retrieved from it")
        return await self._index.retrieve(query)

    async def sample(self, n: int, rule: SamplingRule | None = None, *, seed: int) -> Sample[Episode]:
        """At most `n` different episodes, drawn as `rule` says; the same from the same episodes, rule and seed.

        Raises:
            StoreError: the store is closed.
        """
        check_number(n)
        rule = SamplingRule() if rule is None else rule
        return await self._read(partial(sample_episodes, n=n, rule=rule, seed=seed))

    async def sample_experiences(self, n: int, rule: SamplingRule | None = None, *, seed: int) -> Sample[Experience]:
        """At most `n` different steps of episodes, each step weighing what its episode weighs; else as `sample`.

        Raises:
            StoreError: the store is closed.
        """
        check_number(n)
        rule = SamplingRule() if rule is None else rule
        return await self._read(partial(sample_experiences, n=n, rule=rule, seed=seed))

    async def score(self, scores: Mapping[str, Mapping[str, float]]) -> int:
        """Add scores to stored episodes, as a judge does afterwards: episode id -> name -> score in [0, 1].

        Sampling goes by them at once, retrieval when the store is opened the next time.

        Returns:
            How many of the episodes are stored, and now have these scores.

        Raises:
            StoreError: a score is out of range, or the store is closed, read-only or cannot be written.
        """
        writer = self._writable()
        await writer.flush()
        return await writer.score(scores)

    async def episodes(
        self, wanted: EpisodeFilter | None = None, *, limit: int | None = None
    ) -> AsyncIterator[Episode]:
        """Stored episodes, in the order of storing; read page by page, so the store may grow meanwhile."""
        wanted = EpisodeFilter() if wanted is None else wanted
        last, left = 0, limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = await self._read(partial(read_page, wanted=wanted, after=last, size=size))
            for episode in page.episodes:
                yield episode
            if len(page.episodes) < size:
                return
            last = page.last
            left = None if left is None else left - size

    async def episode(self, episode_id: str) -> Episode | None:
        """The episode with this id, or None."""
        return await self._read(partial(read_episode, episode_id=episode_id))

    async def finished_ids(self, run: str) -> frozenset[str]:
        """Ids of the committed episodes of `run`: what a resumed run need not do again."""
        return await self._read(partial(read_ids, run=run))

    async def known_ids(self, episode_ids: Sequence[str]) -> frozenset[str]:
        """Those of `episode_ids` that are committed."""
        return await self._read(partial(read_known_ids, episode_ids=episode_ids))

    async def runs(self) -> tuple[str, ...]:
        """All runs that have episodes here, the oldest first."""
        return await self._read(read_runs)

    async def counts(self, run: str | None = None) -> Counts:
        """Committed episodes of `run`, or of all runs, by source, purpose, outcome and kind of error."""
        return await self._read(partial(read_counts, run=run))

    async def lengths(self, run: str | None = None) -> tuple[LengthCount, ...]:
        """Committed episodes of `run`, or of all runs, and those that used up their time, by length."""
        return await self._read(partial(read_lengths, run=run))

    def statistics(self) -> StoreStatistics:
        """The store now. Costs microseconds."""
        writer, index = self._writer, self._index
        pipe = None if writer is None else writer.pipe.statistics()
        return StoreStatistics(
            queue_depth=0 if pipe is None else pipe.depth,
            queue_capacity=0 if pipe is None else pipe.capacity,
            blocked_s=0.0 if pipe is None else pipe.blocked_s,
            lag_s=0.0 if writer is None else writer.lag_s,
            episodes=0 if writer is None else writer.episodes,
            steps=0 if writer is None else writer.steps,
            commits=0 if writer is None else writer.commits,
            commit_s=0.0 if writer is None else writer.commit_s,
            last_commit_s=0.0 if writer is None else writer.last_commit_s,
            indexed=0 if index is None else index.index.texts,
            queries=0 if index is None else index.queries,
            query_batches=0 if index is None else index.batches,
            search_s=0.0 if index is None else index.search_s,
            filtered={} if index is None else dict(index.index.admission.filtered),
            index_rebuilt=None if index is None else index.rebuilt,
        )

    async def close(self) -> None:
        """Write what was added, save the index, then refuse everything. Idempotent; leaving the context calls it.

        Raises:
            StoreError: not everything could be written.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._writer is not None:
                await self._writer.close(deadline_s=self._close_timeout_s)
        finally:
            if self._index is not None:
                await self._index.close(deadline_s=self._close_timeout_s)

    def _writable(self) -> Writer:
        if self._writer is None:
            raise StoreError(f"{self.path} was opened read-only")
        return self._writer

    async def _read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise StoreError("the store is closed")
        try:
            return await self._reader.call(function)
        except NOT_OURS as error:
            raise unreadable(self.path, error) from error


def open_store(
    path: str | Path,
    *,
    encoder: Encoder | str | None = "lexical",
    quality: QualityFilter = DEFAULT_FILTER,
    read_only: bool = False,
    capacity: int = 256,
    close_timeout_s: float = 30.0,
    clock: Clock | None = None,
    connect: Connect = sqlite3.connect,
) -> AbstractAsyncContextManager[Store]:
    """Open the store in the file `path`; make it if it is not there. Use with `async with`.

    Args:
        encoder: how retrieval compares; a name for `encoder_from_name`, or None for no retrieval at all.
        quality: which episodes can be retrieved; by default no dream that is not proven good.
        read_only: only read, also while another process writes; the index is read when first asked.
        capacity: episodes that may wait for the writer before `add` waits.
        close_timeout_s: longest time for writing what is left when the store is closed.
        clock: what the time is asked of.
        connect: opens the database for writing; `dreamsim.testing.faulty_connection` makes one that fails.

    Raises (when entered):
        StoreError: the file cannot be opened.
        StoreLockedError: another process is writing to it.
        StoreSchemaError: it has another schema version, or is no store.
    """
    chosen = encoder_from_name(encoder) if isinstance(encoder, str) else encoder
    return _Opening(
        Path(path).absolute(),
        chosen,
        quality,
        read_only=read_only,
        capacity=capacity,
        close_timeout_s=close_timeout_s,
        clock=RealClock() if clock is None else clock,
        connect=connect,
    )


class _Opening(AbstractAsyncContextManager[Store]):
    """What `async with open_store(...)` enters and leaves: the owner of the tasks, the threads and the lock."""

    def __init__(
        self,
        path: Path,
        encoder: Encoder | None,
        quality: QualityFilter,
        *,
        read_only: bool,
        capacity: int,
        close_timeout_s: float,
        clock: Clock,
        connect: Connect,
    ) -> None:
        self._connect = connect
        self._path = path
        self._encoder = encoder
        self._quality = quality
        self._read_only = read_only
        self._capacity = capacity
        self._close_timeout_s = close_timeout_s
        self._clock = clock
        self._files = AsyncExitStack()
        self._tasks: TaskGroup
        self._store: Store

    async def __aenter__(self) -> Store:
        async with AsyncExitStack() as files:
            writer, index = None, None
            if self._encoder is not None:
                index = IndexService(
                    self._path, self._encoder, self._quality, clock=self._clock, saving=not self._read_only
                )
            if not self._read_only:
                lock = await anyio.to_thread.run_sync(_lock, self._path)
                files.callback(lock.release)
                connection = await _connect(partial(open_writer, self._path, self._connect), files)
                on_commit = _nothing if index is None else index.committed
                writer = Writer(connection, self._path, capacity=self._capacity, clock=self._clock, on_commit=on_commit)
            reader = await _connect(partial(open_reader, self._path), files)
            self._store = Store(self._path, reader, writer, index, close_timeout_s=self._close_timeout_s)
            self._tasks = anyio.create_task_group()
            await self._tasks.__aenter__()
            # From here on nothing can fail or wait: the tasks begin at the next checkpoint.
            if writer is not None:
                self._tasks.start_soon(writer.run, name="store writer")
            if index is not None:
                self._tasks.start_soon(index.run, name="store index")
            self._files = files.pop_all()
        return self._store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        async with self._files:
            problem: StoreError | None = None
            try:
                await self._store.close()
            except StoreError as refused:
                problem = refused
            if self._tasks.cancel_scope.cancel_called:  # a task of ours failed with a bug: let its group say so
                return await self._tasks.__aexit__(kind, error, trace)
            # The group's tasks have ended. It is not told of the caller's exception: it would wrap an error that has
            # nothing to do with it, and swallow a cancellation that comes from no scope of anyio's.
            await self._tasks.__aexit__(None, None, None)
        if problem is not None and error is None:
            raise problem
        return None


def _lock(path: Path) -> WriterLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return WriterLock(path)


async def _connect(connector: Callable[[], sqlite3.Connection], files: AsyncExitStack) -> SqliteThread:
    # Opened here and not on aiosqlite's thread: whether a refused file's thread outlives the loop would be luck.
    opened = await anyio.to_thread.run_sync(connector)
    connection = SqliteThread(lambda: opened, iter_chunk_size=PAGE)
    with anyio.CancelScope(shield=True):
        await connection

    async def close() -> None:
        with anyio.CancelScope(shield=True):
            await connection.close()

    files.push_async_callback(close)
    return connection


def _nothing() -> None:
    """Nobody wants to know of commits."""
