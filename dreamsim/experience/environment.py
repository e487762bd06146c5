"""The dreamed environment: `Environment` over an experience model.

In: tasks. Out: sessions whose steps the experience model dreams.
Always: its source is `dreamed`; a finished episode takes no further step; a step that failed ends the session.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType

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
        return _Opening(self._model, task, episode_id, seed)


class _Opening(AbstractAsyncContextManager["DreamSession", None]):
    """What `async with` enters; smaller than a generator and its context, and every live episode holds one."""

    __slots__ = ("_begin",)

    def __init__(self, model: ExperienceModel, task: Task, episode_id: str, seed: int) -> None:
        self._begin = partial(model.dream, task, episode_id=episode_id, seed=seed)

    async def __aenter__(self) -> DreamSession:
        return DreamSession(await self._begin())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A dream holds nothing that has to be freed."""


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
