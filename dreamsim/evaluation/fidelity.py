"""One-step fidelity of an experience model: real episodes, replayed step by step, each next state foretold.

In: held-out real episodes, an experience model, or a retriever for the nearest-neighbour baseline. Out: one
`StepRecord` per real step.
Always:
- every step is foretold from the real history (teacher forcing), by the code that dreams: same prompt, same retrieval,
  same resampling;
- a step that could not be foretold counts as wrong everywhere;
- nothing that is foretold enters a prompt or a store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio

from dreamsim.errors import ContextOverflowError, ExperienceError
from dreamsim.experience.model import ExperienceModel
from dreamsim.protocols import Retriever
from dreamsim.records.episode import Episode, StepOutcome, Transition
from dreamsim.records.experience import ExperienceQuery
from dreamsim.records.state import RESULT, State, StateMemory, apply_changes
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import seed_of

Determined = Callable[[Episode], Sequence[bool]]
"""For each step of an episode, whether what came before it decides the next state. Environments know."""

FAILED = "failed"
"""What the `result` line of a state says after an action that could not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What was foretold of one real step, and what was true."""

    episode_id: str
    """The real episode."""
    step: int
    """Index of the step, from 0."""
    environment: str
    """As in `Task.environment`."""
    policy: str
    """Who played the real episode."""
    action: str
    """The real action."""
    determined: bool
    """Whether the history decides the next state."""
    samples: int
    """Outputs until one was a transition; 0 if none was."""
    exact: bool
    """Whether the state foretold is the real one."""
    outcome: StepOutcome
    """The real outcome."""
    foretold_outcome: StepOutcome | None
    """The outcome foretold; None if none was."""
    reward: float
    """The real reward."""
    foretold_reward: float | None
    """The reward foretold; None if none was."""
    failure: bool
    """Whether the real action could not work and changed nothing."""
    failure_shown: bool
    """Whether a failure was foretold: the failure line, nothing else changed, no reward, and the task goes on."""
    foretold_state: tuple[str, ...] = ()
    """Lines of the state foretold."""
    problem: str = ""
    """Why nothing was foretold, if so."""

    @property
    def verb(self) -> str:
        """First word of the action."""
        return (self.action.split() or [""])[0]


class Foretelling(Protocol):
    """Follows one real episode."""

    async def predict(self, action: str) -> Transition:
        """What `action` would lead to. Raises ExperienceError or ContextOverflowError when it cannot say."""
        ...

    def follow(self, transition: Transition) -> None:
        """What it really led to."""
        ...


class Foreteller(Protocol):
    """Foretells steps of any number of episodes."""

    async def begin(self, episode: Episode) -> Foretelling:
        """Ready for the first step of `episode`; looks at its task and id alone."""
        ...


class DreamForeteller:
    """An experience model as it dreams, but for the history, which is the real one."""

    def __init__(self, model: ExperienceModel, *, seed: int = 0) -> None:
        """`seed` is the root of the seeds of sampling."""
        self._model = model
        self._seed = seed

    async def begin(self, episode: Episode) -> Foretelling:
        """A dream of the episode's task."""
        seed = seed_of(self._seed, "fidelity", episode.id)
        return await self._model.dream(episode.task, episode_id=f"fidelity-{episode.id}", seed=seed)


class NearestNeighbour:
    """The baseline: what happened in the most similar stored real step of another task happens again."""

    def __init__(self, retriever: Retriever, *, same_environment: bool = True) -> None:
        """`same_environment` as the experience model's setting of that name."""
        self._retriever = retriever
        self._same_environment = same_environment

    async def begin(self, episode: Episode) -> Foretelling:
        """A neighbour for every step of the episode."""
        return _Neighbour(self._retriever, episode.task, same_environment=self._same_environment)


class _Neighbour:
    def __init__(self, retriever: Retriever, task: Task, *, same_environment: bool) -> None:
        self._retriever = retriever
        self._task = task
        self._same_environment = same_environment
        self._memory = StateMemory(task.first_state)

    async def predict(self, action: str) -> Transition:
        """What happened in the nearest step."""
        query = ExperienceQuery(
            state=self._memory.current.lines,
            action=action,
            k=1,
            environment=self._task.environment if self._same_environment else None,
            exclude_task=self._task.key,
        )
        found = await self._retriever.retrieve(query)
        if not found:
            raise ExperienceError("no stored experience to go by")
        nearest = found[0]
        return Transition(
            action=action,
            state=apply_changes(self._memory, nearest.changes),
            reward=nearest.reward,
            outcome=nearest.outcome,
            retrieved=(nearest.id,),
        )

    def follow(self, transition: Transition) -> None:
        """Remember the real state."""
        self._memory.see(transition.state)


async def foretell(
    episodes: Sequence[Episode],
    foreteller: Foreteller,
    *,
    determined: Determined,
    concurrency: int = 256,
    failed: str = FAILED,
    progress: Callable[[int], None] | None = None,
) -> list[StepRecord]:
    """Foretell every step of `episodes`; records in the order of episodes and steps.

    Args:
        episodes: real ones, none of which anybody learned from.
        foreteller: who foretells.
        determined: says of each step whether the history decides the next state.
        concurrency: episodes followed at once.
        failed: what a failure's `result` line says.
        progress: called with the number of episodes done, after each.

    Raises:
        EngineError: the engine failed: a measurement with holes would be none.
    """
    found: dict[int, list[StepRecord]] = {}
    turns = anyio.Semaphore(concurrency)

    async def follow(index: int, episode: Episode) -> None:
        async with turns:
            found[index] = await _follow(episode, foreteller, determined(episode), failed)
        if progress is not None:
            progress(len(found))

    try:
        async with anyio.create_task_group() as group:
            for index, episode in enumerate(episodes):
                group.start_soon(follow, index, episode)
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors
    return [record for index in range(len(episodes)) for record in found[index]]


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error: episodes that meet the same dead engine say the same."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _follow(
    episode: Episode, foreteller: Foreteller, determined: Sequence[bool], failed: str
) -> list[StepRecord]:
    foretelling = await foreteller.begin(episode)
    records: list[StepRecord] = []
    before = episode.task.first_state
    for index, (real, known) in enumerate(zip(episode.transitions, determined, strict=True)):
        foretold: Transition | None = None
        problem = ""
        try:
            foretold = await foretelling.predict(real.action)
        except (ExperienceError, ContextOverflowError) as error:
            problem = f"{error.kind}: {error}"
        failure = failure_of(before, failed)
        records.append(
            StepRecord(
                episode_id=episode.id,
                step=index,
                environment=episode.task.environment,
                policy=episode.policy,
                action=real.action,
                determined=known,
                samples=0 if foretold is None else foretold.samples,
                exact=foretold is not None and foretold.state.same_as(real.state),
                outcome=real.outcome,
                foretold_outcome=None if foretold is None else foretold.outcome,
                reward=real.reward,
                foretold_reward=None if foretold is None else foretold.reward,
                failure=_shows(real, failure),
                failure_shown=foretold is not None and _shows(foretold, failure),
                foretold_state=() if foretold is None else foretold.state.lines,
                problem=problem,
            )
        )
        foretelling.follow(real)
        before = real.state
    return records


def failure_of(before: State, failed: str = FAILED) -> State:
    """The state after an action that cannot work: the one before, with the failure as its result."""
    return State.from_elements({**before.elements, RESULT: failed})


def _shows(transition: Transition, failure: State) -> bool:
    return transition.state.same_as(failure) and transition.reward == 0 and not transition.done
