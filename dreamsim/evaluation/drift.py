"""k-step drift: how long a dream that goes on from its own states stays with reality.

In: held-out real episodes, a foreteller. Out: one `DriftRecord` per dreamed step; curves of agreement by k.
Always:
- the actions are those of the real episode, whatever the dream shows;
- k counts the dreamed steps since the dream last saw reality, from 1;
- *open loop, where determined* (`runs_of`): every longest run of steps whose next states the history decides is dreamed
  as one piece, from the real history before it. What nobody could know is never asked, so a disagreement is an error;
- *open loop, free* (`free`): the whole episode is dreamed from its first state. Where the dream has to invent what it
  cannot know, it leaves reality without an error; what counts here is that it contradicts itself nowhere;
- a step that could not be dreamed, and every step after it or after a dreamed end, agrees with nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dreamsim.evaluation.fidelity import NOT_FORETOLD, Determined, Foreteller, StepRecord, Witnesses, each
from dreamsim.evaluation.intervals import Estimate, clustered, share
from dreamsim.protocols import LedgerSession
from dreamsim.records.episode import Episode, Transition

STEPS = 30
"""Longest drift looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRecord:
    """One real step, dreamed after k - 1 dreamed ones."""

    episode_id: str
    """The real episode."""
    step: int
    """Index of the step in the episode, from 0."""
    k: int
    """Dreamed steps since the dream last saw reality, this one included."""
    dreamed: bool
    """Whether there was a transition at all."""
    agrees: bool
    """Whether state and outcome are the real ones."""
    contradictions: int | None = None
    """Contradictions with what the dream itself has shown; None without a ledger, or if nothing was dreamed."""
    rejected: int = 0
    """Contradictions in outputs that were thrown away before this one."""
    broke: bool = False
    """Whether the dream ended here because there was no transition to go on with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point of a curve."""

    k: int
    """Dreamed steps since the dream last saw reality."""
    agreement: Estimate
    """Share that agrees with reality."""


async def runs_of(
    episodes: Sequence[Episode],
    foreteller: Foreteller,
    *,
    determined: Determined,
    steps: int = STEPS,
    concurrency: int = 256,
    progress: Callable[[int], None] | None = None,
) -> list[DriftRecord]:
    """Dream every longest determined run of every episode; a run of more than `steps` is cut into pieces.

    Raises:
        EngineError: the engine failed.
    """

    async def follow(episode: Episode) -> list[DriftRecord]:
        records: list[DriftRecord] = []
        for start, end in pieces(determined(episode), steps):
            records += await _dreamed(episode, foreteller, start, end, None)
        return records

    return await each(episodes, follow, concurrency=concurrency, progress=progress)


async def free(
    episodes: Sequence[Episode],
    foreteller: Foreteller,
    *,
    witnesses: Witnesses | None = None,
    steps: int = STEPS,
    concurrency: int = 256,
    progress: Callable[[int], None] | None = None,
) -> list[DriftRecord]:
    """Dream the first `steps` steps of every episode, from its first state; the witnesses' ledger keeps the
    dream's own books.

    Raises:
        EngineError: the engine failed.
    """

    async def follow(episode: Episode) -> list[DriftRecord]:
        books = (witnesses or Witnesses()).books(episode.task)
        return await _dreamed(episode, foreteller, 0, min(steps, len(episode.transitions)), books)

    return await each(episodes, follow, concurrency=concurrency, progress=progress)


def pieces(determined: Sequence[bool], steps: int) -> Iterator[tuple[int, int]]:
    """Start and end of every longest run of determined steps, cut after every `steps` of them."""
    start = 0
    for index, known in enumerate([*determined, False]):
        if known and index - start < steps:
            continue
        if index > start:
            yield start, index
        start = index if known else index + 1


async def _dreamed(
    episode: Episode, foreteller: Foreteller, start: int, end: int, books: LedgerSession | None
) -> list[DriftRecord]:
    foretelling = await foreteller.begin(episode)
    for real in episode.transitions[:start]:
        foretelling.follow(real)
    records: list[DriftRecord] = []
    over = False
    for index in range(start, end):
        real = episode.transitions[index]
        transition: Transition | None = None
        broke = False
        if not over:
            try:
                transition = await foretelling.step(real.action)
            except NOT_FORETOLD:
                over = broke = True
        contradictions: int | None = None
        if transition is not None:
            over = transition.done
            if books is not None:
                contradictions = len(books.contradictions(transition))
                books.see(transition)
        trust = None if transition is None else transition.trust
        records.append(
            DriftRecord(
                episode_id=episode.id,
                step=index,
                k=index - start + 1,
                dreamed=transition is not None,
                agrees=transition is not None
                and transition.outcome == real.outcome
                and transition.state.same_as(real.state),
                contradictions=contradictions,
                rejected=0 if trust is None else len(trust.rejected),
                broke=broke,
            )
        )
    return records


def open_loop_curve(records: Iterable[DriftRecord], *, steps: int = STEPS) -> list[Point]:
    """Agreement at each k that occurs."""
    return _curve(((record.k, record.episode_id, record.agrees) for record in records), steps)


def teacher_forced_curve(
    records: Iterable[DriftRecord], one_step: Iterable[StepRecord], *, steps: int = STEPS
) -> list[Point]:
    """The same steps, each foretold from the real history: what is left is not drift.

    Raises:
        KeyError: a step was not foretold.
    """
    right = {(record.episode_id, record.step): record.right for record in one_step}
    return _curve(((r.k, r.episode_id, right[r.episode_id, r.step]) for r in records), steps)


def _curve(found: Iterable[tuple[int, str, bool]], steps: int) -> list[Point]:
    at: dict[int, dict[str, list[int]]] = {k: {} for k in range(1, steps + 1)}
    for k, episode, agrees in found:
        if k in at:
            counts = at[k].setdefault(episode, [0, 0])
            counts[0] += agrees
            counts[1] += 1
    return [
        Point(k=k, agreement=share([s for s, _ in counts.values()], [n for _, n in counts.values()]))
        for k, counts in at.items()
        if counts
    ]


def at_step(curve: Iterable[Point], k: int) -> Estimate | None:
    """The curve at k, where it goes so far."""
    return next((point.agreement for point in curve if point.k == k), None)


def contradictions_per_100(records: Iterable[DriftRecord], *, seed: int = 0) -> Estimate:
    """Contradictions in 100 dreamed steps; nothing without a ledger."""
    return clustered(
        ((r.episode_id, 100.0 * r.contradictions) for r in records if r.contradictions is not None), seed=seed
    )


def rejected_per_100(records: Iterable[DriftRecord], *, seed: int = 0) -> Estimate:
    """Contradictions in outputs that were thrown away, in 100 dreamed steps."""
    return clustered(((r.episode_id, 100.0 * r.rejected) for r in records if r.dreamed), seed=seed)


def ended_per_100(records: Iterable[DriftRecord], *, seed: int = 0) -> Estimate:
    """Steps without a transition with which a dream ended, in 100 steps asked for."""
    return clustered(((r.episode_id, 100.0 * r.broke) for r in records if r.dreamed or r.broke), seed=seed)
