"""The station behind `dreamsim collect`, for any real environment: episodes by offline policies, into a sink.

In: tasks, an environment, its policies and its teacher. Out: annotated episodes in the sink, and a report.
Always:
- real episodes are made by the same simulator as dreamed ones;
- an episode's id depends on run, task and policy alone, so a collection that was cut short goes on where it stood when
  the ids already stored are given as `finished`;
- the first of an environment's policies comes first for a task as repeat 0, the second as 1, and so on, whichever are
  asked for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Final

from dreamsim.errors import ConfigurationError
from dreamsim.flow.archive import OwedSink
from dreamsim.protocols import Assignment, Environment, EpisodeSink, Policy
from dreamsim.records.episode import Episode, EpisodeOutcome, Purpose
from dreamsim.records.task import Task
from dreamsim.simulator import Simulator

MODEL: Final = "model"
"""The policy that every environment knows: a language model, handed over by the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What to collect in any environment: every task, by every policy, `repeats` times."""

    run: str = "collect"
    """Name of the collection; part of every episode's id."""
    fold: str = "train"
    """The fold of the tasks."""
    tasks: int | None = None
    """Number of tasks; None is all there are."""
    first: int = 0
    """Number of the first task (or seed) within the fold."""
    policies: tuple[str, ...] = ()
    """Names of policies; none is all the environment has."""
    repeats: int = 1
    """Episodes of each policy for each task."""
    max_steps: int = 50
    """Longer episodes are truncated."""
    seed: int = 0
    """Root of the policies' seeds."""
    concurrency: int = 64
    """Most episodes at once."""
    purpose: Purpose = "experience"
    """What the episodes are for."""
    episode_seconds: float | None = None
    """Most time for the steps of one episode."""


def check_collection(settings: Collection, known: Sequence[str]) -> None:
    """Refuse what cannot be collected.

    Raises:
        ConfigurationError: a policy is not among the `known`, or there would be nothing to do.
    """
    known = (*known, MODEL)
    unknown = [name for name in settings.policies if name not in known]
    if unknown or not settings.policies or len(set(settings.policies)) < len(settings.policies):
        raise ConfigurationError(f"policies must be some of {', '.join(known)}, each once; not {settings.policies}")
    if (settings.tasks is not None and settings.tasks < 1) or settings.repeats < 1:
        raise ConfigurationError("tasks and repeats must be at least 1, or nothing would be collected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What an environment brings to a collection."""

    environment: Environment
    """Entered."""
    tasks: Sequence[Task]
    """What to play."""
    policy: Callable[[str], Policy]
    """The policy of a name."""
    known: Sequence[str]
    """Names of all its policies, in the order of their repeats."""
    annotate: Callable[[Episode], Episode]
    """Its teacher."""
    model: Policy | None = None
    """Who plays as `MODEL`."""
    workers_lost: Callable[[], int] = int
    """Worker processes that died or hung so far."""


@dataclass(slots=True)
class CollectReport:
    """What was collected; grows while it is."""

    episodes: Counter[tuple[str, str, EpisodeOutcome]] = field(default_factory=Counter)
    """(policy, environment, outcome) -> episodes stored now."""
    errors: Counter[str] = field(default_factory=Counter)
    """Kind of error -> episodes."""
    skipped: int = 0
    """Episodes that were there already."""
    steps: int = 0
    """Real steps of the episodes stored now."""
    seconds: float = 0.0
    """From the first episode's start to now."""
    workers_lost: int = 0
    """Worker processes that died or hung."""

    @property
    def total(self) -> int:
        """Episodes stored now."""
        return self.episodes.total()

    @property
    def steps_per_second(self) -> float:
        """Real steps per second."""
        return self.steps / self.seconds if self.seconds else 0.0

    def success(self, policy: str, environment: str | None = None) -> float | None:
        """Share of a policy's episodes, of one environment or all, that solved their task; None if there are none."""
        found: Counter[str] = Counter()
        for (by, where, outcome), count in self.episodes.items():
            if by == policy and environment in (None, where):
                found[outcome] += count
        return found["success"] / found.total() if found else None


Progress = Callable[[CollectReport], None]


async def collect_from(
    source: Collected,
    settings: Collection,
    sink: EpisodeSink,
    *,
    finished: Container[str] = frozenset(),
    progress: Progress | None = None,
) -> CollectReport:
    """Collect, and report. An episode that fails is stored as such.

    Args:
        source: what is collected from.
        settings: what to collect.
        sink: where the episodes go; each is durable once its `add` has returned.
        finished: ids of episodes that are there already: they are not played again.
        progress: called after every episode with the report so far.
    """
    if MODEL in settings.policies and source.model is None:
        raise ConfigurationError(f"the policy {MODEL!r} is to play, and no model was given")
    report = CollectReport()
    begun = time.monotonic()
    for name in settings.policies:
        async with Simulator(
            environment=source.environment,
            policy=source.model if name == MODEL and source.model is not None else source.policy(name),
            tasks=_Tasks(source, name, settings),
            run=settings.run,
            sink=_Annotating(OwedSink(sink), source.annotate),
            concurrency=settings.concurrency,
            max_steps=settings.max_steps,
            seed=settings.seed,
            episode_seconds=settings.episode_seconds,
            finished=finished,
        ) as simulator:
            async for episode in simulator.episodes():
                _count(report, name, episode)
                report.seconds = time.monotonic() - begun
                report.workers_lost = source.workers_lost()
                if progress is not None:
                    progress(report)
            report.skipped += simulator.telemetry.snapshot().skipped
    return report


def _count(report: CollectReport, policy: str, episode: Episode) -> None:
    report.episodes[policy, episode.task.environment, episode.outcome] += 1
    report.steps += len(episode.transitions)
    if episode.error_kind is not None:
        report.errors[episode.error_kind] += 1


class _Tasks:
    """Every task for one policy."""

    def __init__(self, source: Collected, policy: str, settings: Collection) -> None:
        self._tasks = source.tasks
        known = (*source.known, MODEL)
        self._number = known.index(policy)
        self._policies = len(known)
        self._settings = settings

    async def assignments(self) -> AsyncIterator[Assignment]:
        given: Counter[str] = Counter()
        for _ in range(self._settings.repeats):
            for task in self._tasks:  # one may be listed twice: then it is played twice
                repeat = self._number + given[task.key] * self._policies
                given[task.key] += 1
                yield Assignment(task=task, repeat=repeat, purpose=self._settings.purpose)


class _Annotating:
    """Writes the teacher's reasoning into every episode on its way to the sink."""

    def __init__(self, sink: EpisodeSink, annotate: Callable[[Episode], Episode]) -> None:
        self._sink = sink
        self._annotate = annotate

    async def add(self, episode: Episode) -> None:
        await self._sink.add(self._annotate(episode))
