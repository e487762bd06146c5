"""ALFWorld as an `Environment`: real episodes, and the tasks they are made of.

In: tasks made by `tasks`, here or in an earlier run. Out: sessions whose states are the mapping's element lines.
Always:
- the reward is 1 at the step that solves the task and 0 at every other; no game can be lost;
- a session begins in the task's own first state and dialect, or not at all;
- the same task and actions give the same transitions, in every worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from dreamsim.errors import ConfigurationError, EnvironmentFailure, EpisodeFinishedError
from dreamsim.protocols import StateMapping
from dreamsim.records.episode import Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim_adapters.environments.alfworld.actions import parse_action
from dreamsim_adapters.environments.alfworld.games import (
    ENVIRONMENT,
    PACKAGE_VERSION,
    TASK_TYPES,
    checked_id,
    data_folder,
    game_file,
    game_ids,
    task_type,
)
from dreamsim_adapters.environments.alfworld.mapping import AlfworldMapping, instruction_of, transcript
from dreamsim_adapters.environments.alfworld.pool import LiveGame, Solver, WorkerPool

TASKS_AT_ONCE = 8
"""Games loaded at once while tasks are made."""


class AlfworldEnvironment:
    """The games of an `ALFWORLD_DATA` folder.

    Example:
        async with AlfworldEnvironment() as environment:
            tasks = await environment.tasks(count=10, fold="test")
            async with environment.session(tasks[0], episode_id="one", seed=0) as session:
                print(session.state.text, session.admissible)
                transition = await session.step("go to fridge 1")
    """

    def __init__(
        self, *, data: Path | None = None, pool: WorkerPool | None = None, mapping: StateMapping | None = None
    ) -> None:
        """Nothing starts before `async with`.

        Args:
            data: the folder of the games; by default what the variable `ALFWORLD_DATA` names.
            pool: worker processes; a new pool of one per core if left out. A given one may be shared: it must be
                entered by whoever made it, and is left alone here.
            mapping: from transcripts to states.

        Raises:
            ConfigurationError: no folder is named.
            MissingExtraError: alfworld is not installed.
        """
        self.data: Path = data_folder(data).absolute()
        """The folder of the games."""
        self.pool: WorkerPool = WorkerPool() if pool is None else pool
        """The worker processes."""
        self._owns_pool = pool is None
        self._mapping: StateMapping = AlfworldMapping() if mapping is None else mapping

    @property
    def name(self) -> str:
        """Name and version."""
        return f"{ENVIRONMENT}-{PACKAGE_VERSION}"

    @property
    def source(self) -> Source:
        """Always `real`."""
        return "real"

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[AlfworldSession]:
        """Begin an episode. The game is the task's; `seed` is not needed, as games draw nothing.

        Raises:
            EnvironmentFailure: the task is none of this environment, its game differs from what the task says, or no
                worker could begin it.
        """
        game_id = game_of(task)
        async with self.pool.game(game_file(self.data, game_id)) as game:
            session = AlfworldSession(game, self._mapping)
            if not session.state.same_as(task.first_state) or game.dialect != task.parameters.get("dialect"):
                raise EnvironmentFailure(
                    f"task {task.key} begins otherwise than its game {game_id} in {self.data}: it was made from other "
                    "game files, another dialect or by another version of the state mapping; make the tasks again"
                )
            yield session

    async def tasks(
        self, types: Iterable[str] = TASK_TYPES, *, fold: str = "train", count: int | None = None, first: int = 0
    ) -> list[Task]:
        """`count` tasks of `fold` from number `first` on, or all there are; the task types come in turn.

        Raises:
            ConfigurationError: there are no so many games, or no such fold or type.
            EnvironmentFailure: a game could not be begun.
        """
        wanted = tuple(types)
        ids = await anyio.to_thread.run_sync(lambda: game_ids(self.data, fold, wanted))
        last = len(ids) if count is None else first + count
        if first < 0 or not first < last <= len(ids):
            raise ConfigurationError(
                f"games {first} to {last} of fold {fold!r} are asked for; {self.data} holds {len(ids)} of it"
            )
        return await self.tasks_of(ids[first:last], fold=fold)

    async def tasks_of(self, ids: Sequence[str], *, fold: str) -> list[Task]:
        """The tasks of these games, in order."""
        found: dict[int, Task] = {}
        turns = anyio.Semaphore(TASKS_AT_ONCE, fast_acquire=True)

        async def make(index: int, game_id: str) -> None:
            async with turns, self.pool.game(game_file(self.data, game_id)) as game:
                opening = game.shown.feedback
                found[index] = Task(
                    environment=f"{ENVIRONMENT}/{task_type(game_id)}",
                    instruction=instruction_of(opening),
                    first_state=self._mapping.state(opening),
                    fold=fold,
                    parameters={"game": game_id, "dialect": game.dialect},
                )

        try:
            async with anyio.create_task_group() as group:
                for index, game_id in enumerate(ids):
                    group.start_soon(make, index, game_id)
        except BaseExceptionGroup as errors:
            known = [error for error in errors.exceptions if isinstance(error, EnvironmentFailure)]
            if not known:
                raise
            raise known[0] from errors
        return [found[index] for index in range(len(ids))]

    async def solution(self, task: Task, by: Solver = "planner") -> tuple[str, ...]:
        """Actions that solve `task` from its first state; the expert's may not."""
        path = await self.pool.path(game_file(self.data, game_of(task)), by)
        return _named_places(path) if by == "planner" else path

    async def __aenter__(self) -> Self:
        if self._owns_pool:
            await self.pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owns_pool:
            await self.pool.__aexit__(kind, error, trace)


class AlfworldSession:
    """One real episode. Made by `AlfworldEnvironment.session`."""

    __slots__ = ("_game", "_mapping", "_over", "_state", "_transcript")

    def __init__(self, game: LiveGame, mapping: StateMapping) -> None:
        self._game = game
        self._mapping = mapping
        self._over = False
        self._transcript = game.shown.feedback
        self._state = mapping.state(self._transcript)

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def admissible(self) -> tuple[str, ...]:
        """The engine's admissible commands, sorted."""
        return self._game.shown.admissible

    async def step(self, action: str) -> Transition:
        """Take `action`.

        Raises:
            EpisodeFinishedError: the episode is over.
            EnvironmentFailure: the game could not be continued.
        """
        if self._over:
            raise EpisodeFinishedError("the episode is over; begin another one")
        shown = await self._game.step(action)
        self._transcript = transcript(self._transcript, [(action, shown.feedback)])
        self._state = self._mapping.state(self._transcript)
        self._over = shown.won
        return Transition(
            action=action,
            state=self._state,
            reward=1.0 if shown.won else 0.0,
            outcome="success" if shown.won else "running",
            admissible=shown.admissible,
        )


def _named_places(path: Sequence[str]) -> tuple[str, ...]:
    """The planner's path, each walk ending at the place that is used next.

    Some places can be reached from one spot, and the planner walks to any one of them: it would take from a shelf that
    nobody has seen while it stands at a drawer.
    """
    walked = list(path)
    for index, action in enumerate(path[:-1]):
        used = parse_action(path[index + 1]).place
        if parse_action(action).verb == "go" and used:
            walked[index] = f"go to {used}"
    return tuple(walked)


def game_of(task: Task) -> str:
    """The id of a task's game.

    Raises:
        EnvironmentFailure: the task is of another environment, or names no game.
    """
    game = task.parameters.get("game")
    if task.environment.partition("/")[0] != ENVIRONMENT or not isinstance(game, str):
        raise EnvironmentFailure(f"task {task.key} is of {task.environment!r} and names no game of {ENVIRONMENT}")
    try:
        return checked_id(game)
    except ConfigurationError as error:
        raise EnvironmentFailure(f"task {task.key}: {error}") from error
