"""How well a policy plays: success, return and length, over all games and for each kind of them.

In: an environment, a policy, tasks; or finished episodes. Out: `PolicyReport`.
Always:
- episodes are played by the same simulator as all others, for the purpose `evaluation`: never retrieved from or learned
  from;
- an episode that ended in an error is not solved, and is counted;
- what is stored already is not played again; several episodes of one task are one cluster, in every interval.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dreamsim.errors import ConfigurationError
from dreamsim.evaluation.intervals import Estimate, bootstrap, mean, proportion, share
from dreamsim.flow.archive import EpisodeArchive, OwedSink
from dreamsim.protocols import Assignment, Environment, Policy
from dreamsim.records.episode import Episode, Source, episode_id
from dreamsim.records.task import Task
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.simulator import Simulator


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """How well a policy played some episodes."""

    success: Estimate
    """Episodes that solved their task / episodes; Wilson's interval, with several episodes of a task at the
    effective sample size."""
    mean_return: Estimate
    """Mean undiscounted return; bootstrap by task."""
    length: Estimate
    """Mean number of steps; bootstrap by task."""
    episodes: int
    """Episodes played."""
    tasks: int
    """Different tasks among them."""
    steps: int
    """Transitions: what a real environment was asked for."""
    outcomes: Mapping[str, int]
    """Episodes by how they ended; an error by its kind, as `error engine`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReport:
    """How well a policy plays."""

    policy: str
    """Name and version of the policy."""
    environment: str
    """Where: `real`, or the name and version of the experience model."""
    source: Source
    """`real` or `dreamed`."""
    overall: PolicyFigures
    """All episodes."""
    by_game: Mapping[str, PolicyFigures]
    """The same for each `Task.environment`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GameSettings:
    """How games are played."""

    run: str
    """Name of the evaluation: part of the episodes' ids."""
    episodes: int = 1
    """Episodes of each task."""
    first_repeat: int = 0
    """`repeat` of the first of them."""
    max_steps: int = 20
    """Longer episodes are truncated, which is not solved."""
    seed: int = 0
    """Root of all seeds."""
    concurrency: int = 128
    """Most episodes at once."""
    episode_seconds: float | None = None
    """Most time for the steps of one episode."""

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ConfigurationError("an evaluation needs at least one episode of each task")


async def play_games(
    environment: Environment,
    policy: Policy,
    tasks: Sequence[Task],
    settings: GameSettings,
    archive: EpisodeArchive,
    *,
    generation: int = 1,
    telemetry: Telemetry | None = None,
) -> list[Episode]:
    """Every episode of every task, in the order of the tasks; what `archive` holds is not played again."""
    wanted = list(dict.fromkeys(_ids(tasks, settings)))
    known = await archive.known_ids(wanted)
    simulator = Simulator(
        environment=environment,
        policy=policy,
        tasks=_Games(tasks, settings),
        run=settings.run,
        sink=OwedSink(archive),
        concurrency=settings.concurrency,
        max_steps=settings.max_steps,
        seed=settings.seed,
        episode_seconds=settings.episode_seconds,
        finished=known,
        generation=generation,
        telemetry=telemetry,
    )
    found: dict[str, Episode] = {}
    async with simulator:
        async for episode in simulator.episodes():
            found[episode.id] = episode
    for id in known:
        stored = await archive.episode(id)
        if stored is not None:
            found[id] = stored
    return [found[id] for id in wanted if id in found]


def _ids(tasks: Sequence[Task], settings: GameSettings) -> list[str]:
    repeats = range(settings.first_repeat, settings.first_repeat + settings.episodes)
    return [episode_id(settings.run, task.key, repeat) for repeat in repeats for task in tasks]


class _Games:
    """Every task once, then all of them again."""

    def __init__(self, tasks: Sequence[Task], settings: GameSettings) -> None:
        self._tasks = list({task.key: task for task in tasks}.values())
        self._settings = settings

    async def assignments(self) -> AsyncIterator[Assignment]:
        for turn in range(self._settings.episodes):
            for task in self._tasks:
                yield Assignment(task=task, repeat=self._settings.first_repeat + turn, purpose="evaluation")


def policy_report(episodes: Sequence[Episode], *, seed: int = 0) -> PolicyReport:
    """Figures of played episodes, all of one policy in one environment.

    Raises:
        ValueError: there are none, or real and dreamed ones are mixed.
    """
    sources = {episode.source for episode in episodes}
    if len(sources) != 1:
        raise ValueError(f"a report is about episodes of one source, not {sorted(sources) or 'none'}")
    games: defaultdict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        games[episode.task.environment].append(episode)
    first = episodes[0]
    return PolicyReport(
        policy=first.policy,
        environment=first.experience_model or "real",
        source=first.source,
        overall=policy_figures(episodes, seed=seed),
        by_game={name: policy_figures(of_game, seed=seed) for name, of_game in sorted(games.items())},
    )


def policy_figures(episodes: Sequence[Episode], *, seed: int = 0) -> PolicyFigures:
    """Figures of some episodes."""
    clusters: defaultdict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        clusters[episode.task.key].append(episode)
    of_tasks = list(clusters.values())
    sizes = [len(cluster) for cluster in of_tasks]
    solved = [sum(one.outcome == "success" for one in cluster) for cluster in of_tasks]
    return PolicyFigures(
        success=share(solved, sizes) if max(sizes) > 1 else proportion(sum(solved), len(solved)),
        mean_return=_mean([[one.total_reward for one in cluster] for cluster in of_tasks], seed),
        length=_mean([[float(len(one.transitions)) for one in cluster] for cluster in of_tasks], seed),
        episodes=len(episodes),
        tasks=len(of_tasks),
        steps=sum(len(one.transitions) for one in episodes),
        outcomes=dict(
            sorted(Counter(f"error {one.error_kind}" if one.error_kind else one.outcome for one in episodes).items())
        ),
    )


def _mean(clusters: Sequence[Sequence[float]], seed: int) -> Estimate:
    sums = np.array([[sum(values), len(values)] for values in clusters], dtype=np.float64).reshape(-1, 2)
    return bootstrap(sums, mean, seed=seed)
