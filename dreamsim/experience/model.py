"""The experience model: an engine that reasons step by step about what an action leads to.

In: a task and, one at a time, actions. Out: transitions (Eq. 4 of arXiv 2511.03773):
`(s', r) = M(R | history, k retrieved experiences, task)`, the reasoning R written first.
Always:
- An output that is not a transition, or one that a check refuses (`experience.checks`), is sampled again, up to
  `samples` times; then reality answers, where the gate may ask it, or the episode ends with an `ExperienceError` that
  holds the last reason. Nothing is made up.
- What the model wrote is kept as the ids it generated, except where the verifier or reality corrected it; the prompt
  only grows.
- Every sample has its own named seed: the same episode, step and try ask for the same sample.
- Only `step` and `follow` go on; `predict` leaves the dream, its ledger included, where it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from dreamsim.errors import ConsistencyError, ExperienceError, ParseError, UncertaintyError
from dreamsim.experience.asking import Asking, Foretold, Nearest, Question, Voice
from dreamsim.experience.checks import Checks, EpisodeChecks
from dreamsim.experience.format import transition_answer
from dreamsim.experience.grounding import taken_really
from dreamsim.experience.parse import AnswerRules
from dreamsim.experience.prompt import ExperiencePrompt, PromptLayout
from dreamsim.protocols import Engine, Retriever, StateLedger, Tokenizer, Verifier
from dreamsim.records.balance import NO_BALANCE, Balance
from dreamsim.records.episode import Source, Transition
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.state import StateMemory, changes
from dreamsim.records.task import Task
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
    balance: Balance = NO_BALANCE
    """Which of the similar ones are preferred."""
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
        self._voice = Voice(engine, tokenizer, settings, self._checks)
        self._watchers: dict[str, tuple[StateLedger | None, Verifier | None]] = {}

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
            balance=self._settings.balance,
            exclude_task=task.key,
        )


class Dream:
    """One dreamed episode: its prompt and what is known so far."""

    __slots__ = ("_checks", "_episode_id", "_memory", "_model", "_prompt", "_seed", "_shown", "_steps", "_task")

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
        self._shown = tuple(example.id for example in examples)
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
        self._go_on(Foretold(transition=transition))

    def _go_on(self, foretold: Foretold) -> None:
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

    async def _foretold(self, action: str) -> Foretold:
        model, settings = self._model, self._model._settings
        per_step = settings.layout.retrieve == "step"
        examples: tuple[Experience, ...] = ()
        if per_step:
            examples = await model._retrieve(self._task, self._memory.current.lines, action)
        question = Question(
            action=action,
            prompt=self._prompt.ask(action, examples),
            memory=self._memory,
            retrieved=tuple(example.id for example in examples) if per_step else self._shown,
            episode_id=self._episode_id,
            step=self._steps,
            seed=self._seed,
        )
        foretold = await self._sampled(question, nearest=partial(self._nearest, action, examples))
        return await self._real(foretold) if foretold.doubted else foretold

    async def _sampled(self, question: Question, *, nearest: Nearest) -> Foretold:
        model = self._model
        asking = Asking(model._voice, model._checks, self._checks, question, nearest=nearest)
        refusal: ExperienceError | None = None
        for attempt in range(model._settings.samples):
            try:
                return await asking.sample(attempt)
            except ParseError as error:
                refusal = ExperienceError(str(error))
            except (ConsistencyError, UncertaintyError) as error:
                refusal = error
        if model._checks.asks_reality:
            return asking.unanswered(model._settings.samples)
        if isinstance(refusal, ConsistencyError):
            model._checks.count.inconsistent()
        kind = ExperienceError if refusal is None else type(refusal)
        said = f"no transition in {model._settings.samples} samples for {question.action!r}; the last: {refusal}"
        raise kind(said)

    async def _nearest(self, action: str, shown: Sequence[Experience]) -> Sequence[Experience]:
        """The nearest experience of the step, for the gate; those shown for it, if there are any."""
        return shown or await self._model._nearest(self._task, self._memory.current.lines, action)

    async def _real(self, doubted: Foretold) -> Foretold:
        """What reality says in place of a doubtful sample."""
        checks, transition = self._model._checks, doubted.transition
        assert checks.reality is not None, "refused at start without one"
        assert transition.trust is not None, "doubted by the gate"
        real = await taken_really(
            checks.reality,
            self._task,
            [*(before.action for before in self._checks.before), transition.action],
            episode_id=f"{self._episode_id}-real-{self._steps}",
            seed=seed_of(self._seed, "reality"),
        )
        checks.count.grounded()
        # What is real is not wrong; features and rejected samples tell why reality was asked.
        trust = dataclasses.replace(
            transition.trust, grounded=True, uncertainty=0.0, contradictions=(), verdict=None, cached=False
        )
        return Foretold(transition=dataclasses.replace(real[-1], samples=transition.samples, trust=trust), real=real)
