"""The dreamed environment: `Environment` over an experience model.

In: tasks. Out: sessions whose steps the experience model dreams.
Always: its source is `dreamed`; a finished episode takes no further step; a step that failed ends the session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from dreamsim.errors import EpisodeFinishedError
from dreamsim.experience.model import Dream, ExperienceModel
from dreamsim.records.episode import Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task


class DreamEnvironment:
    """Where episodes are dreamed."""

    def __init__(self, model: ExperienceModel) -> None:
        self._model = model

    @property
    def name(self) -> str:
        """Name and version of the experience model."""
        return self._model.name

    @property
    def source(self) -> Source:
        """`dreamed`."""
        return "dreamed"

    def session(self, task: Task, *, episode_id: str, seed: int) -> AbstractAsyncContextManager[DreamSession]:
        """Begin a dreamed episode of `task`."""
        return self._session(task, episode_id, seed)

    @asynccontextmanager
    async def _session(self, task: Task, episode_id: str, seed: int) -> AsyncIterator[DreamSession]:
        yield DreamSession(await self._model.dream(task, episode_id=episode_id, seed=seed))


class DreamSession:
    """One dreamed episode."""

    __slots__ = ("_dream", "_over")

    def __init__(self, dream: Dream) -> None:
        self._dream = dream
        self._over = False

    @property
    def state(self) -> State:
        """The present state."""
        return self._dream.memory.current

    @property
    def admissible(self) -> tuple[str, ...]:
        """Empty: a dream does not list what can be done."""
        return ()

    async def step(self, action: str) -> Transition:
        """Take `action`.

        Raises:
            EpisodeFinishedError: the episode is over.
            EpisodeError: the step could not be dreamed.
        """
        if self._over:
            raise EpisodeFinishedError("this episode is over: begin a new session")
        self._over = True  # stays so if the step fails
        transition = await self._dream.step(action)
        self._over = transition.done
        return transition
