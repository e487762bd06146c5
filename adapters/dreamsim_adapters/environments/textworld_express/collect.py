"""The station behind `dreamsim collect`: real episodes by offline policies, into a sink.

In: which games, seeds and policies. Out: annotated episodes in the sink, and a report.
Always:
- real episodes are made by the same simulator as dreamed ones;
- an episode's id depends on run, task and policy alone, so a collection that was cut short goes on where it stood when
  the ids already stored are given as `finished`;
- the policy `gold` comes first for a task as repeat 0, `random` as 1, and so on (`POLICIES`), whichever are asked for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Sequence
from dataclasses import dataclass, field

from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Assignment, EpisodeSink
from dreamsim.records.episode import Episode, EpisodeOutcome, Purpose
from dreamsim.records.task import Task
from dreamsim.simulator import Simulator
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.games import DEFAULT_MIX, STEP_LIMIT, GameSpec
from dreamsim_adapters.environments.textworld_express.policies import POLICIES, offline_policy
from dreamsim_adapters.environments.textworld_express.teacher import annotate


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectSettings:
    """What to collect: every task, by every policy, `repeats` times."""

    run: str = "collect"
    """Name of the collection; part of every episode's id."""
    mix: tuple[GameSpec, ...] = DEFAULT_MIX
    """The games, in turn."""
    fold: str = "train"
    """The fold whose seeds are used."""
    tasks: int = 100
    """Number of tasks."""
    first: int = 0
    """Number of each game's first seed within the fold."""
    policies: tuple[str, ...] = POLICIES
    """Which of `POLICIES`."""
    repeats: int = 1
    """Episodes of each policy for each task."""
    max_steps: int = STEP_LIMIT
    """Longer episodes are truncated."""
    seed: int = 0
    """Root of the policies' seeds."""
    concurrency: int = 64
    """Most episodes at once."""
    purpose: Purpose = "experience"
    """What the episodes are for."""
    episode_seconds: float | None = 120.0
    """Most time for the steps of one episode."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.policies if name not in POLICIES]
        if unknown or not self.policies or len(set(self.policies)) < len(self.policies):
            raise ConfigurationError(f"policies must be some of {', '.join(POLICIES)}, each once; not {self.policies}")
        if self.tasks < 1 or self.repeats < 1:
            raise ConfigurationError("tasks and repeats must be at least 1, or nothing would be collected")


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


async def collect(
    settings: CollectSettings,
    sink: EpisodeSink,
    *,
    finished: Container[str] = frozenset(),
    environment: TextWorldExpressEnvironment | None = None,
    progress: Progress | None = None,
) -> CollectReport:
    """Collect, and report.

    Args:
        settings: what to collect.
        sink: where the episodes go; each is durable once its `add` has returned.
        finished: ids of episodes that are there already: they are not played again.
        environment: an entered one to use; a new one is made, and closed again, if left out.
        progress: called after every episode with the report so far.

    Raises:
        ConfigurationError: there are not so many seeds.
        EnvironmentFailure: the tasks could not be made. (An episode that fails is stored as such.)
    """
    if environment is None:
        async with TextWorldExpressEnvironment() as own:
            return await collect(settings, sink, finished=finished, environment=own, progress=progress)
    report = CollectReport()
    tasks = await environment.tasks(settings.mix, fold=settings.fold, count=settings.tasks, first=settings.first)
    begun = time.monotonic()
    for name in settings.policies:
        source = _Tasks(tasks, POLICIES.index(name), settings)
        async with Simulator(
            environment=environment,
            policy=offline_policy(name, environment),
            tasks=source,
            run=settings.run,
            sink=_Annotating(sink),
            concurrency=settings.concurrency,
            max_steps=settings.max_steps,
            seed=settings.seed,
            episode_seconds=settings.episode_seconds,
            finished=finished,
        ) as simulator:
            async for episode in simulator.episodes():
                _count(report, name, episode)
                report.seconds = time.monotonic() - begun
                report.workers_lost = environment.pool.lost
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

    def __init__(self, tasks: Sequence[Task], number: int, settings: CollectSettings) -> None:
        self._tasks = tasks
        self._number = number
        self._settings = settings

    async def assignments(self) -> AsyncIterator[Assignment]:
        for turn in range(self._settings.repeats):
            repeat = self._number + turn * len(POLICIES)
            for task in self._tasks:
                yield Assignment(task=task, repeat=repeat, purpose=self._settings.purpose)


class _Annotating:
    """Writes the teacher's reasoning into every episode on its way to the sink."""

    def __init__(self, sink: EpisodeSink) -> None:
        self._sink = sink

    async def add(self, episode: Episode) -> None:
        await self._sink.add(annotate(episode))
