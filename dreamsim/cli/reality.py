"""The real environments that can be named on a command line.

In: a name. Out: the environment, its games and the policies that play it without a model.
Always: closed when the context is left; a package that is missing is named with its install line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from dreamsim.errors import ConfigurationError, EnvironmentFailure, MissingExtraError, UsageError
from dreamsim.protocols import Environment, Policy
from dreamsim.records.task import Task

REALITIES = ("textworld_express", "alfworld", "scripted")
"""Names of `open_reality`."""


class MakeTasks(Protocol):
    """Makes tasks of a real environment."""

    def __call__(self, games: Sequence[str], *, fold: str, count: int, first: int) -> Awaitable[Sequence[Task]]:
        """`count` tasks of `fold` from number `first` on, the `games` in turn (none: the environment's own mix)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reality:
    """A real environment, ready to play."""

    environment: Environment
    """Entered."""
    tasks: MakeTasks
    """Its games."""
    policy: Callable[[str], Policy]
    """An offline policy by name."""
    max_steps: int
    """Steps that an episode may take, where nothing else is said."""
    concurrency: int
    """Most episodes that it plays well at once."""


@asynccontextmanager
async def open_reality(name: str, *, rooms: int = 4) -> AsyncIterator[Reality]:
    """The real environment called `name` (`textworld_express/twc` is `textworld_express`).

    Args:
        name: one of `REALITIES`.
        rooms: size of the scripted world.

    Raises:
        UsageError: there is none, or its package or games are missing.
    """
    opening = {"textworld_express": _textworld_express, "alfworld": _alfworld, "scripted": _scripted}
    chosen = opening.get(name.partition("/")[0])
    if chosen is None:
        raise ConfigurationError(f"there is no real environment '{name}' here; there are {', '.join(REALITIES)}")
    async with chosen(rooms) as reality:
        yield reality


@asynccontextmanager
async def _textworld_express(rooms: int) -> AsyncIterator[Reality]:
    try:
        from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
        from dreamsim_adapters.environments.textworld_express.games import DEFAULT_MIX, STEP_LIMIT, GameSpec
        from dreamsim_adapters.environments.textworld_express.policies import offline_policy
    except ImportError as error:
        package = error.name or "textworld-express"
        raise MissingExtraError(package, extra="textworld-express", purpose="playing real games") from error

    async with TextWorldExpressEnvironment() as environment:

        async def tasks(games: Sequence[str], *, fold: str, count: int, first: int) -> Sequence[Task]:
            mix = tuple(GameSpec.parse(game) for game in games) or DEFAULT_MIX
            return await _told(environment.tasks(mix, fold=fold, count=count, first=first))

        yield Reality(
            environment=environment,
            tasks=tasks,
            policy=lambda name: offline_policy(name, environment),
            max_steps=STEP_LIMIT,
            concurrency=128,
        )


@asynccontextmanager
async def _alfworld(rooms: int) -> AsyncIterator[Reality]:
    try:
        from dreamsim_adapters.environments.alfworld.environment import AlfworldEnvironment
        from dreamsim_adapters.environments.alfworld.games import STEP_LIMIT, TASK_TYPES
        from dreamsim_adapters.environments.alfworld.policies import offline_policy
    except ImportError as error:
        raise MissingExtraError(error.name or "alfworld", extra="alfworld", purpose="playing ALFWorld") from error

    async with AlfworldEnvironment() as environment:

        async def tasks(games: Sequence[str], *, fold: str, count: int, first: int) -> Sequence[Task]:
            return await _told(environment.tasks(games or TASK_TYPES, fold=fold, count=count, first=first))

        yield Reality(
            environment=environment,
            tasks=tasks,
            policy=lambda name: offline_policy(name, environment),
            max_steps=STEP_LIMIT,
            concurrency=16,
        )


@asynccontextmanager
async def _scripted(rooms: int) -> AsyncIterator[Reality]:
    from dreamsim.testing.environment import ScriptedEnvironment
    from dreamsim.testing.policies import RandomPolicy, ScriptedPolicy
    from dreamsim.testing.world import scripted_tasks

    async def tasks(games: Sequence[str], *, fold: str, count: int, first: int) -> Sequence[Task]:
        # As in real folds, no seed is in two of them.
        offset = {"train": 0, "dev": 10_000, "test": 20_000}[fold]
        return scripted_tasks(count, first_seed=offset + first, fold=fold, rooms=rooms)

    def policy(name: str) -> Policy:
        if name not in ("gold", "random"):
            raise ConfigurationError(f"there is no policy '{name}' here; there are gold and random")
        return ScriptedPolicy() if name == "gold" else RandomPolicy()

    environment = ScriptedEnvironment(source="real")
    yield Reality(environment=environment, tasks=tasks, policy=policy, max_steps=20, concurrency=128)


async def _told(made: Awaitable[Sequence[Task]]) -> Sequence[Task]:
    try:
        return await made
    except EnvironmentFailure as error:
        raise UsageError(f"the environment makes no tasks: {error}") from error
