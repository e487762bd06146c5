"""The experience model: an engine that reasons step by step about what an action leads to.

In: a task and, one at a time, actions. Out: transitions (Eq. 4 of arXiv 2511.03773):
`(s', r) = M(R | history, k retrieved experiences, task)`, the reasoning R written first.
Always:
- An output that is not a transition, or one that a check refuses (`experience.checks`), is sampled again, up to
  `samples` times; then the episode ends with an `ExperienceError` that holds the last reason. Nothing is made up.
- What the model wrote is kept as the ids it generated, except where the verifier or reality corrected it; the prompt
  only grows.
- Every sample has its own named seed: the same episode, step and try ask for the same sample.
- Only `step` and `follow` go on; `predict` leaves the dream, its ledger included, where it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import anyio
import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConsistencyError, ExperienceError, ParseError, TruncationError, UncertaintyError
from dreamsim.experience.cache import Answered
from dreamsim.experience.checks import Checks, EpisodeChecks
from dreamsim.experience.format import transition_answer
from dreamsim.experience.grounding import taken_really
from dreamsim.experience.parse import Answer, AnswerRules, parse_answer
from dreamsim.experience.prompt import ExperiencePrompt, PromptLayout
from dreamsim.experience.uncertainty import agreement_of, gate_features
from dreamsim.protocols import Engine, Retriever, StateLedger, Tokenizer, Verifier
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.episode import Source, Transition
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.state import StateMemory, apply_changes, changes
from dreamsim.records.task import Task
from dreamsim.records.text import END
from dreamsim.records.trust import Contradiction, Trust
from dreamsim.runtime.boundary import leaves
from dreamsim.runtime.seeds import seed_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperienceSettings:
    """How the experience model is asked."""

    layout: PromptLayout = field(default_factory=PromptLayout)
    """What the prompt holds."""
    rules: AnswerRules = field(default_factory=AnswerRules)
    """What an answer may say."""
    max_tokens: int = 256
    """Most tokens of one answer."""
    temperature: float = 0.0
    """Of the first sample."""
    retry_temperature: float = 0.7
    """Of every further sample and of those that are compared, unless `temperature` is higher: a greedy answer would
    only come again."""
    top_p: float = 1.0
    """Nucleus sampling."""
    samples: int = 4
    """Outputs asked for until one can be kept."""
    sources: tuple[Source, ...] = ("real",)
    """Which experiences may be retrieved."""
    same_environment: bool = True
    """Whether only experiences of the task's own environment are retrieved."""
    adapter: str | None = None
    """LoRA adapter of the engine, if the experience model is one."""


class ExperienceModel:
    """Dreams episodes. One object serves them all."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        settings: ExperienceSettings,
        retriever: Retriever | None = None,
        *,
        checks: Checks | None = None,
    ) -> None:
        """A model; `checks` run beside its dreams, none by default."""
        self._engine = engine
        self._tokenizer = tokenizer
        self._settings = settings
        self._searcher = retriever
        self._retriever = retriever if settings.layout.retrieve != "off" else None
        self._checks = Checks() if checks is None else checks
        self._watchers: dict[str, tuple[StateLedger | None, Verifier | None]] = {}
        end = tokenizer.encode(END)
        stop = (int(end[0]),) if len(end) == 1 else ()
        self._stop_token_ids = stop

    @property
    def name(self) -> str:
        """Name and version of the model, for provenance."""
        return f"{self._engine.name}@{self._engine.version}"

    async def dream(self, task: Task, *, episode_id: str, seed: int) -> Dream:
        """Begin to dream an episode of `task`."""
        examples: tuple[Experience, ...] = ()
        if self._settings.layout.retrieve == "episode":
            examples = await self._retrieve(task, task.first_state.lines, task.instruction)
        return Dream(self, task, examples, episode_id=episode_id, seed=seed)

    def _episode_checks(self, task: Task) -> EpisodeChecks:
        checks, name = self._checks, task.environment
        if name not in self._watchers:
            ledger = None if checks.ledgers is None else checks.ledgers(name)
            verifier = None if checks.verifiers is None else checks.verifiers(name)
            self._watchers[name] = ledger, verifier
        ledger, verifier = self._watchers[name]
        return EpisodeChecks(
            checks, task, ledger=ledger, verifier=verifier, maximum_reward=self._settings.rules.maximum_reward
        )

    async def _retrieve(self, task: Task, state: tuple[str, ...], action: str) -> tuple[Experience, ...]:
        if self._retriever is None or self._settings.layout.demonstrations < 1:
            return ()
        return await self._retriever.retrieve(self._query(task, state, action, self._settings.layout.demonstrations))

    async def _nearest(self, task: Task, state: tuple[str, ...], action: str) -> tuple[Experience, ...]:
        """The nearest experience of a step, for the gate alone."""
        if self._searcher is None:
            return ()
        return await self._searcher.retrieve(self._query(task, state, action, 1))

    def _query(self, task: Task, state: tuple[str, ...], action: str, k: int) -> ExperienceQuery:
        return ExperienceQuery(
            state=state,
            action=action,
            k=k,
            environment=task.environment if self._settings.same_environment else None,
            sources=self._settings.sources,
            exclude_task=task.key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Foretold:
    """What a step will be, and what follows for the prompt."""

    transition: Transition
    """The transition."""
    written: NDArray[np.int32] | None = None
    """The ids that the model wrote; None where it is not the model's own word any more."""
    real: tuple[Transition, ...] = ()
    """All real transitions up to this one, where reality was asked."""


class Dream:
    """One dreamed episode: its prompt and what is known so far."""

    __slots__ = ("_checks", "_episode_id", "_examples", "_memory", "_model", "_prompt", "_seed", "_steps", "_task")

    def __init__(
        self,
        model: ExperienceModel,
        task: Task,
        examples: tuple[Experience, ...],
        *,
        episode_id: str,
        seed: int,
    ) -> None:
        self._model = model
        self._task = task
        self._examples = examples
        self._episode_id = episode_id
        self._seed = seed
        self._steps = 0
        self._memory = StateMemory(task.first_state)
        self._prompt = ExperiencePrompt(model._tokenizer, model._settings.layout, task, examples)
        self._checks = model._episode_checks(task)

    @property
    def memory(self) -> StateMemory:
        """What is known so far."""
        return self._memory

    async def step(self, action: str) -> Transition:
        """What `action` leads to, and go on from there.

        Raises:
            ExperienceError: no valid transition within the allowed number of samples; a `ConsistencyError`,
                `VerificationError` or `UncertaintyError` where a check refused it.
            TruncationError: the gate ends the episode.
            EngineError, ContextOverflowError: the engine failed.
        """
        foretold = await self._foretold(action)
        self._go_on(foretold)
        return foretold.transition

    async def predict(self, action: str) -> Transition:
        """What `action` would lead to; the dream stays where it is. Raises as `step` does."""
        return (await self._foretold(action)).transition

    def follow(self, transition: Transition) -> None:
        """Go on from what really happened, as if it had been dreamed so (teacher forcing)."""
        self._go_on(_Foretold(transition=transition))

    def _go_on(self, foretold: _Foretold) -> None:
        transition, answer = foretold.transition, foretold.written
        self._prompt.append(transition.action, self._corrected(transition) if answer is None else answer)
        if foretold.real:
            # From here on the books and the memory of places go by what really happened.
            self._memory = StateMemory(self._task.first_state)
            for real in foretold.real:
                self._memory.see(real.state)
            self._checks.restart(foretold.real)
        else:
            self._memory.see(transition.state)
            self._checks.entered(transition)
        self._steps += 1

    def _corrected(self, transition: Transition) -> str:
        changed = changes(self._memory, transition.state)
        return transition_answer(transition, changed, with_reasoning=self._model._settings.layout.reasoning)

    async def _foretold(self, action: str) -> _Foretold:
        model, settings = self._model, self._model._settings
        examples = self._examples
        if settings.layout.retrieve == "step":
            examples = await model._retrieve(self._task, self._memory.current.lines, action)
        asking = _Asking(self, action, examples)
        refusal: ExperienceError | None = None
        for attempt in range(settings.samples):
            try:
                return await asking.sample(attempt)
            except ParseError as error:
                refusal = ExperienceError(str(error))
            except (ConsistencyError, UncertaintyError) as error:
                refusal = error
        if isinstance(refusal, ConsistencyError):
            model._checks.count.inconsistent()
        kind = ExperienceError if refusal is None else type(refusal)
        raise kind(f"no transition in {settings.samples} samples for {action!r}; the last: {refusal}")


class _Asking:
    """One step being asked for: what its samples share."""

    __slots__ = ("_action", "_dream", "_examples", "_first", "_model", "_nearest", "_others", "_prompt", "_rejected")

    def __init__(self, dream: Dream, action: str, examples: tuple[Experience, ...]) -> None:
        self._dream = dream
        self._model = dream._model
        self._action = action
        self._examples = examples
        shown = examples if self._model._settings.layout.retrieve == "step" else ()
        self._prompt = dream._prompt.ask(action, shown)
        self._first = True
        self._rejected: tuple[Contradiction, ...] = ()
        self._others: tuple[Transition | None, ...] | None = None
        self._nearest: tuple[Experience, ...] | None = None

    async def sample(self, attempt: int) -> _Foretold:
        """One sample, if it can be kept.

        Raises:
            ParseError, ConsistencyError, UncertaintyError: it cannot; another one might.
            VerificationError, TruncationError: no other one will do.
        """
        dream, checks = self._dream, self._model._checks
        answered = await self._answered(attempt)
        transition = self._transition(self._parsed(answered.completion), attempt + 1)
        found = self._consistent(transition)
        trust = Trust(contradictions=found, rejected=self._rejected, cached=answered.cached)
        if checks.gate is not None:
            trust = await self._gated(transition, answered.completion, trust)
            if trust.grounded:
                return await self._really(trust)
        if not checks.any:
            return _Foretold(transition=transition, written=answered.completion.token_ids)
        kept = await dream._checks.verified(transition, trust)
        dream._checks.kept(kept)
        corrected = kept.outcome != transition.outcome
        return _Foretold(transition=kept, written=None if corrected else answered.completion.token_ids)

    def _consistent(self, transition: Transition) -> tuple[Contradiction, ...]:
        found = self._dream._checks.contradictions(transition, first=self._first)
        self._first = False
        if found and self._model._checks.on_contradiction == "resample":
            self._rejected += found
            raise ConsistencyError("; ".join(f"{one.rule}: {one.message}" for one in found))
        return found

    async def _gated(self, transition: Transition, completion: Completion, trust: Trust) -> Trust:
        """`trust` with what the gate makes of the sample; `grounded` where reality is to be asked."""
        checks = self._model._checks
        gate = checks.gate
        assert gate is not None, "asked only with a gate"
        others = await self._others_of(gate.agreement_samples - 1)
        features = gate_features(
            completion, agreement=agreement_of(transition, others), experiences=await self._nearest_of()
        )
        chance = None if gate.calibration is None else gate.calibration.chance(features)
        doubted = chance is not None and chance > gate.threshold
        checks.count.gated(doubted=doubted)
        trust = dataclasses.replace(trust, features=features, uncertainty=chance)
        if not doubted or gate.mode == "flag":
            return trust
        said = f"wrong with a chance of {chance:.2f}, above {gate.threshold:.2f}"
        if gate.mode == "resample":
            raise UncertaintyError(said)
        if gate.mode == "truncate":
            raise TruncationError(f"what {self._action!r} leads to is {said}")
        return dataclasses.replace(trust, grounded=True)

    async def _really(self, trust: Trust) -> _Foretold:
        dream, checks = self._dream, self._model._checks
        assert checks.reality is not None, "refused at start without one"
        real = await taken_really(
            checks.reality,
            dream._task,
            [*(transition.action for transition in dream._checks.before), self._action],
            episode_id=f"{dream._episode_id}-real-{dream._steps}",
            seed=seed_of(dream._seed, "reality"),
        )
        checks.count.grounded()
        return _Foretold(transition=dataclasses.replace(real[-1], trust=trust), real=real)

    async def _nearest_of(self) -> Sequence[Experience]:
        if self._model._settings.layout.retrieve == "step" and self._examples:
            return self._examples
        if self._nearest is None:
            state = self._dream._memory.current.lines
            self._nearest = await self._model._nearest(self._dream._task, state, self._action)
        return self._nearest

    async def _others_of(self, count: int) -> tuple[Transition | None, ...]:
        """Further samples, to be compared; asked for once in a step, all at the same time."""
        if self._others is None:
            found: list[Transition | None] = [None] * count

            async def ask(number: int) -> None:
                answered = await self._answered(number, purpose="agreement")
                try:
                    found[number] = self._transition(self._parsed(answered.completion), 1)
                except ParseError:
                    found[number] = None

            try:
                async with anyio.create_task_group() as group:
                    for number in range(count):
                        group.start_soon(ask, number)
            except BaseExceptionGroup as errors:
                raise next(leaves(errors)) from errors
            self._others = tuple(found)
        return self._others

    async def _answered(self, number: int, *, purpose: Literal["experience", "agreement"] = "experience") -> Answered:
        model, dream, settings = self._model, self._dream, self._model._settings
        again = number > 0 or purpose == "agreement"
        mark = "a" if purpose == "agreement" else "x"
        request = GenerationRequest(
            request_id=f"{dream._episode_id}-{mark}{dream._steps}-{number}",
            prompt_token_ids=self._prompt,
            sampling=Sampling(
                max_tokens=settings.max_tokens,
                temperature=max(settings.temperature, settings.retry_temperature) if again else settings.temperature,
                top_p=settings.top_p,
                stop_token_ids=model._stop_token_ids,
            ),
            seed=seed_of(dream._seed, purpose, dream._steps, number),
            adapter=settings.adapter,
            role="experience",
        )
        checks = model._checks
        if checks.cache is None:
            return Answered(completion=await model._engine.generate(request))
        answered = await checks.cache.generate(model._engine, request)
        checks.count.cached(hit=answered.cached, tokens=len(answered.completion.token_ids))
        return answered

    def _parsed(self, completion: Completion) -> Answer:
        settings = self._model._settings
        if completion.finish_reason == "length":
            raise ParseError(f"the answer is longer than {settings.max_tokens} tokens")
        return parse_answer(self._model._tokenizer.decode(completion.token_ids), settings.rules)

    def _transition(self, answer: Answer, samples: int) -> Transition:
        return Transition(
            action=self._action,
            state=apply_changes(self._dream._memory, answer.changed),
            reward=answer.reward,
            outcome=answer.outcome,
            reasoning=answer.reasoning,
            samples=samples,
            retrieved=tuple(example.id for example in self._examples),
        )
