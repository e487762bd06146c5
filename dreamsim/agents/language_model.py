"""A language-model policy: reads task, steps and state, writes an action.

In: a task, then states one at a time. Out: decisions, with prompt ids, generated ids and their log-probabilities.
Two layouts:

- growing (`window=None`): task, first state, then action and changed lines of every step. Each prompt is a prefix of
  the next, which is cheapest for an engine with a prefix cache.
- windowed (`window=n`): task, the last n steps, the whole present state, admissible actions when shown. For models
  with a chat template, as verl-agent and DreamGym prompt theirs.

Always: every segment is tokenized once; generated ids are kept as they are, never tokenized again. What holds no
action after the allowed number of outputs is a decision, too, one that wastes its step: dropped, it would never be
punished, and a trained policy learns to write nothing wherever it would lose.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from dreamsim.protocols import Engine, Tokenizer
from dreamsim.records.completion import Completion, Decision, GenerationRequest, Sampling, empty_ids
from dreamsim.records.growing import GrowingIds
from dreamsim.records.state import NO_ACTION, State, StateMemory, changes
from dreamsim.records.task import Task
from dreamsim.records.text import ACTION, END, STATE, TASK, joined, plain
from dreamsim.runtime.seeds import seed_of

DECISIONS_KEPT = 4096
"""Decisions of which it is remembered what they say; those that say the same share their texts."""
LONGEST_KEPT = 1000
"""Characters of the longest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """How the policy is asked."""

    window: int | None = 2
    """Past steps shown (verl-agent shows 2); None shows all, as one growing sequence."""
    show_admissible: bool = True
    """Whether admissible actions are listed where the environment tells them; only in the windowed layout."""
    begin_action: bool = False
    """Whether the prompt ends with the action tag, so that the model writes nothing but the action."""
    max_tokens: int = 64
    """Most tokens of one decision, thought included."""
    temperature: float = 1.0
    """Sampling temperature; 0 is greedy."""
    top_p: float = 1.0
    """Nucleus sampling."""
    samples: int = 1
    """Outputs asked for until one holds an action. Above 1 the trainer never sees those that held none."""
    max_action_characters: int = 300
    """A longer action is none."""
    head: NDArray[np.int32] = field(default_factory=empty_ids)
    """Ids before everything: system prompt and chat frame."""
    tail: NDArray[np.int32] = field(default_factory=empty_ids)
    """Ids after everything: the end of the chat frame."""
    adapter: str | None = None
    """LoRA adapter of the engine, if the policy is one."""


class PolicyPrompt:
    """The prompt of one episode as token ids. Trainers build their samples with it, too."""

    __slots__ = ("_ids", "_memory", "_past", "_settings", "_shown", "_tag", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer, settings: PolicySettings, task: Task) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._memory = StateMemory(task.first_state)
        self._tag = tokenizer.encode(f"\n{ACTION} ") if settings.begin_action else empty_ids()
        parts = [settings.head, tokenizer.encode(f"{TASK} {plain(task.instruction)}")]
        if settings.window is None:
            parts += [tokenizer.encode(_state_segment(task.first_state.lines)), self._tag]
        self._ids = GrowingIds(parts, growth=2.0)
        """What comes first; in the growing layout everything, so that every prompt is a view of one array."""
        self._past = 0
        self._shown: deque[NDArray[np.int32]] = deque(maxlen=settings.window or 0)

    def ask(self, admissible: Sequence[str] = ()) -> NDArray[np.int32]:
        """The ids that ask for the next action, shape [n], not to be written to. Does not change the prompt."""
        settings = self._settings
        if settings.window is None:
            grown = self._ids.view()
            return np.concatenate([grown, settings.tail]) if len(settings.tail) else grown
        text = f"\nStep {self._past + 1}. The state now:{_state_segment(self._memory.current.lines)}"
        if settings.show_admissible and admissible:
            text += "\nPossible actions: " + "; ".join(plain(action) for action in admissible)
        return np.concatenate([self._ids.view(), *self._shown, self._tokenizer.encode(text), self._tag, settings.tail])

    def answer(self, action: str) -> NDArray[np.int32]:
        """The ids of deciding on `action` without a thought, as a demonstration for training."""
        tag = "" if self._settings.begin_action else f"{ACTION} "
        return self._tokenizer.encode(f"{tag}{plain(action)}\n{END}")

    def append(self, action: str, after: State, answer: NDArray[np.int32] | None = None) -> None:
        """Add a step: what was decided (the generated ids, where there are any) and the state it led to."""
        changed = changes(self._memory, after)
        self._memory.see(after)
        self._past += 1
        if self._settings.window is None:
            seen = self._tokenizer.encode(_state_segment(changed))
            self._ids.append(self.answer(action) if answer is None else answer, seen, self._tag)
        elif self._settings.window:
            self._shown.append(self._tokenizer.encode(f"\n{ACTION} {plain(action)}{_state_segment(changed)}"))


def _state_segment(lines: Sequence[str]) -> str:
    return f"\n{STATE}\n{joined(lines)}"


def sampling_of(tokenizer: Tokenizer, settings: PolicySettings) -> Sampling:
    """How the policy's decisions are sampled; they end with the end tag where that is one token."""
    end = tokenizer.encode(END)
    return Sampling(
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        stop_token_ids=(int(end[0]),) if len(end) == 1 else (),
    )


class LanguageModelPolicy:
    """A policy on an engine. One object serves all episodes."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, settings: PolicySettings) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._settings = settings
        self._sampling = sampling_of(tokenizer, settings)
        self._read = lru_cache(maxsize=DECISIONS_KEPT)(partial(parse_decision, settings=settings))

    @property
    def name(self) -> str:
        """Name and version of the model."""
        return f"{self._engine.name}@{self._engine.version}"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> LanguageModelActor:
        """Someone who plays one episode of `task`."""
        return LanguageModelActor(self, task, episode_id=episode_id, seed=seed)


class LanguageModelActor:
    """Plays one episode."""

    __slots__ = ("_episode_id", "_last", "_policy", "_prompt", "_seed", "_step")

    def __init__(self, policy: LanguageModelPolicy, task: Task, *, episode_id: str, seed: int) -> None:
        self._policy = policy
        self._prompt = PolicyPrompt(policy._tokenizer, policy._settings, task)
        self._episode_id = episode_id
        self._seed = seed
        self._step = 0
        self._last: Decision | None = None

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """Decide on the next action; the decision's action is empty if no output held one.

        Raises:
            EngineError, ContextOverflowError: the engine failed.
        """
        if self._last is not None:
            kept = self._last.completion.token_ids if self._last.completion is not None else None
            self._prompt.append(self._last.action or NO_ACTION, state, kept)
        prompt = self._prompt.ask(admissible)
        attempt = 0
        completion = await self._generate(prompt, attempt)
        thought, action = self._parse(completion)
        while not action and attempt + 1 < self._policy._settings.samples:
            attempt += 1
            completion = await self._generate(prompt, attempt)
            thought, action = self._parse(completion)
        self._step += 1
        self._last = Decision(action=action, thought=thought, prompt_token_ids=prompt, completion=completion)
        return self._last

    async def _generate(self, prompt: NDArray[np.int32], attempt: int) -> Completion:
        settings = self._policy._settings
        request = GenerationRequest(
            request_id=f"{self._episode_id}-a{self._step}-{attempt}",
            prompt_token_ids=prompt,
            sampling=self._policy._sampling,
            seed=seed_of(self._seed, "policy", self._step, attempt),
            adapter=settings.adapter,
            role="policy",
        )
        return await self._policy._engine.generate(request)

    def _parse(self, completion: Completion) -> tuple[str, str]:
        if completion.finish_reason == "length":  # cut off, so the action may be, too
            return "", ""
        written = self._policy._tokenizer.decode(completion.token_ids)
        return (
            self._policy._read(written)
            if len(written) <= LONGEST_KEPT
            else parse_decision(written, self._policy._settings)
        )


def parse_decision(written: str, settings: PolicySettings) -> tuple[str, str]:
    """Thought and action in what a policy wrote; the action is empty if there is none, or one that is too long."""
    thought, tag, rest = ("", ACTION, written) if settings.begin_action else written.rpartition(ACTION)
    if not tag:
        return "", ""
    first = rest.partition(END)[0].partition("</action>")[0].strip().split("\n")[0]
    action = " ".join(first.split())
    return thought.strip(), action if len(action) <= settings.max_action_characters else ""
