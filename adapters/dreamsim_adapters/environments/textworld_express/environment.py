"""TextWorldExpress as an `Environment`: real episodes, and the tasks they are made of.

In: tasks made by `tasks`, here or in an earlier run. Out: sessions whose states are the mapping's element lines.
Always:
- the reward is 1 at the step that solves the task and 0 at every other; the package's dense score is kept beside it;
- a session begins in the task's own first state, or not at all;
- the same task and actions give the same transitions, in every worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio

from dreamsim.errors import ConfigurationError, EnvironmentFailure, EpisodeFinishedError
from dreamsim.protocols import StateMapping
from dreamsim.records.episode import Source, StepOutcome, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim_adapters.environments.textworld_express.games import (
    DEFAULT_MIX,
    ENVIRONMENT,
    PACKAGE_VERSION,
    GameSpec,
    fold_seeds,
)
from dreamsim_adapters.environments.textworld_express.mapping import (
    TextWorldExpressMapping,
    instruction,
    raw_observation,
)
from dreamsim_adapters.environments.textworld_express.pool import LiveGame, Shown, WorkerPool

TASKS_AT_ONCE = 64


class TextWorldExpressEnvironment:
    """The eight games of textworld-express.

    Example:
        async with TextWorldExpressEnvironment() as environment:
            tasks = await environment.tasks(count=100, fold="test")
            async with environment.session(tasks[0], episode_id="one", seed=0) as session:
                print(session.state.text, session.admissible)
                transition = await session.step("open fridge")
    """

    def __init__(self, *, pool: WorkerPool | None = None, mapping: StateMapping | None = None) -> None:
        """Nothing starts before `async with`.

        Args:
            pool: worker processes; a new pool of one per core if left out. A given one may be shared: it must be
                entered by whoever made it, and is left alone here.
            mapping: from raw observations to states.
        """
        self.pool: WorkerPool = WorkerPool() if pool is None else pool
        """The worker processes."""
        self._owns_pool = pool is None
        self._mapping: StateMapping = TextWorldExpressMapping() if mapping is None else mapping

    @property
    def name(self) -> str:
        """Name and version."""
        return f"{ENVIRONMENT}-{PACKAGE_VERSION}"

    @property
    def source(self) -> Source:
        """Always `real`."""
        return "real"

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[TextWorldExpressSession]:
        """Begin an episode. The task's own seed decides the game; `seed` is not needed, as games draw nothing later.

        Raises:
            EnvironmentFailure: the task is none of this environment, its game differs from what the task says, or no
                worker could begin it.
        """
        spec = spec_of(task)
        async with self.pool.game(spec, fold=task.fold, seed=task.seed) as game:
            session = TextWorldExpressSession(game, self._mapping)
            if not session.state.same_as(task.first_state):
                raise EnvironmentFailure(
                    f"task {task.key} begins in another state than its game ({spec}, {task.fold} seed {task.seed}): "
                    "it was made by another version of the package or of the state mapping; make the tasks again"
                )
            yield session

    async def tasks(
        self,
        mix: Iterable[GameSpec] = DEFAULT_MIX,
        *,
        fold: str = "train",
        count: int = 100,
        first: int = 0,
    ) -> list[Task]:
        """`count` tasks of `fold`, the games of `mix` in turn; each game's seeds are taken from the `first` on.

        Raises:
            ConfigurationError: the fold has no so many seeds, or there is no such fold.
            EnvironmentFailure: a game could not be begun.
        """
        specs = tuple(mix)
        if not specs:
            raise ConfigurationError("the task mix is empty; name at least one game")
        seeds = fold_seeds(fold)
        last = first + (count - 1) // len(specs)
        if first < 0 or count < 0 or last >= len(seeds):
            raise ConfigurationError(
                f"{count} tasks of {len(specs)} games from seed number {first} on need {max(last + 1, 0)} seeds; "
                f"the fold {fold!r} has {len(seeds)}"
            )
        wanted = [(specs[index % len(specs)], seeds[first + index // len(specs)]) for index in range(count)]
        return await self.tasks_of(wanted, fold=fold)

    async def tasks_of(self, games: Sequence[tuple[GameSpec, int]], *, fold: str) -> list[Task]:
        """The tasks of these games and seeds, in order."""
        found: dict[int, Task] = {}
        turns = anyio.Semaphore(TASKS_AT_ONCE, fast_acquire=True)

        async def make(index: int, spec: GameSpec, seed: int) -> None:
            async with turns, self.pool.game(spec, fold=fold, seed=seed) as game:
                found[index] = Task(
                    environment=spec.environment,
                    instruction=instruction(spec.game, game.description, spec.parameters),
                    first_state=self._state(game),
                    fold=fold,
                    seed=seed,
                    parameters=dict(spec.parameters),
                )

        try:
            async with anyio.create_task_group() as group:
                for index, (spec, seed) in enumerate(games):
                    group.start_soon(make, index, spec, seed)
        except BaseExceptionGroup as errors:
            known = [error for error in errors.exceptions if isinstance(error, EnvironmentFailure)]
            if not known:
                raise
            raise known[0] from errors
        return [found[index] for index in range(len(games))]

    async def gold_path(self, task: Task) -> tuple[str, ...]:
        """Actions that solve `task` from its first state."""
        return await self.pool.gold_path(spec_of(task), fold=task.fold, seed=task.seed)

    def _state(self, game: LiveGame) -> State:
        return self._mapping.state(raw_of(game.shown))

    async def __aenter__(self) -> Self:
        if self._owns_pool:
            await self.pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owns_pool:
            await self.pool.__aexit__(kind, error, trace)


class TextWorldExpressSession:
    """One real episode. Made by `TextWorldExpressEnvironment.session`."""

    __slots__ = ("_admissible", "_game", "_mapping", "_over", "_state")

    def __init__(self, game: LiveGame, mapping: StateMapping) -> None:
        self._game = game
        self._mapping = mapping
        self._over = False
        self._state = mapping.state(raw_of(game.shown))
        self._admissible = game.shown.valid

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def admissible(self) -> tuple[str, ...]:
        """The package's valid actions, sorted."""
        return self._admissible

    async def step(self, action: str) -> Transition:
        """Take `action`.

        Raises:
            EpisodeFinishedError: the episode is over.
            EnvironmentFailure: the game could not be continued.
        """
        if self._over:
            raise EpisodeFinishedError("the episode is over; begin another one")
        shown = await self._game.step(action)
        outcome = _outcome(shown)
        self._state = self._mapping.state(raw_of(shown))
        self._admissible = shown.valid
        self._over = outcome != "running"
        return Transition(
            action=action,
            state=self._state,
            reward=1.0 if outcome == "success" else 0.0,
            outcome=outcome,
            admissible=self._admissible,
            score=shown.score,
        )


def spec_of(task: Task) -> GameSpec:
    """The game and parameters of a task.

    Raises:
        EnvironmentFailure: the task is of another environment, has parameters the game does not know, or was written by
            a model.
    """
    if task.synthetic:
        raise EnvironmentFailure(
            f"task {task.key} was written by a model: no real game begins so, it can be dreamed only"
        )
    environment, _, game = task.environment.partition("/")
    if environment != ENVIRONMENT:
        raise EnvironmentFailure(f"task {task.key} is of {task.environment!r}, not of {ENVIRONMENT}")
    numbers = {name: value for name, value in task.parameters.items() if isinstance(value, int)}
    try:
        return GameSpec(game=game, parameters=numbers)
    except ConfigurationError as error:
        raise EnvironmentFailure(f"task {task.key} cannot be set up: {error}") from error


def raw_of(shown: Shown) -> str:
    """The raw observation of a step, as the state mapping reads it."""
    return raw_observation(shown.feedback, shown.look, shown.inventory)


def _outcome(shown: Shown) -> StepOutcome:
    # A full score without the flag ends the episode in the package too.
    if shown.success or shown.score >= 1.0:
        return "success"
    return "failure" if shown.failure else "running"
