"""Samples for trainers: which episodes may be learned from, and how they are drawn.

In: a rule, how many, a seed. Out: episodes or single steps, with their weights, and what was left out. Always:
- an evaluation episode is never drawn, whatever the rule; nor is a task or fold that the rule excludes;
- drawing is without replacement, by the weights and the real floor of `records.balance`;
- the same stored episodes, rule, number and seed give the same sample.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConfigurationError
from dreamsim.records.balance import NO_BALANCE, Balance
from dreamsim.records.episode import Episode, Purpose, Source
from dreamsim.records.experience import Experience
from dreamsim.records.quality import DEFAULT_FILTER, Provenance, QualityFilter, Reason
from dreamsim.runtime.seeds import generator
from dreamsim.store.columns import DRAWN_TYPES, check_row
from dreamsim.store.provenance import PROVENANCE_COLUMNS, read_provenance
from dreamsim.store.rows import EPISODE_QUERY, read_episodes, read_experiences

T = TypeVar("T", Episode, Experience)

_CONSIDERED = (
    f"SELECT e.number, e.started_at, e.step_count, {PROVENANCE_COLUMNS} FROM episodes e "
    "WHERE e.purpose != 'evaluation' AND e.purpose IN (SELECT value FROM json_each(?)) "
    "AND e.source IN (SELECT value FROM json_each(?)) "
    "AND e.fold IN (SELECT value FROM json_each(?)) AND e.fold NOT IN (SELECT value FROM json_each(?)) "
    "AND e.task_key NOT IN (SELECT value FROM json_each(?)) AND (? IS NULL OR e.environment = ?) "
    "AND (? IS NULL OR e.run = ?) ORDER BY e.number"
)
_STEP_IDS = (
    "SELECT s.id FROM json_each(?) w JOIN steps s "
    "ON s.episode = json_extract(w.value, '$[0]') AND s.step = json_extract(w.value, '$[1]') ORDER BY w.key"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRule:
    """Which episodes may be drawn and which of them are preferred.

    Of the episodes that pass `quality`, n are drawn without replacement: each next one with probability proportional
    to `w = 2^(-age / half_life) * 2^(-age_s / half_life_s) * max(quality, 0.01)^quality_weight` (`records.balance`),
    at least `min(ceil(real_share * n), real ones there are)` of them real. A step weighs what its episode weighs.
    """

    balance: Balance = NO_BALANCE
    """What is preferred; by default all count the same."""
    quality: QualityFilter = DEFAULT_FILTER
    """What may be learned from; by default no dream that is not proven good."""
    sources: tuple[Source, ...] = ("real", "dreamed")
    """Only of these sources."""
    purposes: tuple[Purpose, ...] = ("experience", "training")
    """Only for these purposes; `evaluation` is never drawn."""
    folds: tuple[str, ...] = ("train",)
    """Only of tasks of these folds."""
    exclude_folds: frozenset[str] = frozenset()
    """Nothing of tasks of these folds, whatever `folds` says."""
    exclude_tasks: frozenset[str] = frozenset()
    """Nothing of these tasks, such as held-out ones."""
    environment: str | None = None
    """Only of this environment; None is any."""
    run: str | None = None
    """Only of this run; None is any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Generic[T]):
    """What was drawn, and from what."""

    items: tuple[T, ...]
    """Episodes, or single steps, in the order of drawing."""
    weights: NDArray[np.float64]
    """The weight w of each, relative to the greatest there was; shape [len(items)]."""
    considered: int
    """Episodes that the rule asks for, those filtered out included."""
    filtered: Mapping[Reason, int]
    """How many of them the quality filter kept out, by reason."""
    real: int
    """How many items are real."""
    real_missing: int
    """How many more the floor asked for than there are."""


@dataclass(frozen=True, slots=True)
class _Pool:
    """The episodes that may be drawn, one element of each array for each."""

    numbers: NDArray[np.int64]
    real: NDArray[np.bool_]
    steps: NDArray[np.int64]
    log_weights: NDArray[np.float64]
    considered: int
    filtered: Counter[Reason] = field(default_factory=Counter)


class _Drawn(NamedTuple):
    places: NDArray[np.int64]
    """Into the arrays of the pool."""
    weights: NDArray[np.float64]
    real: int
    real_missing: int


def sample_episodes(connection: sqlite3.Connection, n: int, rule: SamplingRule, seed: int) -> Sample[Episode]:
    """At most `n` different episodes."""
    pool = _pool(connection, rule)
    drawn = _draw(pool.log_weights, pool.real, n, rule.balance, generator(seed, "sample", "episodes"))
    numbers = pool.numbers[drawn.places].tolist()
    statement = f"{EPISODE_QUERY} WHERE e.number IN (SELECT value FROM json_each(?))"
    rows = {row[0]: row for row in connection.execute(statement, (json.dumps(numbers),))}
    items = read_episodes(connection, [rows[number] for number in numbers])
    return _sample(tuple(items), pool, drawn)


def sample_experiences(connection: sqlite3.Connection, n: int, rule: SamplingRule, seed: int) -> Sample[Experience]:
    """At most `n` different steps, each weighing what its episode weighs."""
    pool = _pool(connection, rule)
    episodes = np.repeat(np.arange(len(pool.steps)), pool.steps)
    first = np.cumsum(pool.steps) - pool.steps
    steps = np.arange(len(episodes)) - first[episodes]
    random = generator(seed, "sample", "experiences")
    drawn = _draw(pool.log_weights[episodes], pool.real[episodes], n, rule.balance, random)
    wanted = np.stack([pool.numbers[episodes], steps], axis=1)[drawn.places].tolist()
    ids = [row[0] for row in connection.execute(_STEP_IDS, (json.dumps(wanted),))]
    found: dict[int, Experience] = {}
    for start in range(0, len(ids), 512):
        found |= read_experiences(connection, ids[start : start + 512])
    return _sample(tuple(found[row] for row in ids), pool, drawn)


def check_number(n: int) -> None:
    """Raises: ConfigurationError: `n` is negative."""
    if n < 0:
        raise ConfigurationError(f"a sample of {n} items was asked for: the number must be at least 0")


def _pool(connection: sqlite3.Connection, rule: SamplingRule) -> _Pool:
    filtered: Counter[Reason] = Counter()
    kept: list[tuple[int, bool, int, float, float]] = []
    considered = 0
    for number, started_at, steps, provenance in _considered(connection, rule):
        considered += 1
        reason = rule.quality.objection(provenance)
        if reason is None:
            kept.append((number, provenance.source == "real", steps, started_at, provenance.quality))
        else:
            filtered[reason] += 1
    columns: Sequence[Any] = list(zip(*kept, strict=True)) if kept else [()] * 5
    numbers = np.array(columns[0], dtype=np.int64)
    started = np.array(columns[3], dtype=np.float64)
    ages = (numbers.max(initial=0) - numbers).astype(np.float64)
    log_weights = rule.balance.log_weights(
        ages, started.max(initial=0.0) - started, np.array(columns[4], dtype=np.float64)
    )
    return _Pool(
        numbers=numbers,
        real=np.array(columns[1], dtype=bool),
        steps=np.array(columns[2], dtype=np.int64),
        log_weights=log_weights,
        considered=considered,
        filtered=filtered,
    )


def _considered(connection: sqlite3.Connection, rule: SamplingRule) -> Iterator[tuple[int, float, int, Provenance]]:
    """Number, beginning, steps and provenance of every episode that the rule asks for."""
    lists = (rule.purposes, rule.sources, rule.folds, sorted(rule.exclude_folds), sorted(rule.exclude_tasks))
    values = [*map(json.dumps, lists), *(rule.environment,) * 2, *(rule.run,) * 2]
    for number, started_at, steps, *columns in connection.execute(_CONSIDERED, values):
        check_row((number, started_at, steps), DRAWN_TYPES)
        yield number, started_at, steps, read_provenance(tuple(columns))


def _draw(
    log_weights: NDArray[np.float64],
    real: NDArray[np.bool_],
    n: int,
    balance: Balance,
    random: np.random.Generator,
) -> _Drawn:
    keys = log_weights + random.gumbel(size=len(log_weights))
    places = balance.choose(keys, real, n)
    weights = np.exp(log_weights[places] - log_weights.max(initial=-np.inf)) if len(places) else np.zeros(0)
    taken = int(np.count_nonzero(real[places]))
    return _Drawn(places, weights, taken, max(0, balance.least_real(n) - int(np.count_nonzero(real))))


def _sample(items: tuple[T, ...], pool: _Pool, drawn: _Drawn) -> Sample[T]:
    return Sample(
        items=items,
        weights=drawn.weights,
        considered=pool.considered,
        filtered=dict(pool.filtered),
        real=drawn.real,
        real_missing=drawn.real_missing,
    )
