"""Which stored episodes may be retrieved, and what it takes to weigh them against each other.

In: the rows of `episodes`, a quality filter, hits of a search. Out: whether an episode is let in; the hits that a
query's balance prefers. Always: an evaluation episode is never let in, whatever the filter; an episode is judged by
what was stored of it when it was first seen; who is kept out is counted by the first reason.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dreamsim.records.experience import ExperienceQuery
from dreamsim.records.quality import QualityFilter, Reason
from dreamsim.store.partition import NONE, Hit
from dreamsim.store.provenance import PROVENANCE_COLUMNS, read_provenance

_EPISODES = (
    f"SELECT e.number, e.id, e.started_at, {PROVENANCE_COLUMNS} FROM episodes e "
    "WHERE e.number > ? AND e.purpose != 'evaluation' ORDER BY e.number"
)


class Standing(NamedTuple):
    """What weighs an episode."""

    started_at: float
    """When it began, Unix seconds."""
    quality: float
    """Its worst score, in [0, 1]."""
    real: bool
    """Whether it happened."""


class Admission:
    """Knows every episode that may be retrieved. One thread at a time."""

    def __init__(self, quality: QualityFilter) -> None:
        """Let in what passes `quality`."""
        self.quality = quality
        self.filtered: Counter[Reason] = Counter()
        """Episodes kept out, by reason."""
        self._admitted: dict[int, Standing] = {}
        self._numbers: dict[str, int] = {}
        self._last = 0

    def read(self, connection: sqlite3.Connection) -> None:
        """Judge the episodes stored since the last call."""
        for number, name, started_at, *columns in connection.execute(_EPISODES, (self._last,)):
            provenance = read_provenance(tuple(columns))
            reason = self.quality.objection(provenance)
            if reason is None:
                self._admitted[number] = Standing(started_at, provenance.quality, provenance.source == "real")
                self._numbers[name] = number
            else:
                self.filtered[reason] += 1
            self._last = number

    def __contains__(self, number: int) -> bool:
        """Whether the episode with this number may be retrieved."""
        return number in self._admitted

    def number_of(self, episode_id: str | None) -> int:
        """The number of an episode that may be retrieved; `NONE` for others."""
        return NONE if episode_id is None else self._numbers.get(episode_id, NONE)

    def preferred(self, query: ExperienceQuery, hits: Sequence[Hit]) -> list[Hit]:
        """At most `k` of `hits`: those that the query's balance prefers, the most similar first."""
        hits = sorted(hits, key=lambda hit: (-hit.similarity, hit.step))
        balance = query.balance
        standings = [self._admitted[hit.episode] for hit in hits]
        enough = sum(standing.real for standing in standings[: query.k]) >= balance.least_real(query.k)
        if len(hits) <= query.k or (enough and not balance.weighs):
            return hits[: query.k]
        numbers = np.array([hit.episode for hit in hits], dtype=np.float64)
        started = np.array([standing.started_at for standing in standings])
        similar = np.array([hit.similarity for hit in hits])
        keys = np.log(np.maximum((1 + similar) / 2, 1e-9)) + balance.log_weights(
            numbers.max() - numbers,
            started.max() - started,
            np.array([standing.quality for standing in standings]),
        )
        real = np.array([standing.real for standing in standings])
        return [hits[place] for place in sorted(balance.choose(keys, real, query.k))]


def wanted_hits(query: ExperienceQuery) -> int:
    """How many hits of each kind of episode the query's balance chooses from."""
    return max(query.k, query.balance.candidates) if query.balance.weighs else query.k
