"""A store that fails on a schedule: its calls, its database, its index.

In: a store that works, a `FaultSchedule`. Out: one that loses nothing it took, but fails to take it now and then.
Always: an episode's n-th call meets that episode's n-th fault; statements of the database are named `begin`, `write`
and `commit`, and the n-th of each meets the n-th fault of that name.

    async with open_store(path, connect=faulty_connection(schedule)) as store:  # the real one, on failing SQLite
        sink = FaultyStore(store, schedule)                                     # whose calls fail as well
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dreamsim.errors import RetrievalError, StoreError
from dreamsim.flow.archive import EpisodeArchive
from dreamsim.protocols import EpisodeSink, Retriever
from dreamsim.records.episode import Episode
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.runtime.seeds import generator
from dreamsim.testing.faults import Fault, FaultSchedule, commit_fault

STORE_FAULTS: tuple[Fault, ...] = (
    "error",
    "bug",
    "group",
    "hang",
    "slow",
    "disconnect",
    "foreign",
    "disk_full",
    "read_only",
    "locked",
)
"""What can happen to a call that stores."""
SEARCH_FAULTS: tuple[Fault, ...] = ("error", "bug", "slow", "foreign", "corrupt_index")
"""What can happen to a search."""
STATEMENT_FAULTS: dict[str, tuple[Fault, ...]] = {
    "begin": ("locked",),
    "write": ("read_only",),
    "commit": ("disk_full", "locked"),
}
"""What can happen to SQLite, by what it is asked to do."""
_SAID: dict[Fault, tuple[int, str]] = {
    "locked": (sqlite3.SQLITE_BUSY, "database is locked"),
    "read_only": (sqlite3.SQLITE_READONLY, "attempt to write a readonly database"),
    "disk_full": (sqlite3.SQLITE_FULL, "database or disk is full"),
}


class FaultyStore:
    """A sink, an archive or a retriever whose calls fail on a schedule."""

    def __init__(self, store: EpisodeSink, schedule: FaultSchedule) -> None:
        """`store`, with faults; what it cannot do itself cannot be asked of this one either."""
        self._store: Any = store
        self._schedule = schedule

    async def add(self, episode: Episode) -> None:
        """Fail, or take `episode`."""
        await self._strike(f"add {episode.id}", STORE_FAULTS)
        sink: EpisodeSink = self._store
        await sink.add(episode)

    async def add_durable(self, episode: Episode) -> None:
        """Fail, or store `episode`."""
        await self._strike(f"add {episode.id}", STORE_FAULTS)
        archive: EpisodeArchive = self._store
        await archive.add_durable(episode)

    async def known_ids(self, episode_ids: Sequence[str]) -> frozenset[str]:
        """As the archive's."""
        archive: EpisodeArchive = self._store
        return await archive.known_ids(episode_ids)

    async def episode(self, episode_id: str) -> Episode | None:
        """As the archive's."""
        archive: EpisodeArchive = self._store
        return await archive.episode(episode_id)

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        """Fail, or search."""
        # Named by what is asked: whose search it is, a query does not say.
        await self._strike(f"retrieve {query.exclude_task} {query.action} {_place(query)}", SEARCH_FAULTS)
        retriever: Retriever = self._store
        return await retriever.retrieve(query)

    async def _strike(self, name: str, kinds: tuple[Fault, ...]) -> None:
        fault = self._schedule.due(name, kinds)
        if fault is None:
            return
        if fault == "disk_full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if fault == "read_only":
            raise OSError(errno.EROFS, "Read-only file system")
        if fault == "locked":
            raise said_by_sqlite(fault)
        if fault == "corrupt_index":
            raise RetrievalError("the search failed: the scripted index is damaged")
        if fault == "error":
            raise StoreError("the scripted store refused")
        await commit_fault(fault, slow_s=self._schedule.slow_s, what="store")


def _place(query: ExperienceQuery) -> str:
    """A short name of the state that a query asks from."""
    return "/".join(query.state)[:200]


def said_by_sqlite(fault: Fault) -> sqlite3.OperationalError:
    """The error that SQLite raises for a `locked`, `read_only` or `disk_full`, result code included."""
    code, said = _SAID[fault]
    error = sqlite3.OperationalError(said)
    error.sqlite_errorcode = code
    return error


def faulty_connection(schedule: FaultSchedule) -> Callable[..., sqlite3.Connection]:
    """`sqlite3.connect` with statements that fail on a schedule; for `open_store(..., connect=...)`.

    Only writing transactions fail: SQLite's answer to BEGIN IMMEDIATE, to the first INSERT after it, to COMMIT. Making
    the tables does not: a store that cannot be opened is refused, and there is nothing to lose.
    """

    class FaultyConnection(sqlite3.Connection):
        opened = False
        begun = False

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if not self.opened:
                self.opened = sql.startswith("PRAGMA foreign_keys")  # the last thing said to a store being opened
                return super().execute(sql, *parameters)
            name = {"BEGIN IMMEDIATE": "begin", "COMMIT": "commit"}.get(sql)
            if name is None and self.begun and sql.startswith("INSERT INTO"):
                name, self.begun = "write", False
            if name is not None:
                fault = schedule.due(f"sqlite {name}", STATEMENT_FAULTS[name])
                if fault is not None:
                    raise said_by_sqlite(fault)
                self.begun = name == "begin"
            return super().execute(sql, *parameters)

    def connect(*arguments: Any, **settings: Any) -> sqlite3.Connection:
        return sqlite3.connect(*arguments, factory=FaultyConnection, **settings)

    return connect


def damage_index(store: Path, *, seed: int = 0) -> list[str]:
    """Flip bytes in every file of the search index beside `store`; returns the names of the files. Blocks."""
    damaged = []
    for path in sorted(store.with_name(store.name + ".index").glob("*")):
        content = bytearray(path.read_bytes())
        for place in generator(seed, "damage", path.name).integers(len(content), size=8) if content else ():
            content[place] ^= 0xFF
        path.write_bytes(content)
        damaged.append(path.name)
    return damaged
