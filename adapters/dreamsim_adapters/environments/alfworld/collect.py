"""Collecting real experience from ALFWorld.

In: which games and policies. Out: annotated episodes in the sink, and a report. Always: as `collecting`.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from dreamsim.protocols import EpisodeSink, Policy
from dreamsim_adapters.environments.alfworld.environment import AlfworldEnvironment
from dreamsim_adapters.environments.alfworld.games import STEP_LIMIT, TASK_TYPES
from dreamsim_adapters.environments.alfworld.policies import POLICIES, offline_policy
from dreamsim_adapters.environments.alfworld.teacher import annotate
from dreamsim_adapters.environments.collecting import (
    Collected,
    Collection,
    CollectReport,
    Progress,
    check_collection,
    collect_from,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlfworldCollection(Collection):
    """What to collect: every task, by every policy, `repeats` times."""

    types: tuple[str, ...] = TASK_TYPES
    """The task types, in turn."""
    policies: tuple[str, ...] = POLICIES
    """Which of `POLICIES`."""
    max_steps: int = STEP_LIMIT
    """Longer episodes are truncated."""
    concurrency: int = 16
    """Most episodes at once; each holds a loaded game of some 20 MB."""

    def __post_init__(self) -> None:
        check_collection(self, POLICIES)


async def collect(
    settings: AlfworldCollection,
    sink: EpisodeSink,
    *,
    finished: Container[str] = frozenset(),
    environment: AlfworldEnvironment | None = None,
    model: Policy | None = None,
    progress: Progress | None = None,
) -> CollectReport:
    """Collect, and report.

    Args:
        settings: what to collect.
        sink: where the episodes go; each is durable once its `add` has returned.
        finished: ids of episodes that are there already: they are not played again.
        environment: an entered one to use; a new one, over the games that `ALFWORLD_DATA` names, is made and closed
            again if left out.
        model: who plays as the policy `model`.
        progress: called after every episode with the report so far.

    Raises:
        ConfigurationError: there are no games, or not so many.
        EnvironmentFailure: the tasks could not be made. (An episode that fails is stored as such.)
    """
    if environment is None:
        async with AlfworldEnvironment() as own:
            return await collect(settings, sink, finished=finished, environment=own, model=model, progress=progress)
    used = environment
    source = Collected(
        environment=used,
        tasks=await used.tasks(settings.types, fold=settings.fold, count=settings.tasks, first=settings.first),
        policy=lambda name: offline_policy(name, used),
        known=POLICIES,
        annotate=annotate,
        model=model,
        workers_lost=lambda: used.pool.lost,
    )
    return await collect_from(source, settings, sink, finished=finished, progress=progress)
