"""Every seam of dreamsim: what one part may expect of another.

In: records. Out: records. Always: a method is async if and only if it can wait; cancelling a call cancels what
it started, down to the engine's request. Each protocol has a public contract check in `dreamsim.testing`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dreamsim.records.batch import Batch
from dreamsim.records.completion import ChatAnswer, Completion, Decision, GenerationRequest
from dreamsim.records.episode import Episode, Purpose, Source, StepOutcome, Transition
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.sample import TokenSample
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction, Verdict
from dreamsim.records.weights import InFlight, WeightsUpdate


class Tokenizer(Protocol):
    """Text to token ids and back. Fast enough to call with one step's text; never with a whole history."""

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        ...

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`, no special tokens added; tags that the vocabulary holds become one id each."""
        ...

    def decode(self, token_ids: NDArray[np.int32]) -> str:
        """Text of the ids, tags included."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Generates tokens. One verb; thousands of calls at once."""

    @property
    def name(self) -> str:
        """The model's name, for provenance."""
        ...

    @property
    def version(self) -> str:
        """Version of the weights now in use."""
        ...

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and answer together."""
        ...

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer `request`. Cancelling the call aborts the request in the engine.

        Raises:
            EngineError: generation failed; `recoverable` tells whether another try can help.
            ContextOverflowError: prompt and answer do not fit.
        """
        ...


@runtime_checkable
class WeightsReceiver(Protocol):
    """What can take new weights while it answers: an engine, or one adapter of it."""

    @property
    def version(self) -> str:
        """Version of the weights now in use; its last digits are `WeightsUpdate.version` once one was loaded."""
        ...

    async def load_weights(self, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Answer with these weights from now on; returns when every new request is answered by them.

        Afterwards nothing that was computed with the old weights (cached prefixes) is used for the new ones, and
        `Completion.version` says which weights an answer was begun with. Loading is one at a time.

        Raises:
            EngineError: they could not be loaded; it is not recoverable where the engine may hold half of them.
            ConfigurationError: weights of this kind cannot be loaded here; nothing has changed.
        """
        ...


class LogprobScorer(Protocol):
    """Says what a trainer's present weights think of tokens. Blocks: call it in a thread."""

    def logprobs(self, samples: Sequence[TokenSample]) -> NDArray[np.float32]:
        """Log-probabilities of the agent's tokens, in order, at the sampling temperature; shape [agent tokens]."""
        ...


class Policy(Protocol):
    """Decides the next action. One object serves all episodes; what belongs to one episode is in its `Actor`."""

    @property
    def name(self) -> str:
        """Name and version, for provenance; the version changes when the weights do."""
        ...

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who plays one episode of `task`, sampling from the named `seed`."""
        ...


class Actor(Protocol):
    """Plays one episode."""

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """Decide, given the present state (the first call gets the task's first state).

        Raises:
            PolicyError: no usable action within the allowed number of samples.
        """
        ...


class EpisodeSession(Protocol):
    """One episode running in an environment."""

    @property
    def state(self) -> State:
        """The present state."""
        ...

    @property
    def admissible(self) -> tuple[str, ...]:
        """Actions possible now; empty where the environment does not tell."""
        ...

    async def step(self, action: str) -> Transition:
        """Take `action`.

        Raises:
            EpisodeFinishedError: the episode is over.
            EpisodeError: the step could not be computed; the episode ends.
        """
        ...


class Environment(Protocol):
    """Where episodes happen: real, or dreamed by an experience model."""

    @property
    def name(self) -> str:
        """Name and version, for provenance."""
        ...

    @property
    def source(self) -> Source:
        """`real` or `dreamed`."""
        ...

    def session(self, task: Task, *, episode_id: str, seed: int) -> AbstractAsyncContextManager[EpisodeSession]:
        """Begin an episode of `task`; leaving the context frees what it held."""
        ...


class StateMapping(Protocol):
    """Turns what a real environment says into the abstract, compact state that dreams are made of."""

    def state(self, raw: str) -> State:
        """The element lines of a raw observation. Pure, fast, the same in every process."""
        ...


class StateLedger(Protocol):
    """Keeps the books of episodes of one kind of environment: states in; facts and contradictions out."""

    @property
    def name(self) -> str:
        """Name and version, for provenance."""
        ...

    def open(self, task: Task) -> LedgerSession:
        """The books of one episode, with the task's first state entered."""
        ...


class LedgerSession(Protocol):
    """The books of one episode. Pure and fast: they are kept on the event loop."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What has been established so far and still holds, as `thing -> where or how it is`."""
        ...

    def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
        """All in `transition` that the books rule out, never what the real environment may do; changes nothing."""
        ...

    def see(self, transition: Transition) -> None:
        """Enter `transition`; the next one starts from its state."""
        ...


@runtime_checkable
class GoalLedger(LedgerSession, Protocol):
    """Books that know the task's goal as well: they can say whether a step ends the task."""

    def outcome(self, transition: Transition) -> StepOutcome | None:
        """What the state of `transition`, which is believed, leads to, whatever it claims; None where not decided."""
        ...


@runtime_checkable
class AmendingLedger(LedgerSession, Protocol):
    """Books that know what some steps must lead to, and so can put right what contradicts them."""

    def amended(self, transition: Transition) -> State | None:
        """The whole state after its action, what the books leave open as `transition` shows it; None if not decided."""
        ...


class Verifier(Protocol):
    """Says whether a dreamed step really ended the task, so that no reward is made up."""

    @property
    def name(self) -> str:
        """Name and version, for provenance."""
        ...

    async def verify(
        self,
        task: Task,
        before: Sequence[Transition],
        transition: Transition,
        *,
        books: LedgerSession | None = None,
    ) -> Verdict:
        """The verdict on `transition`, after the transitions `before` of the same episode.

        Args:
            task: what was asked.
            before: what came before, in order.
            transition: the step in question.
            books: the episode's books with `before` entered and `transition` not, where the caller keeps them anyway;
                a verifier that needs books opens its own otherwise, which costs the whole history at every step.

        Raises:
            EpisodeError: it could not be asked (a model as judge whose engine failed).
        """
        ...


class ChatModel(Protocol):
    """Answers questions put in words: a judge, a teacher. What an `Engine` is to token ids."""

    @property
    def name(self) -> str:
        """Name and version, for provenance."""
        ...

    async def answer(
        self,
        system: str,
        user: str,
        *,
        json_schema: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        request_id: str = "chat",
    ) -> ChatAnswer:
        """Answer `user` under the system prompt `system`.

        Args:
            system: system prompt.
            user: what is asked.
            json_schema: JSON schema, as text, that the answer is held to where the model's server can do that.
            temperature: of sampling; 0 is greedy.
            seed: of sampling.
            request_id: unique while in flight.

        Raises:
            EngineError: no answer; `recoverable` tells whether asking again can help.
            ContextOverflowError: question and answer do not fit.
        """
        ...


class Encoder(Protocol):
    """Embeds texts for retrieval."""

    @property
    def name(self) -> str:
        """Changes whenever the vectors do: an index built by another encoder is rebuilt."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape [len(texts), dimension], each row of length 1. Blocks: call it off the event loop."""
        ...


class Retriever(Protocol):
    """Finds past experiences for a present step."""

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        """At most `query.k` experiences, the most similar first, none that the query excludes."""
        ...


class EpisodeSink(Protocol):
    """Takes finished episodes and makes them durable."""

    async def add(self, episode: Episode) -> None:
        """Hand over `episode`; waits while the writer is behind. Idempotent by `episode.id`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One episode to run."""

    task: Task
    """The task."""
    repeat: int = 0
    """Which of this task's episodes, from 0."""
    purpose: Purpose = "training"
    """What the episode is for."""


class TaskSource(Protocol):
    """Says what to run next."""

    def assignments(self) -> AsyncIterator[Assignment]:
        """Every episode to run, in order; ends when there is nothing more to do."""
        ...


class TaskDomain(Protocol):
    """Knows which tasks could be of an environment, so that a task nobody could set up is not dreamed either."""

    @property
    def name(self) -> str:
        """Name and version, for provenance."""
        ...

    def refusal(self, task: Task) -> str | None:
        """What is impossible or foreign about `task`, in a few words that can be counted; None where nothing is.

        Pure and fast. A domain that was made from real tasks refuses none of them.
        """
        ...


class Trainer(Protocol):
    """Learns from batches. Every method blocks: `flow.learning` calls them in a thread, one at a time."""

    @property
    def name(self) -> str:
        """The algorithm's name, for provenance."""
        ...

    @property
    def version(self) -> int:
        """Version of the weights: 0 at first, one more after every `step`."""
        ...

    def step(self, batch: Batch) -> UpdateMetrics:
        """Learn from `batch`.

        Raises:
            UsageError: the batch lacks what the algorithm needs.
        """
        ...

    def publish(self, directory: Path) -> WeightsUpdate:
        """Write the present weights into `directory` as an engine loads them. It is complete when this returns."""
        ...

    def save(self, directory: Path) -> None:
        """Write all that `load` needs to go on exactly; what `directory` held before is replaced as a whole."""
        ...

    def load(self, directory: Path) -> None:
        """Go on from what `save` wrote, in a trainer made with the same model and settings: steps that follow give the
        same weights and metrics (but for times) as if nothing had been interrupted.

        Raises:
            ConfigurationError: it was saved by another algorithm or with other settings.
        """
        ...
