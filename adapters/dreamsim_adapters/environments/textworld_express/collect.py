"""Collecting real experience from TextWorldExpress.

In: which games, seeds and policies. Out: annotated episodes in the sink, and a report. Always: as `collecting`.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from dreamsim.protocols import EpisodeSink, Policy
from dreamsim_adapters.environments.collecting import (
    Collected,
    Collection,
    CollectReport,
    Progress,
    check_collection,
    collect_from,
)
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.games import DEFAULT_MIX, STEP_LIMIT, GameSpec
from dreamsim_adapters.environments.textworld_express.policies import COLLECTED, POLICIES, offline_policy
from dreamsim_adapters.environments.textworld_express.teacher import annotate


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectSettings(Collection):
    """What to collect: every task, by every policy, `repeats` times."""

    mix: tuple[GameSpec, ...] = DEFAULT_MIX
    """The games, in turn."""
    tasks: int = 100
    """Number of tasks."""
    policies: tuple[str, ...] = COLLECTED
    """Which of `POLICIES`."""
    max_steps: int = STEP_LIMIT
    """Longer episodes are truncated."""
    episode_seconds: float | None = 120.0
    """Most time for the steps of one episode."""

    def __post_init__(self) -> None:
        check_collection(self, POLICIES)


async def collect(
    settings: CollectSettings,
    sink: EpisodeSink,
    *,
    finished: Container[str] = frozenset(),
    environment: TextWorldExpressEnvironment | None = None,
    model: Policy | None = None,
    progress: Progress | None = None,
) -> CollectReport:
    """Collect, and report.

    Args:
        settings: what to collect.
        sink: where the episodes go; each is durable once its `add` has returned.
        finished: ids of episodes that are there already: they are not played again.
        environment: an entered one to use; a new one is made, and closed again, if left out.
        model: who plays as the policy `model`.
        progress: called after every episode with the report so far.

    Raises:
        ConfigurationError: there are not so many seeds.
        EnvironmentFailure: the tasks could not be made. (An episode that fails is stored as such.)
    """
    if environment is None:
        async with TextWorldExpressEnvironment() as own:
            return await collect(settings, sink, finished=finished, environment=own, model=model, progress=progress)
    used = environment
    source = Collected(
        environment=used,
        tasks=await used.tasks(settings.mix, fold=settings.fold, count=settings.tasks, first=settings.first),
        policy=lambda name: offline_policy(name, used),
        known=POLICIES,
        annotate=annotate,
        model=model,
        workers_lost=lambda: used.pool.lost,
    )
    return await collect_from(source, settings, sink, finished=finished, progress=progress)
