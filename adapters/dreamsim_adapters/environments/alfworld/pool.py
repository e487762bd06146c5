"""ALFWorld's games in worker processes.

In: game files to play (`game`) and solutions to tell (`path`). Out: what the games show. Always: as `ProcessPool`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreamsim.errors import MissingExtraError
from dreamsim_adapters.environments.alfworld.games import Dialect
from dreamsim_adapters.environments.workers.frames import JsonObject
from dreamsim_adapters.environments.workers.pool import ProcessPool, Replayable

MODULE = "dreamsim_adapters.environments.alfworld.worker"

Solver = Literal["planner", "expert"]
"""Who solves a game: the planner, who knows where everything is, or the package's handcoded expert, who searches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a game shows after a reset or a step, as the engine says it."""

    feedback: str
    """What the action gave; after a reset, the opening with the task in it."""
    admissible: tuple[str, ...]
    """Actions that can be taken, sorted."""
    won: bool
    """Whether the task is solved."""


class WorkerPool(ProcessPool):
    """Workers for as many games as are asked for. Use it as `async with WorkerPool() as pool:`."""

    def __init__(
        self,
        *,
        workers: int | None = None,
        games_per_worker: int = 64,
        silence_s: float = 600.0,
        start_s: float = 300.0,
        restarts: int = 5,
    ) -> None:
        """As `ProcessPool`; loading and planning take seconds, on a busy machine minutes, in which a worker answers
        nothing.

        Raises:
            ConfigurationError: a value makes no sense.
            MissingExtraError: alfworld is not installed.
        """
        super().__init__(
            MODULE,
            workers=workers,
            games_per_worker=games_per_worker,
            silence_s=silence_s,
            start_s=start_s,
            restarts=restarts,
        )
        for package in ("alfworld", "textworld", "fast_downward"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, extra="alfworld", purpose="playing ALFWorld")

    async def vocabulary(self) -> tuple[str, ...]:
        """Kinds of things that occur in the games."""
        return tuple((await self.hello())["vocabulary"])

    @asynccontextmanager
    async def game(self, file: Path) -> AsyncIterator[LiveGame]:
        """Begin a game; leaving the context frees its place.

        Raises:
            EnvironmentFailure: no worker could begin it.
        """
        async with self.play({"game": str(file)}, said=file.parent.name, loaded=str(file)) as game:
            yield LiveGame(game)

    async def path(self, file: Path, by: Solver) -> tuple[str, ...]:
        """Actions from the beginning of the game on: a solution, or what the expert tried in 100 steps.

        Raises:
            EnvironmentFailure: no worker could tell.
        """
        answer = await self.ask(
            {"op": "path", "game": str(file), "by": by}, said=f"{by}'s path of {file.parent.name}", loaded=str(file)
        )
        return tuple(answer["path"])


class LiveGame:
    """One game being played. Made by `WorkerPool.game`."""

    __slots__ = ("_game", "shown")

    def __init__(self, game: Replayable) -> None:
        self._game = game
        self.shown = _shown(game.opened)
        """What the game shows now."""

    @property
    def dialect(self) -> Dialect:
        """Which texts and actions it has."""
        dialect: Dialect = self._game.opened["dialect"]
        return dialect

    async def step(self, action: str) -> Shown:
        """Take `action`.

        Raises:
            EnvironmentFailure: the game failed or could not be taken up again after its worker was lost.
        """
        self.shown = _shown(await self._game.step(action))
        return self.shown


def _shown(answer: JsonObject) -> Shown:
    return Shown(feedback=answer["feedback"], admissible=tuple(answer["admissible"]), won=bool(answer["won"]))
