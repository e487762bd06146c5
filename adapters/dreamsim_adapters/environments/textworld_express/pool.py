"""The games of textworld-express in worker processes, each with a Java machine.

In: games to play (`game`) and gold paths to tell (`gold_path`). Out: what the games show. Always: as `ProcessPool`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dreamsim.errors import MissingExtraError
from dreamsim_adapters.environments.textworld_express.games import GameSpec
from dreamsim_adapters.environments.workers.frames import JsonObject
from dreamsim_adapters.environments.workers.pool import ProcessPool, Replayable

MODULE = "dreamsim_adapters.environments.textworld_express.worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a game shows after a reset or a step, as the package says it."""

    feedback: str
    """What the action gave; after a reset, the first observation."""
    look: str
    """The room as it is now."""
    inventory: str
    """What is carried."""
    valid: tuple[str, ...]
    """Actions that can be taken, sorted."""
    score: float
    """The game's own score, at most 1."""
    success: bool
    """Whether the task is solved."""
    failure: bool
    """Whether it can no longer be."""


class WorkerPool(ProcessPool):
    """Workers for as many games as are asked for. Use it as `async with WorkerPool() as pool:`."""

    def __init__(
        self,
        *,
        workers: int | None = None,
        games_per_worker: int = 512,
        silence_s: float = 30.0,
        start_s: float = 60.0,
        restarts: int = 5,
    ) -> None:
        """As `ProcessPool`; a game takes about 0.2 MB of a Java machine.

        Raises:
            ConfigurationError: a value makes no sense.
            MissingExtraError: textworld-express is not installed.
        """
        super().__init__(
            MODULE,
            workers=workers,
            games_per_worker=games_per_worker,
            silence_s=silence_s,
            start_s=start_s,
            restarts=restarts,
        )
        if importlib.util.find_spec("textworld_express") is None:
            raise MissingExtraError("textworld-express", extra="textworld-express", purpose="playing TextWorldExpress")

    async def vocabulary(self) -> tuple[str, ...]:
        """Names of things that occur in training games."""
        return tuple((await self.hello())["vocabulary"])

    @asynccontextmanager
    async def game(self, spec: GameSpec, *, fold: str, seed: int) -> AsyncIterator[LiveGame]:
        """Begin a game; leaving the context frees its place.

        Raises:
            EnvironmentFailure: no worker could begin it.
        """
        async with self.play(_game_fields(spec, fold, seed), said=str(spec)) as game:
            yield LiveGame(game)

    async def gold_path(self, spec: GameSpec, *, fold: str, seed: int) -> tuple[str, ...]:
        """Actions that solve the game from its beginning. The package draws them anew each time in `coin` and `twc`.

        Raises:
            EnvironmentFailure: no worker could tell.
        """
        request = {"op": "gold", **_game_fields(spec, fold, seed)}
        return tuple((await self.ask(request, said=f"gold path of {spec}, seed {seed}"))["gold"])


class LiveGame:
    """One game being played. Made by `WorkerPool.game`."""

    __slots__ = ("_game", "shown")

    def __init__(self, game: Replayable) -> None:
        self._game = game
        self.shown = _shown(game.opened)
        """What the game shows now."""

    @property
    def description(self) -> str:
        """The task in the package's words."""
        return str(self._game.opened["description"])

    async def step(self, action: str) -> Shown:
        """Take `action`.

        Raises:
            EnvironmentFailure: the game failed or could not be taken up again after its worker was lost.
        """
        self.shown = _shown(await self._game.step(action))
        return self.shown


def _game_fields(spec: GameSpec, fold: str, seed: int) -> JsonObject:
    return {"game": spec.game, "parameters": spec.package_text, "fold": fold, "seed": seed}


def _shown(answer: JsonObject) -> Shown:
    return Shown(
        feedback=answer["feedback"],
        look=answer["look"],
        inventory=answer["inventory"],
        valid=tuple(answer["valid"]),
        score=float(answer["score"]),
        success=bool(answer["success"]),
        failure=bool(answer["failure"]),
    )
