"""The one writer: episodes wait in a bounded pipe and are committed in batches.

In: finished episodes. Out: committed rows. Always:
- what `add` has taken is committed before the store closes, even if everything around is being cancelled;
- one transaction holds as many episodes as wait, and no `await` happens inside it;
- when a commit fails, nobody waits for ever: the writer ends with the error, and so does every later `add`;
- an episode of which no row can be made is refused alone: those committed with it are written, it is named in the log,
  to whoever waits for it, and when the store is closed.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

import aiosqlite
import anyio
import anyio.to_thread
import structlog

from dreamsim.errors import StoreError
from dreamsim.records.episode import Episode
from dreamsim.records.fields import INTEGER_LIMIT
from dreamsim.records.trust import Trust
from dreamsim.runtime.clock import Clock
from dreamsim.runtime.pipes import Pipe
from dreamsim.store.rows import Written, write_episodes, write_scores

T = TypeVar("T")

log = structlog.get_logger()

MAX_BATCH = 256
"""Episodes in one transaction."""
PATIENCE_S = 30.0
"""How long a transaction that failed is tried again: a disk may be cleared, a lock be left. For a lock SQLite has
waited as long itself (`schema.BUSY_TIMEOUT_S`)."""
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    }
)
"""Primary result codes of what may pass."""
OF_A_ROW = (sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError)
"""What SQLite says of values that it cannot hold."""


class _UnstorableError(Exception):
    """A batch holds an episode of which no row can be made."""


class SqliteThread(aiosqlite.Connection):
    """An aiosqlite connection that also runs whole functions on its thread: a transaction is one of them."""

    async def call(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """What `function` returns for this connection, computed on its thread."""
        execute = cast(Callable[..., Awaitable[T]], self._execute)
        return await execute(function, self._conn)

    async def close(self) -> None:
        """Close, and wait for the thread to be gone."""
        await super().close()
        await anyio.to_thread.run_sync(self._thread.join)


class Item:
    """An episode on its way into the store."""

    __slots__ = ("arrived", "committed", "episode", "problem")

    def __init__(self, episode: Episode, arrived: float) -> None:
        self.episode = episode
        self.arrived = arrived
        self.committed = anyio.Event()
        self.problem: StoreError | None = None


class Writer:
    """Owns the pipe and the writing connection."""

    def __init__(
        self, connection: SqliteThread, path: Path, *, capacity: int, clock: Clock, on_commit: Callable[[], None]
    ) -> None:
        """Write through `connection`; `on_commit` is told of every commit."""
        self.pipe: Pipe[Item] = Pipe("store", capacity, now=clock.monotonic)
        self.episodes = 0
        self.steps = 0
        self.commits = 0
        self.commit_s = 0.0
        self.last_commit_s = 0.0
        self.retried = 0
        """Transactions that were tried again."""
        self._connection = connection
        self._path = path
        self._clock = clock
        self._on_commit = on_commit
        self._under_way: deque[Item] = deque()
        """Taken by `add`, not yet committed, in order."""
        self._problem: StoreError | None = None
        self._refused: list[str] = []
        """Ids of episodes of which no row could be made."""
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope(shield=True)

    @property
    def lag_s(self) -> float:
        """Age of the oldest episode that is not yet committed, seconds; 0 when there is none."""
        return self._clock.monotonic() - self._under_way[0].arrived if self._under_way else 0.0

    async def add(self, episode: Episode) -> Item:
        """Take `episode`; waits while the pipe is full, and cannot be cancelled in that time.

        Raises:
            StoreError: the episode cannot be stored, or the writer has ended.
        """
        check_storable(episode)
        item = Item(episode, self._clock.monotonic())
        self._under_way.append(item)
        try:
            # Shielded: a finished episode is never lost to a cancellation. It is a bounded wait, since the writer
            # itself is shielded and ends with an error when it cannot write.
            with anyio.CancelScope(shield=True):
                await self.pipe.sender.send(item)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self._under_way.remove(item)
            raise self._refusal() from error
        return item

    async def committed(self, item: Item) -> None:
        """Wait until `item` is committed.

        Raises:
            StoreError: it never will be.
        """
        await item.committed.wait()
        if item.problem is not None:
            raise StoreError(str(item.problem)) from item.problem

    async def flush(self) -> None:
        """Wait until everything taken so far is committed, or refused.

        Raises:
            StoreError: it never will be.
        """
        if self._under_way:
            last = self._under_way[-1]
            await last.committed.wait()
            if self._problem is not None:
                raise self._refusal()

    async def score(self, scores: Mapping[str, Mapping[str, float]]) -> int:
        """Add scores to committed episodes. Returns how many of them there are.

        Raises:
            StoreError: a score is no number from 0 to 1, or the writer has ended.
        """
        for episode_id, named in scores.items():
            for name, score in named.items():
                if not 0 <= score <= 1:
                    raise StoreError(f"episode {episode_id}: {name} is {score}, and a score is a number from 0 to 1")
        if self._ended.is_set():
            raise self._refusal()
        try:
            return await self._connection.call(lambda connection: write_scores(connection, scores))
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be written: {error}") from error

    async def run(self) -> None:
        """Write until the pipe is closed and empty, or a commit fails: then every later call says so."""
        try:
            with self._scope:
                async for item in self.pipe.receiver:
                    batch = [item]
                    while len(batch) < MAX_BATCH and self.pipe.statistics().depth:
                        batch.append(await self.pipe.receiver.receive())
                    await self._commit(batch)
        except StoreError as error:
            self._problem = error
            log.error("store.writer.failed", reason=str(error), unwritten=len(self._under_way))
        finally:
            self.pipe.close()
            for item in self._under_way:
                item.problem = self._problem or StoreError("the store was closed before this was written")
                item.committed.set()
            self._ended.set()

    async def close(self, *, deadline_s: float) -> None:
        """Take no more and write what was taken.

        Raises:
            StoreError: some of it could not be written, or not before the deadline.
        """
        self.pipe.sender.close()
        with anyio.move_on_after(deadline_s, shield=True):
            await self._ended.wait()
        left = len(self._under_way)
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()
        if left:
            reason = self._problem or f"not done after {deadline_s:g} s"
            raise StoreError(f"{left} episodes were not written to {self._path}: {reason}")
        if self._refused:
            named = ", ".join(self._refused[:3]) + (", ..." if len(self._refused) > 3 else "")
            raise StoreError(
                f"of {len(self._refused)} episodes no row could be made, and all others were written to {self._path}: "
                f"{named} (the log says why)"
            )

    async def _commit(self, batch: Sequence[Item]) -> None:
        begun = self._clock.monotonic()
        try:
            new = await self._written([item.episode for item in batch])
        except _UnstorableError as error:
            if len(batch) > 1:
                for item in batch:
                    await self._commit([item])
                return
            self._refuse(batch[0], error)
            new = Written(episodes=0, steps=0)
        self.last_commit_s = self._clock.monotonic() - begun
        self.commit_s += self.last_commit_s
        self.commits += 1
        self.episodes += new.episodes
        self.steps += new.steps
        for item in batch:
            self._under_way.remove(item)
            item.committed.set()
        self._on_commit()

    def _refuse(self, item: Item, error: _UnstorableError) -> None:
        id = str(item.episode.id)
        said = f"{type(error.__cause__).__name__}: {error}"
        item.problem = StoreError(f"episode {id} cannot be stored: {said}")
        self._refused.append(id)
        log.error("store.writer.refused", id=id, reason=said)

    async def _written(self, episodes: Sequence[Episode]) -> Written:
        """Write `episodes` in one transaction; tried again while what prevents it may pass."""
        latest = anyio.current_time() + PATIENCE_S
        wait = FIRST_WAIT_S
        while True:
            try:
                return await self._connection.call(lambda connection: write_episodes(connection, episodes))
            except OF_A_ROW as error:
                raise _UnstorableError(str(error)) from error
            except sqlite3.Error as error:
                if not may_pass(error) or anyio.current_time() + wait > latest:
                    raise StoreError(f"{self._path} cannot be written: {error}") from error
                self.retried += 1
                log.warning("store.writer.retried", reason=str(error), wait_s=wait)
            except Exception as error:
                raise _UnstorableError(str(error)) from error  # made of it before SQLite was asked
            await anyio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    def _refusal(self) -> StoreError:
        if self._problem is not None:
            return StoreError(f"the store can no longer be written: {self._problem}")
        return StoreError("the store is closed")


def may_pass(error: sqlite3.Error) -> bool:
    """Whether the same statement may succeed later: a lock, a full disk, a file that cannot be written now."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in PASSING


def check_storable(episode: Episode) -> None:
    """Refuse what no row can hold; a row that fails in the writer would fail a whole batch of others with it.

    Raises:
        StoreError: a number is not finite or does not fit 64 bits.
    """
    numbers = [("started_at", episode.started_at), ("duration_s", episode.duration_s)]
    integers = [("task.seed", episode.task.seed), ("repeat", episode.repeat)]
    for index, transition in enumerate(episode.transitions):
        numbers.append((f"steps[{index}].reward", transition.reward))
        if transition.score is not None:
            numbers.append((f"steps[{index}].score", transition.score))
        if transition.trust is not None:
            numbers += _trust_numbers(transition.trust, f"steps[{index}].trust")
    for name, number in numbers:
        if not math.isfinite(number):
            raise StoreError(f"episode {episode.id} cannot be stored: {name} is {number}")
    for name, integer in integers:
        if not -INTEGER_LIMIT <= integer < INTEGER_LIMIT:
            raise StoreError(f"episode {episode.id} cannot be stored: {name} does not fit 64 bits")


def _trust_numbers(trust: Trust, where: str) -> Iterator[tuple[str, float]]:
    """Numbers of a trust record, those out of their range as NaN: they could not be read again."""
    if trust.uncertainty is not None:
        yield f"{where}.uncertainty", trust.uncertainty if 0 <= trust.uncertainty <= 1 else math.nan
    if trust.features is not None:
        for field in dataclasses.fields(trust.features):
            value = getattr(trust.features, field.name)
            if value is not None:
                yield f"{where}.features.{field.name}", value
