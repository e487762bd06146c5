"""The vectors of one partition of the experiences: one environment, fold, source and purpose.

In: unit vectors of distinct texts with the steps they stand for. Out: the most similar steps. Always:
- Equal texts share one slot, so that one search gives different experiences. A slot keeps its first step and the
  first one of another task: whichever one task is excluded, one of the two remains.
- Components are rounded to multiples of 2^-11. Products are then multiples of 2^-22 and their sums stay below 2,
  which float32 holds exactly: similarities do not depend on the order of addition, so not on batching either.
- Up to `EXACT_SLOTS` slots the search is exact; beyond, usearch proposes candidates, whose similarity is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EXACT_SLOTS = 16_384
"""Up to here comparing with every vector costs less than walking the graph."""

EXACT_BLOCK = 8192
"""Vectors widened to float32 at a time, which bounds memory."""

MAX_COMPARISONS = 4_000_000
"""Most similarities computed at a time, which bounds memory."""

MAX_FETCH = 512
"""Most candidates asked of usearch; who must skip more gets an exact search."""

SPARE = 16
"""Candidates asked for beyond what is needed: the graph is approximate, the order among candidates is not."""

EXPANSION = 144
"""Nodes of the graph kept in view during a search: recall against speed."""

EXPANSION_ADD = 128
"""The same while adding."""

NONE = -1
"""No step, no task, no episode."""


class Hit(NamedTuple):
    """A step that was found."""

    similarity: float
    """Cosine similarity with the query."""
    step: int
    """Row id of the step."""
    episode: int
    """Number of its episode."""


class Excluded(NamedTuple):
    """What a query must not find."""

    task: int = NONE
    """Code of a task."""
    others: frozenset[int] = frozenset()
    """Codes of further tasks."""
    episode: int = NONE
    """Number of an episode."""

    @property
    def more(self) -> bool:
        """Whether it is more than one task, so that a slot may have to be skipped as a whole."""
        return bool(self.others) or self.episode != NONE


def rounded(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors with components that float16 holds exactly and float32 adds up exactly."""
    result: NDArray[np.float32] = np.round(vectors * 2048.0).astype(np.float32) / np.float32(2048.0)
    return result


class Partition:
    """Slots, their steps and their vectors. One thread at a time."""

    __slots__ = ("_episodes", "_graph", "_slots", "_steps", "_task_slots", "_tasks", "_vectors", "dimension", "size")

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.size = 0
        """Slots that have a vector."""
        self._graph: Any = new_graph(dimension)
        self._slots: dict[int, int] = {}
        self._steps: NDArray[np.int64] = np.full((0, 2), NONE, dtype=np.int64)
        self._tasks: NDArray[np.int64] = np.full((0, 2), NONE, dtype=np.int64)
        self._episodes: NDArray[np.int64] = np.full((0, 2), NONE, dtype=np.int64)
        self._vectors: NDArray[Any] = np.zeros((0, dimension), dtype=np.float32)
        """float32 while searches are exact, float16 beyond, where memory counts; both hold the same values."""
        self._task_slots: Counter[int] = Counter()

    @property
    def slots(self) -> int:
        """Distinct texts noted so far."""
        return len(self._slots)

    @property
    def text_hashes(self) -> NDArray[np.int64]:
        """The hash of each slot's text, in the order of slots."""
        return np.fromiter(self._slots, dtype=np.int64, count=len(self._slots))

    @property
    def graph(self) -> Any:
        """The usearch index, with slots as keys."""
        return self._graph

    def vector(self, text_hash: int) -> NDArray[np.float32] | None:
        """The rounded vector of a text, by its hash; None if it has none."""
        slot = self._slots.get(text_hash)
        return None if slot is None or slot >= self.size else self._vectors[slot].astype(np.float32)

    def note(self, text_hash: int, step: int, task: int, episode: int) -> bool:
        """A step with this text exists. Returns whether the text is new, in which case `add` must follow."""
        slot = self._slots.get(text_hash)
        new = slot is None
        if slot is None:
            slot = self._slots[text_hash] = len(self._slots)
            self._grow(slot + 1)
            self._steps[slot, 0], self._tasks[slot, 0], self._episodes[slot, 0] = step, task, episode
            self._task_slots[task] += 1
        elif self._tasks[slot, 0] != task and self._tasks[slot, 1] == NONE:
            self._steps[slot, 1], self._tasks[slot, 1], self._episodes[slot, 1] = step, task, episode
        return new

    def add(self, vectors: NDArray[np.float32]) -> None:
        """The unit vectors of the texts noted as new since the last call, in that order."""
        end = self.size + len(vectors)
        values = rounded(vectors).astype(np.float16)
        self._graph.add(np.arange(self.size, end, dtype=np.uint64), values, threads=1)
        self._vectors[self.size : end] = values
        self.size = end

    def restore(self, graph: Any) -> None:
        """Take the vectors of all noted texts from a saved graph.

        Raises:
            ValueError: it is not the graph of these texts.
        """
        if len(graph) != self.slots or graph.ndim != self.dimension:
            raise ValueError(f"holds {len(graph)} vectors for {self.slots} texts")
        if self.slots:
            keys = np.arange(self.slots, dtype=np.uint64)
            if not bool(np.all(graph.contains(keys))):
                raise ValueError("holds other keys than expected")
            self._vectors[: self.slots] = np.stack(graph.get(keys))
        self._graph = graph
        self.size = self.slots

    def search(self, queries: NDArray[np.float32], k: int, excluded: Sequence[Excluded]) -> list[list[Hit]]:
        """For each row of `queries` the `k` most similar slots, without the steps `excluded` for it.

        Args:
            queries: rounded unit vectors, shape [n, dimension].
            excluded: what each of the n must not find.
        """
        count = len(queries)
        if not self.size or not count:
            return [[] for _ in range(count)]
        # Every slot that begins with the excluded task might have to be skipped, not more.
        skips = np.array([MAX_FETCH if some.more else self._task_slots.get(some.task, 0) for some in excluded])
        result: list[list[Hit]] = [[] for _ in range(count)]
        exact = skips + k + SPARE > MAX_FETCH if self.size > EXACT_SLOTS else np.ones(count, dtype=bool)
        rows = np.flatnonzero(exact)
        at_once = max(1, MAX_COMPARISONS // self.size)
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            for row, hits in zip(some, self._exact(queries[some], k, [excluded[row] for row in some]), strict=True):
                result[row] = hits
        rest = np.flatnonzero(~exact)
        # Queries that must skip much would make all others of the batch fetch much, so they go apart.
        for fetch in (32, 128, MAX_FETCH):
            fits = skips[rest] + k + SPARE <= fetch
            rows, rest = rest[fits], rest[~fits]
            if rows.size:
                slots = self._candidates(queries[rows], fetch)
                for row, candidates in zip(rows, slots, strict=True):
                    similar = self._vectors[candidates].astype(np.float32) @ queries[row]
                    result[row] = self._best(candidates, similar, k, excluded[row])
        return result

    def _exact(self, queries: NDArray[np.float32], k: int, excluded: Sequence[Excluded]) -> list[list[Hit]]:
        similar = np.empty((len(queries), self.size), dtype=np.float32)
        for start in range(0, self.size, EXACT_BLOCK):
            block = self._vectors[start : min(start + EXACT_BLOCK, self.size)]
            block = block.astype(np.float32, copy=False)
            similar[:, start : start + len(block)] = queries @ block.T
        result = []
        for row, never in zip(similar, excluded, strict=True):
            if never.more:
                row[self._wholly_excluded(never)] = -np.inf
            elif never.task != NONE:
                tasks = self._tasks[: self.size]
                row[(tasks[:, 0] == never.task) & (tasks[:, 1] == NONE)] = -np.inf
            if k < self.size:
                # All slots as similar as the k-th, so that among equals the first stored is taken.
                least = np.partition(row, self.size - k)[self.size - k]
                candidates = np.flatnonzero(row >= least)
            else:
                candidates = np.arange(self.size)
            result.append(self._best(candidates, row[candidates], k, never))
        return result

    def _wholly_excluded(self, excluded: Excluded) -> NDArray[np.bool_]:
        """Slots of which no step may be found, shape [size]."""
        codes = np.array([NONE, excluded.task, *excluded.others], dtype=np.int64)
        out = np.isin(self._tasks[: self.size], codes)
        if excluded.episode != NONE:
            out |= self._episodes[: self.size] == excluded.episode
        result: NDArray[np.bool_] = np.all(out, axis=1)
        return result

    def _candidates(self, queries: NDArray[np.float32], fetch: int) -> list[NDArray[np.int64]]:
        self._graph.expansion_search = max(EXPANSION, 2 * fetch)
        matches = self._graph.search(queries.astype(np.float16), min(fetch, self.size), threads=1)
        keys = np.atleast_2d(matches.keys)
        counts = np.atleast_1d(matches.counts) if len(queries) > 1 else [keys.shape[1]]
        return [row[: int(count)].astype(np.int64) for row, count in zip(keys, counts, strict=True)]

    def _best(
        self, candidates: NDArray[np.int64], similar: NDArray[np.float32], k: int, excluded: Excluded
    ) -> list[Hit]:
        hits: list[Hit] = []
        for place in np.lexsort((candidates, -similar)):
            if len(hits) == k:
                break
            slot = candidates[place]
            which = 0 if excluded.task == NONE or self._tasks[slot, 0] != excluded.task else 1
            if excluded.more:
                which = 0 if self._may_be_found(slot, 0, excluded) else 1
                if not self._may_be_found(slot, which, excluded):
                    continue
            step = int(self._steps[slot, which])
            if step != NONE:
                hits.append(Hit(float(similar[place]), step, int(self._episodes[slot, which])))
        return hits

    def _may_be_found(self, slot: int, which: int, excluded: Excluded) -> bool:
        task, episode = int(self._tasks[slot, which]), int(self._episodes[slot, which])
        return task not in (NONE, excluded.task) and task not in excluded.others and episode != excluded.episode

    def _grow(self, size: int) -> None:
        capacity = len(self._steps)
        if size > capacity:
            capacity = max(256, 2 * capacity)
            self._steps = _resized(self._steps, capacity, NONE)
            self._tasks = _resized(self._tasks, capacity, NONE)
            self._episodes = _resized(self._episodes, capacity, NONE)
            dtype = np.float32 if capacity <= EXACT_SLOTS else np.float16
            self._vectors = _resized(self._vectors.astype(dtype, copy=False), capacity, 0)


def new_graph(dimension: int) -> Any:
    """An empty usearch index for `Partition`."""
    from usearch.index import Index

    return Index(ndim=dimension, metric="cos", dtype="f16", connectivity=16, expansion_add=EXPANSION_ADD)


def _resized(array: NDArray[Any], capacity: int, fill: int) -> NDArray[Any]:
    result = np.full((capacity, *array.shape[1:]), fill, dtype=array.dtype)
    result[: len(array)] = array
    return result
