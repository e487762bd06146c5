"""One-step fidelity of an experience model: real episodes, replayed step by step, each next state foretold.

In: held-out real episodes; an experience model, or a retriever for the nearest-neighbour baseline; the environment's
ledger and a verifier, where there are any. Out: one `StepRecord` per real step.
Always:
- every step is foretold from the real history (teacher forcing), by the code that dreams: same prompt, same retrieval,
  same resampling;
- a step that could not be foretold counts as wrong everywhere;
- the verifier's word is asked of the foretold step after the real history, and stands beside the model's own;
- nothing that is foretold enters a prompt or a store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import anyio

from dreamsim.errors import ContextOverflowError, ExperienceError, TruncationError
from dreamsim.experience.model import ExperienceModel
from dreamsim.protocols import LedgerSession, Retriever, StateLedger, Verifier
from dreamsim.records.episode import Episode, StepOutcome, Transition
from dreamsim.records.experience import ExperienceQuery
from dreamsim.records.state import RESULT, State, StateMemory, apply_changes
from dreamsim.records.task import Task
from dreamsim.records.trust import GateFeatures, Trust
from dreamsim.runtime.seeds import seed_of

R = TypeVar("R")

Determined = Callable[[Episode], Sequence[bool]]
"""For each step of an episode, whether what came before it decides the next state. Environments know."""

NOT_FORETOLD = (ExperienceError, TruncationError, ContextOverflowError)
"""What ends a foretelling without a word; any other error ends the measurement."""

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
    similarity: float = 0.0
    """Lines that the real and the foretold state share, over all lines of both (Jaccard's index); 0 if none was."""
    contradictions: int | None = None
    """Contradictions that the ledger finds in what was foretold; None without a ledger, or if nothing was."""
    verified_outcome: StepOutcome | None = None
    """What the verifier makes of the foretold outcome; the latter itself where it has no say."""
    features: GateFeatures | None = None
    """What an uncertainty gate looked at."""
    uncertainty: float | None = None
    """The gate's calibrated chance that what was foretold is wrong."""
    foretold_state: tuple[str, ...] = ()
    """Lines of the state foretold."""
    problem: str = ""
    """Why nothing was foretold, if so."""
    task: str = ""
    """Key of the task, which several episodes may have in common."""

    @property
    def right(self) -> bool:
        """Whether state and outcome are foretold as they came."""
        return self.exact and self.foretold_outcome == self.outcome

    @property
    def valid(self) -> bool:
        """Whether it is a transition that contradicts nothing."""
        return self.samples > 0 and not self.contradictions

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

    async def step(self, action: str) -> Transition:
        """What `action` would lead to, and go on from there instead of from what really happened."""
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

    async def step(self, action: str) -> Transition:
        """What happened in the nearest step, and go on from there."""
        transition = await self.predict(action)
        self.follow(transition)
        return transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnesses:
    """Who else is asked about what was foretold."""

    ledgers: Callable[[str], StateLedger | None] | None = None
    """Environment name -> who keeps the books of an episode there, and says what contradicts them."""
    verifiers: Callable[[str], Verifier | None] | None = None
    """Environment name -> who says what a foretold step would have led to."""

    def books(self, task: Task) -> LedgerSession | None:
        """New books for an episode of `task`, if anybody keeps them."""
        ledger = None if self.ledgers is None else self.ledgers(task.environment)
        return None if ledger is None else ledger.open(task)

    def verifier(self, task: Task) -> Verifier | None:
        """Who verifies an episode of `task`, if anybody."""
        return None if self.verifiers is None else self.verifiers(task.environment)


async def foretell(
    episodes: Sequence[Episode],
    foreteller: Foreteller,
    *,
    determined: Determined,
    witnesses: Witnesses | None = None,
    concurrency: int = 256,
    failed: str = FAILED,
    progress: Callable[[int], None] | None = None,
) -> list[StepRecord]:
    """Foretell every step of `episodes`; records in the order of episodes and steps.

    Args:
        episodes: real ones, none of which anybody learned from.
        foreteller: who foretells.
        determined: says of each step whether the history decides the next state.
        witnesses: who else is asked.
        concurrency: episodes followed at once.
        failed: what a failure's `result` line says.
        progress: called with the number of episodes done, after each.

    Raises:
        EngineError: the engine failed: a measurement with holes would be none.
    """

    async def follow(episode: Episode) -> list[StepRecord]:
        return await _follow(episode, foreteller, determined(episode), witnesses or Witnesses(), failed)

    return await each(episodes, follow, concurrency=concurrency, progress=progress)


async def each(
    episodes: Sequence[Episode],
    follow: Callable[[Episode], Awaitable[Sequence[R]]],
    *,
    concurrency: int,
    progress: Callable[[int], None] | None = None,
) -> list[R]:
    """What `follow` finds in every episode, at most `concurrency` of them at once; in the order of the episodes."""
    found: dict[int, Sequence[R]] = {}
    turns = anyio.Semaphore(concurrency)

    async def one(index: int, episode: Episode) -> None:
        async with turns:
            found[index] = await follow(episode)
        if progress is not None:
            progress(len(found))

    try:
        async with anyio.create_task_group() as group:
            for index, episode in enumerate(episodes):
                group.start_soon(one, index, episode)
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
    episode: Episode, foreteller: Foreteller, determined: Sequence[bool], witnesses: Witnesses, failed: str
) -> list[StepRecord]:
    foretelling = await foreteller.begin(episode)
    books, verifier = witnesses.books(episode.task), witnesses.verifier(episode.task)
    records: list[StepRecord] = []
    before = episode.task.first_state
    for index, (real, known) in enumerate(zip(episode.transitions, determined, strict=True)):
        foretold: Transition | None = None
        problem = ""
        try:
            foretold = await foretelling.predict(real.action)
        except NOT_FORETOLD as error:
            problem = f"{error.kind}: {error}"
        record = _record(episode, index, foretold, determined=known, failure=failure_of(before, failed))
        if foretold is not None:
            verified = await _verified(verifier, episode, index, foretold, books)
            contradictions = None if books is None else len(books.contradictions(foretold))
            record = replace(record, verified_outcome=verified, contradictions=contradictions)
        records.append(replace(record, problem=problem))
        foretelling.follow(real)
        if books is not None:
            books.see(real)
        before = real.state
    return records


def _record(
    episode: Episode, index: int, foretold: Transition | None, *, determined: bool, failure: State
) -> StepRecord:
    real = episode.transitions[index]
    what_was_real: dict[str, Any] = {
        "episode_id": episode.id,
        "step": index,
        "task": episode.task.key,
        "environment": episode.task.environment,
        "policy": episode.policy,
        "action": real.action,
        "determined": determined,
        "outcome": real.outcome,
        "reward": real.reward,
        "failure": _shows(real, failure),
    }
    if foretold is None:
        nothing: dict[str, Any] = {"samples": 0, "exact": False, "foretold_outcome": None, "foretold_reward": None}
        return StepRecord(**what_was_real, **nothing, failure_shown=False)
    trust = foretold.trust or Trust()
    return StepRecord(
        **what_was_real,
        samples=foretold.samples,
        exact=foretold.state.same_as(real.state),
        similarity=similarity(foretold.state, real.state),
        foretold_outcome=trust.claimed or foretold.outcome,
        foretold_reward=foretold.reward,
        failure_shown=_shows(foretold, failure),
        features=trust.features,
        uncertainty=trust.uncertainty,
        foretold_state=foretold.state.lines,
    )


async def _verified(
    verifier: Verifier | None, episode: Episode, index: int, foretold: Transition, books: LedgerSession | None
) -> StepOutcome:
    if foretold.trust is not None and foretold.trust.verdict is not None:  # asked while dreaming
        return foretold.trust.verdict.outcome or foretold.outcome
    if verifier is None:
        return foretold.outcome
    verdict = await verifier.verify(episode.task, episode.transitions[:index], foretold, books=books)
    return verdict.outcome or foretold.outcome


def similarity(one: State, other: State) -> float:
    """Jaccard's index of two states' elements, |A ∩ B| / |A ∪ B|; 1 for two empty states."""
    first, second = set(one.elements.items()), set(other.elements.items())
    whole = len(first | second)
    return len(first & second) / whole if whole else 1.0


def failure_of(before: State, failed: str = FAILED) -> State:
    """The state after an action that cannot work: the one before, with the failure as its result."""
    return State.from_elements({**before.elements, RESULT: failed})


def _shows(transition: Transition, failure: State) -> bool:
    return transition.state.same_as(failure) and transition.reward == 0 and not transition.done
