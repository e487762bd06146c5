"""The experience model: an engine that reasons step by step about what an action leads to.

In: a task and, one at a time, actions. Out: transitions (Eq. 4 of arXiv 2511.03773):
`(s', r) = M(R | history, k retrieved experiences, task)`, the reasoning R written first.
Always:
- An output that is not a transition is sampled again, up to `samples` times; then the episode ends with an
  `ExperienceError` that holds the last reason. Nothing is made up.
- What the model wrote is kept as the ids it generated; the prompt only grows.
- Every sample has its own named seed: the same episode, step and try ask for the same sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ExperienceError, ParseError
from dreamsim.experience.format import transition_answer
from dreamsim.experience.parse import Answer, AnswerRules, parse_answer
from dreamsim.experience.prompt import ExperiencePrompt, PromptLayout
from dreamsim.protocols import Engine, Retriever, Tokenizer
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.episode import Source, Transition
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.state import StateMemory, apply_changes, changes
from dreamsim.records.task import Task
from dreamsim.records.text import END
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
    """Of every further sample, unless `temperature` is higher: a greedy answer would only come again."""
    top_p: float = 1.0
    """Nucleus sampling."""
    samples: int = 4
    """Outputs asked for until one parses."""
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
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._settings = settings
        self._retriever = retriever if settings.layout.retrieve != "off" else None
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

    async def _retrieve(self, task: Task, state: tuple[str, ...], action: str) -> tuple[Experience, ...]:
        if self._retriever is None or self._settings.layout.demonstrations < 1:
            return ()
        query = ExperienceQuery(
            state=state,
            action=action,
            k=self._settings.layout.demonstrations,
            environment=task.environment if self._settings.same_environment else None,
            sources=self._settings.sources,
            exclude_task=task.key,
        )
        return await self._retriever.retrieve(query)


class Dream:
    """One dreamed episode: its prompt and what is known so far."""

    __slots__ = ("_episode_id", "_examples", "_memory", "_model", "_prompt", "_seed", "_steps", "_task")

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

    @property
    def memory(self) -> StateMemory:
        """What is known so far."""
        return self._memory

    async def step(self, action: str) -> Transition:
        """What `action` leads to, and go on from there.

        Raises:
            ExperienceError: no valid transition within the allowed number of samples.
            EngineError, ContextOverflowError: the engine failed.
        """
        transition, written = await self._predicted(action)
        self._go_on(transition, written)
        return transition

    async def predict(self, action: str) -> Transition:
        """What `action` would lead to; the dream stays where it is. Raises as `step` does."""
        transition, _ = await self._predicted(action)
        return transition

    def follow(self, transition: Transition) -> None:
        """Go on from what really happened, as if it had been dreamed so (teacher forcing)."""
        changed = changes(self._memory, transition.state)
        with_reasoning = self._model._settings.layout.reasoning
        self._go_on(transition, transition_answer(transition, changed, with_reasoning=with_reasoning))

    def _go_on(self, transition: Transition, answer: NDArray[np.int32] | str) -> None:
        self._prompt.append(transition.action, answer)
        self._memory.see(transition.state)
        self._steps += 1

    async def _predicted(self, action: str) -> tuple[Transition, NDArray[np.int32]]:
        model, settings = self._model, self._model._settings
        examples = self._examples
        if settings.layout.retrieve == "step":
            examples = await model._retrieve(self._task, self._memory.current.lines, action)
        shown = examples if settings.layout.retrieve == "step" else ()
        prompt = self._prompt.ask(action, shown)
        problem = ""
        for attempt in range(settings.samples):
            completion = await self._generate(prompt, attempt)
            try:
                answer = self._parse(completion)
            except ParseError as error:
                problem = str(error)
                continue
            return self._transition(action, answer, attempt + 1, examples), completion.token_ids
        raise ExperienceError(f"no transition in {settings.samples} samples for {action!r}; the last: {problem}")

    async def _generate(self, prompt: NDArray[np.int32], attempt: int) -> Completion:
        model, settings = self._model, self._model._settings
        temperature = settings.temperature
        if attempt:
            temperature = max(temperature, settings.retry_temperature)
        request = GenerationRequest(
            request_id=f"{self._episode_id}-x{self._steps}-{attempt}",
            prompt_token_ids=prompt,
            sampling=Sampling(
                max_tokens=settings.max_tokens,
                temperature=temperature,
                top_p=settings.top_p,
                stop_token_ids=model._stop_token_ids,
            ),
            seed=seed_of(self._seed, "experience", self._steps, attempt),
            adapter=settings.adapter,
            role="experience",
        )
        return await model._engine.generate(request)

    def _parse(self, completion: Completion) -> Answer:
        if completion.finish_reason == "length":
            raise ParseError(f"the answer is longer than {self._model._settings.max_tokens} tokens")
        return parse_answer(self._model._tokenizer.decode(completion.token_ids), self._model._settings.rules)

    def _transition(self, action: str, answer: Answer, samples: int, examples: tuple[Experience, ...]) -> Transition:
        return Transition(
            action=action,
            state=apply_changes(self._memory, answer.changed),
            reward=answer.reward,
            outcome=answer.outcome,
            reasoning=answer.reasoning,
            samples=samples,
            retrieved=tuple(example.id for example in examples),
        )
