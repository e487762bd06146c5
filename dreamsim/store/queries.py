"""What can be asked of a store beside the most similar experiences.

In: filters. Out: episodes, ids and counts. Always: plain reads by statements that an index serves; real and
dreamed episodes are counted apart.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dreamsim.errors import EpisodeTimeoutError
from dreamsim.records.episode import Episode, EpisodeOutcome, Purpose, Source
from dreamsim.records.lengths import LengthCount, length_counts
from dreamsim.store.rows import EPISODE_QUERY, read_episodes


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFilter:
    """Which episodes; None is any."""

    run: str | None = None
    """Of this run."""
    outcome: EpisodeOutcome | None = None
    """With this end."""
    source: Source | None = None
    """Real or dreamed."""
    purpose: Purpose | None = None
    """For this purpose."""
    environment: str | None = None
    """Of this environment."""
    fold: str | None = None
    """Of tasks of this fold."""
    task_key: str | None = None
    """Of this task."""
    error_kind: str | None = None
    """With this kind of error."""

    def where(self) -> tuple[str, list[Any]]:
        """An SQL condition on `e` and its parameters."""
        names = ("run", "outcome", "source", "purpose", "environment", "fold", "task_key", "error_kind")
        wanted = [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]
        return " AND ".join(["1", *(f"e.{name} = ?" for name, _ in wanted)]), [value for _, value in wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRow:
    """Episodes that have all of these in common."""

    source: Source
    """Real or dreamed."""
    purpose: Purpose
    """What they were for."""
    outcome: EpisodeOutcome
    """How they ended."""
    error_kind: str | None
    """With what error, if any."""
    episodes: int
    """How many."""
    steps: int
    """Their steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is stored of a run, or of all."""

    rows: tuple[CountRow, ...]
    """One for each combination that occurs."""

    @property
    def episodes(self) -> int:
        """All episodes."""
        return sum(row.episodes for row in self.rows)

    @property
    def steps(self) -> int:
        """All steps."""
        return sum(row.steps for row in self.rows)

    @property
    def by_outcome(self) -> dict[str, int]:
        """Episodes by how they ended."""
        return self._by("outcome")

    @property
    def by_error_kind(self) -> dict[str, int]:
        """Failed episodes by kind of error."""
        return self._by("error_kind")

    @property
    def by_source(self) -> dict[str, int]:
        """Episodes by whether the environment was real or dreamed."""
        return self._by("source")

    @property
    def by_purpose(self) -> dict[str, int]:
        """Episodes by what they were for."""
        return self._by("purpose")

    def only(self, **values: str) -> Counts:
        """The counts of rows with these values: `counts.only(source="dreamed").by_outcome`."""
        rows = (row for row in self.rows if all(getattr(row, name) == value for name, value in values.items()))
        return Counts(rows=tuple(rows))

    def _by(self, name: str) -> dict[str, int]:
        counter: Counter[str] = Counter()
        for row in self.rows:
            value: str | None = getattr(row, name)
            if value is not None:
                counter[value] += row.episodes
        return dict(counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some episodes, and where the next ones begin."""

    episodes: list[Episode]
    """At most as many as were asked for."""
    last: int
    """`number` of the last one."""


def read_page(connection: sqlite3.Connection, wanted: EpisodeFilter, *, after: int, size: int) -> Page:
    """At most `size` episodes with a number above `after`, in the order of storing."""
    where, values = wanted.where()
    statement = f"{EPISODE_QUERY} WHERE {where} AND e.number > ? ORDER BY e.number LIMIT ?"
    rows = connection.execute(statement, (*values, after, size)).fetchall()
    return Page(episodes=read_episodes(connection, rows), last=rows[-1][0] if rows else after)


def read_episode(connection: sqlite3.Connection, episode_id: str) -> Episode | None:
    """The episode with this id."""
    rows = connection.execute(f"{EPISODE_QUERY} WHERE e.id = ?", (episode_id,)).fetchall()
    return read_episodes(connection, rows)[0] if rows else None


def read_ids(connection: sqlite3.Connection, run: str) -> frozenset[str]:
    """Ids of all episodes of a run."""
    return frozenset(row[0] for row in connection.execute("SELECT id FROM episodes WHERE run = ?", (run,)))


def read_known_ids(connection: sqlite3.Connection, episode_ids: Sequence[str]) -> frozenset[str]:
    """Those of `episode_ids` that are stored."""
    statement = "SELECT id FROM episodes WHERE id IN (SELECT value FROM json_each(?))"
    return frozenset(row[0] for row in connection.execute(statement, (json.dumps(episode_ids),)))


def read_runs(connection: sqlite3.Connection) -> tuple[str, ...]:
    """All runs, the one stored first before the others."""
    statement = "SELECT run FROM episodes GROUP BY run ORDER BY min(number)"
    return tuple(row[0] for row in connection.execute(statement))


def read_lengths(connection: sqlite3.Connection, run: str | None) -> tuple[LengthCount, ...]:
    """Episodes of a run, or of all, and their timeouts, by length."""
    where, values = EpisodeFilter(run=run).where()
    statement = (
        f"SELECT e.step_count, count(*), total(e.error_kind = '{EpisodeTimeoutError.kind}') FROM episodes e "
        f"WHERE {where} GROUP BY 1"
    )
    return length_counts((row[0], row[1], int(row[2])) for row in connection.execute(statement, values))


def read_counts(connection: sqlite3.Connection, run: str | None) -> Counts:
    """Counts of a run, or of all."""
    where, values = EpisodeFilter(run=run).where()
    statement = (
        "SELECT e.source, e.purpose, e.outcome, e.error_kind, count(*), sum(e.step_count) FROM episodes e "
        f"WHERE {where} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    )
    return Counts(
        rows=tuple(
            CountRow(source=row[0], purpose=row[1], outcome=row[2], error_kind=row[3], episodes=row[4], steps=row[5])
            for row in connection.execute(statement, values)
        )
    )
