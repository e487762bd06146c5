"""Retrieval for thousands of episodes at once: concurrent queries are answered together.

In: `ExperienceQuery`s from many tasks. Out: `Experience`s. Always:
- one worker thread at a time encodes, searches, reads rows or extends the index; the event loop does none of it;
- whoever asks while a batch runs is in the next one, so batches grow with the load and nobody waits for a timer;
- a query sees every step that was committed before the store was opened, and later ones soon after.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread
import structlog

from dreamsim.errors import DreamsimError, RetrievalError, StoreError
from dreamsim.protocols import Encoder
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.quality import QualityFilter
from dreamsim.runtime.clock import Clock
from dreamsim.store.index import ExperienceIndex
from dreamsim.store.partition import Hit
from dreamsim.store.rows import read_experiences
from dreamsim.store.schema import NOT_OURS, open_reader, unreadable

MAX_BATCH = 256
"""Queries answered together; more would make the first of them wait for nothing."""

CACHED_EXPERIENCES = 8192
"""Experiences kept in memory, about 2 kB each. Rows never change, so they are never stale."""

SAVE_EVERY = 50_000
"""New texts after which the index is saved, so that a killed process leaves little to encode again."""


T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

log = structlog.get_logger()


class _Request:
    """One query and its answer."""

    __slots__ = ("answer", "done", "problem", "query")

    def __init__(self, query: ExperienceQuery) -> None:
        self.query = query
        self.done = anyio.Event()
        self.answer: tuple[Experience, ...] = ()
        self.problem: Exception | None = None


class IndexService:
    """Keeps the index up to the database and answers queries from it."""

    def __init__(self, path: Path, encoder: Encoder, quality: QualityFilter, *, clock: Clock, saving: bool) -> None:
        """Serve what passes `quality` in the store at `path`; with `saving` the index is written beside it."""
        self.index = ExperienceIndex(encoder, quality)
        self.rebuilt: str | None = None
        """Why the saved index could not be used; None if it was, or before it was looked for."""
        self.queries = 0
        self.batches = 0
        self.search_s = 0.0
        self._path = path
        self._directory = path.with_name(path.name + ".index")
        self._clock = clock
        self._saving = saving
        self._connection: sqlite3.Connection | None = None
        self._loaded = False
        self._limiter = anyio.CapacityLimiter(1)
        self._turn = threading.Lock()
        self._waiting: list[_Request] = []
        self._asked = anyio.Event()
        self._extendable = anyio.Event()
        self._passed = anyio.Event()
        """Set when `_extend` has been through once."""
        self._committed = 1
        """Commits so far; what was there before counts as one."""
        self._indexed = 0
        """How many of them are in the index."""
        self._passes_begun = 0
        self._passes_ended = 0
        self._progress = anyio.Event()
        """Set, and replaced by a new one, at the end of every pass."""
        self._problem: Exception | None = None
        """Why the index could not be extended the last time."""
        self._experiences: OrderedDict[int, Experience] = OrderedDict()
        self._closed = False
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope()

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        """At most `query.k` experiences that the query's balance prefers, the most similar first.

        Raises:
            RetrievalError: the encoder failed.
            StoreError: the store is closed.
        """
        if self._closed:
            raise StoreError("the store is closed")
        request = _Request(query)
        self._waiting.append(request)
        self._asked.set()
        try:
            await request.done.wait()
        except BaseException:
            if request in self._waiting:
                self._waiting.remove(request)
            raise
        if isinstance(request.problem, DreamsimError):
            raise type(request.problem)(str(request.problem)) from request.problem
        if request.problem is not None:
            raise RetrievalError(f"the search failed: {request.problem!r}") from request.problem
        return request.answer

    def committed(self) -> None:
        """New rows are in the database."""
        self._committed += 1
        self._extendable.set()

    async def caught_up(self) -> None:
        """Wait until every row committed so far can be found.

        Raises:
            RetrievalError: the encoder failed.
            StoreError: the store is closed.
        """
        target, begun = self._committed, self._passes_begun
        self._asked.set()
        if self._indexed < target:
            self._extendable.set()
        while not self._closed and self._indexed < target:
            # A pass that was under way before this call may have failed for a reason that is gone.
            if self._problem is not None and self._passes_ended > begun:
                raise RetrievalError(f"the index is behind: {self._problem}") from self._problem
            await self._progress.wait()
        if self._closed:
            raise StoreError("the store is closed")

    async def run(self) -> None:
        """Serve until closed."""
        try:
            with self._scope:
                if not self._saving:  # a reader may never ask; then nothing is loaded
                    await self._asked.wait()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._extend)
                    tasks.start_soon(self._answer)
        finally:
            self._closed = True
            self._ended.set()
            for request in self._waiting:
                request.problem = StoreError("the store is closed")
                request.done.set()
            self._waiting.clear()
            self._note_progress()

    async def close(self, *, deadline_s: float) -> None:
        """Answer no more, save the index, let go. A call of the encoder is not waited for beyond the deadline."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()
        with anyio.move_on_after(deadline_s, shield=True):
            # Waits for its turn, and so for an abandoned call to come back.
            await self._in_thread(self._save_and_close)

    async def _extend(self) -> None:
        """Bring the index up to the database whenever something was committed, piece by piece."""
        while True:
            self._extendable = anyio.Event()
            target = self._committed
            self._passes_begun += 1
            try:
                while await self._in_thread(self._catch_up):
                    pass
                self._problem = None
            except RetrievalError as error:
                # The rows are safe; the next commit, or the next query that the encoder answers, tries again.
                self._problem = error
                log.warning("store.index.behind", reason=str(error))
            self._indexed = target if self._problem is None else self._indexed
            self._passes_ended = self._passes_begun
            self._passed.set()
            self._note_progress()
            await self._extendable.wait()

    def _note_progress(self) -> None:
        self._progress.set()
        self._progress = anyio.Event()

    async def _answer(self) -> None:
        """Answer all who wait, together, and begin again with those who came meanwhile."""
        await self._passed.wait()
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            await anyio.lowlevel.checkpoint()  # whoever was woken together asks together
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                try:
                    await self._answer_batch(batch)
                finally:
                    for request in batch:
                        request.done.set()

    async def _answer_batch(self, batch: list[_Request]) -> None:
        begun = self._clock.monotonic()
        try:
            answers = await self._in_thread(self._search, [request.query for request in batch])
        except anyio.get_cancelled_exc_class():
            for request in batch:
                request.problem = StoreError("the store is closed")
            raise
        except Exception as error:  # noqa: BLE001 - each caller gets it, as an error of its own episode
            for request in batch:
                request.problem = error
            return
        for request, answer in zip(batch, answers, strict=True):
            request.answer = answer
        self.queries += len(batch)
        self.batches += 1
        self.search_s += self._clock.monotonic() - begun
        if self._problem is not None:
            self._extendable.set()

    async def _in_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        # Abandoned on cancellation, because an encoder may wait for a network. The limiter is given back then, though
        # the thread goes on: the lock, which the thread holds, keeps everybody else from the index meanwhile.
        def alone() -> T:
            with self._turn:
                return function(*arguments)

        return await anyio.to_thread.run_sync(alone, abandon_on_cancel=True, limiter=self._limiter)

    def _load(self) -> sqlite3.Connection:
        """Open the database and take over the saved index, at the first call that succeeds."""
        if self._connection is None:
            self._connection = open_reader(self._path)
        if not self._loaded:
            self.rebuilt = self.index.load(self._directory, self._connection)
            self._loaded = True
            if self.rebuilt is not None:
                log.info("store.index.rebuilding", reason=self.rebuilt)
        return self._connection

    def _catch_up(self) -> bool:
        connection = self._load()
        try:
            more = self.index.catch_up(connection)
        except NOT_OURS as error:
            raise RetrievalError(str(unreadable(self._path, error))) from error
        if self.index.unsaved >= SAVE_EVERY:
            self._save()
        return more

    def _search(self, queries: Sequence[ExperienceQuery]) -> list[tuple[Experience, ...]]:
        connection = self._load()
        found = self.index.search(queries)
        steps = dict.fromkeys(hit.step for hits in found for hit in hits)
        known = {step: self._experiences[step] for step in steps if step in self._experiences}
        for step in known:
            self._experiences.move_to_end(step)
        missing = [step for step in steps if step not in known]
        if missing:
            read = read_experiences(connection, missing)
            known |= read
            self._experiences |= read
            while len(self._experiences) > CACHED_EXPERIENCES:
                self._experiences.popitem(last=False)
        return [_experiences(hits, known) for hits in found]

    def _save(self) -> None:
        if not self._saving:
            return
        try:
            self.index.save(self._directory)
        except OSError as error:  # a cache that cannot be kept is made again
            log.warning("store.index.not_saved", reason=str(error))

    def _save_and_close(self) -> None:
        if self.index.admission.filtered:
            log.info("store.index.filtered", episodes=dict(self.index.admission.filtered))
        if self._loaded and (self.index.unsaved or self.rebuilt is not None):
            self._save()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _experiences(hits: list[Hit], known: dict[int, Experience]) -> tuple[Experience, ...]:
    return tuple(replace(known[hit.step], similarity=hit.similarity) for hit in hits)
