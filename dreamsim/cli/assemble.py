"""A run's parts, put together as the settings say.

In: settings, the run's directory. Out: environment, policy, store and tasks, ready for a `Simulator`.
Always: what is opened is closed again in reverse order; what cannot work is refused before an engine starts,
because engines start slowly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from dreamsim.cli.engines import opened_together
from dreamsim.cli.models import Roles, open_roles
from dreamsim.cli.run_directory import RunDirectory
from dreamsim.cli.tasks import experience_file, tasks_of
from dreamsim.errors import UsageError
from dreamsim.flow.source import CyclingTasks
from dreamsim.protocols import TaskSource
from dreamsim.runtime.config import Settings
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.store.jsonl import import_jsonl
from dreamsim.store.store import Store, open_store

Say = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is made of."""

    roles: Roles
    """Environment and policy."""
    store: Store
    """Where episodes go."""
    tasks: TaskSource
    """What to run."""
    finished: frozenset[str]
    """Episodes that an earlier sitting finished."""


@asynccontextmanager
async def assembled(
    settings: Settings, directory: RunDirectory, telemetry: Telemetry, say: Say
) -> AsyncIterator[Parts]:
    """Open everything; `say` is told of what takes long.

    Raises:
        UsageError: a part cannot be had; the message says what to change.
    """
    async with AsyncExitStack() as opened:
        tasks = await tasks_of(settings)
        store = await opened.enter_async_context(
            open_store(directory.store, encoder=settings.store.encoder, quality=settings.store.filter.rule)
        )
        finished = await store.finished_ids(directory.run)
        if finished and not directory.resumed:
            raise UsageError(
                f"{directory.store} holds episodes of a run called '{directory.run}' already: "
                "choose another --run.name, or --run.resume that run"
            )
        openings: dict[str, AbstractAsyncContextManager[Any]] = {
            "experiences": importing_experiences(settings, store, say),
            "roles": open_roles(settings, store, telemetry, say, logs=directory.log.parent),
        }
        roles: Roles = (await opened.enter_async_context(opened_together(openings)))["roles"]
        yield Parts(
            roles=roles,
            store=store,
            tasks=CyclingTasks(tasks, episodes=settings.episodes, purpose=settings.run.purpose),
            finished=finished,
        )


@asynccontextmanager
async def importing_experiences(settings: Settings, store: Store, say: Say) -> AsyncIterator[None]:
    """Import what the settings name; done while the engines start, which takes longer."""
    path = experience_file(settings)
    if path is not None:
        await say(f"importing real experiences from {path.name}")
        report = await import_jsonl(path, store)
        await say(f"{report.episodes + report.known:,} real episodes can be retrieved")
    yield
