"""The same policy in the dream and in reality: what it earns in both, and what the bounds allow.

In: environments, a policy and tasks to play, or finished episodes of the same tasks, real and dreamed. Out: a
`ReturnGap`, and `Bounds`.
Always: episodes are paired by task and repeat; an episode that ended in an error counts with what it had earned, and
the errors are counted; real and dreamed episodes are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dreamsim.evaluation.fidelity import StepRecord
from dreamsim.evaluation.intervals import NOTHING, Estimate, bootstrap, mean
from dreamsim.evaluation.report import FidelityReport, reward_error
from dreamsim.evaluation.theory import along_the_way, finite_horizon, lemma_1
from dreamsim.flow.source import CyclingTasks
from dreamsim.protocols import Environment, Policy
from dreamsim.records.episode import Episode
from dreamsim.records.task import Task
from dreamsim.simulator import Simulator

DISCOUNT = 0.99
"""γ of the discounted bound that is shown beside the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnGap:
    """What a policy earns, dreamed and real."""

    real: Estimate
    """Mean return in reality."""
    dreamed: Estimate
    """Mean return in the dream."""
    difference: Estimate
    """Dreamed minus real, paired; bootstrap by task."""
    by_environment: Mapping[str, Estimate]
    """Environment -> `difference` of its tasks."""
    errors: int
    """Dreamed episodes that ended in an error."""
    steps: float
    """Mean length of the real episodes."""

    @property
    def absolute(self) -> Estimate:
        """|dreamed - real|; its interval begins at 0 where that of the difference holds 0."""
        found = self.difference
        if found.value is None or found.low is None or found.high is None:
            return found
        low = 0.0 if found.low <= 0 <= found.high else min(abs(found.low), abs(found.high))
        return Estimate(value=abs(found.value), low=low, high=max(abs(found.low), abs(found.high)), n=found.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the bounds say with the measured mean errors in the place of suprema."""

    horizon: int
    """H, steps."""
    finite_horizon: float
    """ε_R + 1 - (1-ε_P)^H."""
    discounted: float
    """Lemma 1 at γ = `DISCOUNT`, which says nothing above R_max / (1-γ) = 100."""
    along_the_way: Estimate
    """E[Σ ε_R + ε_P] over the episodes; a bound for the policy that played them, as far as the history decides."""


async def play(
    environment: Environment,
    policy: Policy,
    tasks: Sequence[Task],
    *,
    run: str,
    max_steps: int,
    seed: int,
    concurrency: int = 128,
) -> list[Episode]:
    """One episode of each task, in the order of the tasks."""
    simulator = Simulator(
        environment=environment,
        policy=policy,
        tasks=CyclingTasks(tasks, episodes=len(tasks), purpose="evaluation"),
        run=run,
        concurrency=concurrency,
        max_steps=max_steps,
        seed=seed,
    )
    async with simulator:
        played = [episode async for episode in simulator.episodes()]
    order = {task.key: number for number, task in enumerate(tasks)}
    return sorted(played, key=lambda episode: (order[episode.task.key], episode.repeat))


def return_gap(real: Sequence[Episode], dreamed: Sequence[Episode], *, seed: int = 0) -> ReturnGap:
    """Compare.

    Raises:
        ValueError: the episodes are not of the same tasks.
    """
    dreams = {(episode.task.key, episode.repeat): episode for episode in dreamed}
    if len(dreams) != len(dreamed) or {(episode.task.key, episode.repeat) for episode in real} != set(dreams):
        raise ValueError("real and dreamed episodes must be of the same tasks, each once")
    pairs = [(episode, dreams[episode.task.key, episode.repeat]) for episode in real]
    rows = [(a.task.environment, a.task.key, a.total_reward, b.total_reward) for a, b in pairs]
    environments = sorted({environment for environment, *_ in rows})
    return ReturnGap(
        real=_mean([(key, earned) for _, key, earned, _ in rows], seed),
        dreamed=_mean([(key, earned) for _, key, _, earned in rows], seed),
        difference=_mean([(key, b - a) for _, key, a, b in rows], seed),
        by_environment={
            name: _mean([(key, b - a) for where, key, a, b in rows if where == name], seed) for name in environments
        },
        errors=sum(episode.outcome == "error" for episode in dreamed),
        steps=sum(len(episode.transitions) for episode in real) / len(real) if real else 0.0,
    )


def _mean(values: Sequence[tuple[str, float]], seed: int) -> Estimate:
    if not values:
        return NOTHING
    sums: dict[str, list[float]] = {}
    for key, value in values:
        row = sums.setdefault(key, [0.0, 0.0])
        row[0] += value
        row[1] += 1
    return bootstrap(np.array(list(sums.values())), mean, seed=seed)


def bounds(records: Sequence[StepRecord], report: FidelityReport, *, horizon: int, seed: int = 0) -> Bounds | None:
    """The bounds from `records` and their report; None where nothing is determined."""
    of_reward, of_step = report.reward_error.mean.value, report.transition_error.mean.value
    if of_reward is None or of_step is None:
        return None
    return Bounds(
        horizon=horizon,
        finite_horizon=finite_horizon(reward_error=of_reward, transition_error=of_step, horizon=horizon),
        discounted=lemma_1(reward_error=of_reward, transition_error=of_step, discount=DISCOUNT),
        along_the_way=_along(records, seed),
    )


def _along(records: Sequence[StepRecord], seed: int) -> Estimate:
    episodes: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        wrong = float(record.determined and not record.right)
        episodes.setdefault(record.episode_id, []).append((reward_error(record), wrong))
    value = along_the_way(list(episodes.values()))
    sums = np.array([[sum(a + b for a, b in episode), 1.0] for episode in episodes.values()])
    found = bootstrap(sums, lambda counts: np.minimum(1.0, mean(counts)), seed=seed)
    return Estimate(value=value, low=found.low, high=found.high, n=found.n)
