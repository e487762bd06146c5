"""One dreamed step being asked for: its samples, and what the checks make of each.

In: a prompt, an action and what the episode knows. Out: what the step will be, or why a sample cannot be it.
Always: a sample is looked at in this order: does it parse, do the books allow it, how doubtful is it, what does the
verifier say; nothing is entered anywhere. A claim that contradicts the books and that the trusted verifier replaces
anyway is no reason to throw the sample away: it counts as a contradiction, and what is kept does not contradict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Literal

import anyio
import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConsistencyError, ParseError, TruncationError, UncertaintyError
from dreamsim.experience.cache import Answered
from dreamsim.experience.checks import Checks, EpisodeChecks
from dreamsim.experience.parse import Answer, parse_answer
from dreamsim.experience.uncertainty import agreement_of, gate_features
from dreamsim.protocols import Engine, Tokenizer
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.episode import Transition
from dreamsim.records.experience import Experience
from dreamsim.records.state import StateMemory, apply_changes
from dreamsim.records.text import END
from dreamsim.records.trust import Contradiction, Trust, Verdict
from dreamsim.runtime.boundary import leaves
from dreamsim.runtime.seeds import seed_of

if TYPE_CHECKING:
    from dreamsim.experience.model import ExperienceSettings

ANSWERS_KEPT = 4096
"""Answers of which it is remembered what they say: greedy ones come again in every repeat of a task, and transitions
that say the same then share their texts."""
LONGEST_KEPT = 4000
"""Characters of the longest one."""

Purpose = Literal["experience", "agreement"]
Nearest = Callable[[], Awaitable[Sequence[Experience]]]


class Voice:
    """Asks the engine, through the transition cache where there is one, and reads what it wrote."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, settings: ExperienceSettings, checks: Checks) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._settings = settings
        self._checks = checks
        end = tokenizer.encode(END)
        first = Sampling(
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            stop_token_ids=(int(end[0]),) if len(end) == 1 else (),
        )
        warmer = max(settings.temperature, settings.retry_temperature)
        self._sampling = first, dataclasses.replace(first, temperature=warmer)
        self._parsed = lru_cache(maxsize=ANSWERS_KEPT)(partial(parse_answer, rules=settings.rules))

    async def answered(self, prompt: NDArray[np.int32], *, request_id: str, seed: int, again: bool) -> Answered:
        """One sample; `again` if it is to differ from a greedy one."""
        checks = self._checks
        request = GenerationRequest(
            request_id=request_id,
            prompt_token_ids=prompt,
            sampling=self._sampling[again],
            seed=seed,
            adapter=self._settings.adapter,
            role="experience",
        )
        if checks.cache is None:
            return Answered(completion=await self._engine.generate(request))
        answered = await checks.cache.generate(self._engine, request)
        checks.count.cached(hit=answered.cached, tokens=len(answered.completion.token_ids))
        return answered

    def read(self, completion: Completion) -> Answer:
        """What it says.

        Raises:
            ParseError: no transition.
        """
        if completion.finish_reason == "length":
            raise ParseError(f"the answer is longer than {self._settings.max_tokens} tokens")
        written = self._tokenizer.decode(completion.token_ids)
        return self._parsed(written) if len(written) <= LONGEST_KEPT else parse_answer(written, self._settings.rules)


@dataclass(slots=True, kw_only=True)  # made at every step, and freezing takes three times as long
class Foretold:
    """What a step will be, and what follows for the prompt."""

    transition: Transition
    """The transition."""
    written: NDArray[np.int32] | None = None
    """The ids that the model wrote; None where it is not the model's own word any more."""
    doubted: bool = False
    """Whether the gate wants reality's word instead."""
    real: tuple[Transition, ...] = ()
    """All real transitions up to this one, where reality was asked."""


@dataclass(slots=True, kw_only=True)  # made at every step, and freezing takes three times as long
class Question:
    """What is asked, and of which step."""

    action: str
    """The action."""
    prompt: NDArray[np.int32]
    """The ids that ask what it leads to, shape [n]."""
    memory: StateMemory
    """What is known before."""
    retrieved: tuple[str, ...]
    """Ids of the experiences shown."""
    episode_id: str
    """The episode's id."""
    step: int
    """The step, from 0."""
    seed: int
    """The episode's seed."""


class Asking:
    """One step being asked for: what its samples share."""

    __slots__ = ("_books", "_checks", "_first", "_nearest", "_others", "_question", "_rejected", "_similar", "_voice")

    def __init__(
        self, voice: Voice, checks: Checks, books: EpisodeChecks, question: Question, *, nearest: Nearest
    ) -> None:
        """Ready to `sample`; `nearest` looks up the nearest experience, for the gate."""
        self._voice = voice
        self._checks = checks
        self._books = books
        self._question = question
        self._nearest = nearest
        self._first = True
        self._rejected: tuple[Contradiction, ...] = ()
        self._others: tuple[Transition | None, ...] | None = None
        self._similar: Sequence[Experience] | None = None

    async def sample(self, attempt: int) -> Foretold:
        """One sample, if it can be kept.

        Raises:
            ParseError, ConsistencyError, UncertaintyError: it cannot; another one might.
            VerificationError, TruncationError: no other one will do.
        """
        answered = await self._answered(attempt, "experience")
        written = answered.completion.token_ids
        transition = self._transition(answered.completion, attempt + 1)
        if not self._checks.any:
            return Foretold(transition=transition, written=written)
        found = self._books.contradictions(transition, first=self._first)
        self._first = False
        verdict: Verdict | None = None
        if found and self._checks.on_contradiction == "resample":
            self._rejected += found
            if self._checks.on_disagreement == "trust":
                verdict = await self._books.verdict(transition)
            if not self._books.overruled(transition, verdict):
                if self._checks.amends(attempt + 1):
                    told = self._books.amended(transition)
                    if told is not None:
                        return await self._amended(told)
                raise ConsistencyError("; ".join(f"{one.rule}: {one.message}" for one in found))
            found = ()
        trust = Trust(contradictions=found, rejected=self._rejected, cached=answered.cached)
        if self._checks.gate is not None:
            trust = await self._measured(transition, answered.completion, trust)
            if self._doubted(trust):
                return Foretold(transition=dataclasses.replace(transition, trust=trust), doubted=True)
        kept = self._books.verified(transition, trust, verdict or await self._books.verdict(transition))
        self._books.kept(kept)
        return Foretold(transition=kept, written=written if kept.outcome == transition.outcome else None)

    async def _amended(self, transition: Transition) -> Foretold:
        """A step as the books say; no gate looks at it, as the model's word is gone."""
        trust = Trust(rejected=self._rejected, amended=True)
        kept = self._books.verified(transition, trust, await self._books.verdict(transition))
        self._checks.count.amended()
        self._books.kept(kept)
        return Foretold(transition=kept)

    def unanswered(self, samples: int) -> Foretold:
        """What reality is asked with when none of `samples` could be kept; it stands for no transition."""
        question = self._question
        nothing = Transition(
            action=question.action,
            state=question.memory.current,
            reward=0.0,
            outcome="running",
            samples=samples,
            retrieved=question.retrieved,
            trust=Trust(rejected=self._rejected),
        )
        return Foretold(transition=nothing, doubted=True)

    async def _measured(self, transition: Transition, completion: Completion, trust: Trust) -> Trust:
        """`trust` with the gate's features and, where it is calibrated, the chance of an error."""
        gate = self._checks.gate
        assert gate is not None, "measured only with a gate"
        if self._similar is None:
            self._similar = await self._nearest()
        others = await self._compared(gate.agreement_samples - 1)
        features = gate_features(completion, agreement=agreement_of(transition, others), experiences=self._similar)
        chance = None if gate.calibration is None else gate.calibration.chance(features)
        self._checks.count.gated(doubted=chance is not None and chance > gate.threshold)
        return dataclasses.replace(trust, features=features, uncertainty=chance)

    def _doubted(self, trust: Trust) -> bool:
        """Whether reality is to answer instead.

        Raises:
            UncertaintyError, TruncationError: what else is done about a doubtful sample.
        """
        gate = self._checks.gate
        if gate is None or trust.uncertainty is None or trust.uncertainty <= gate.threshold or gate.mode == "flag":
            return False
        said = f"wrong with a chance of {trust.uncertainty:.2f}, above {gate.threshold:.2f}"
        if gate.mode == "resample":
            raise UncertaintyError(said)
        if gate.mode == "truncate":
            raise TruncationError(f"what {self._question.action!r} leads to is {said}")
        return True

    async def _compared(self, count: int) -> tuple[Transition | None, ...]:
        """Further samples to compare with; asked for once in a step, all at the same time."""
        if self._others is not None:
            return self._others
        found: list[Transition | None] = [None] * count

        async def ask(number: int) -> None:
            answered = await self._answered(number, "agreement")
            try:
                found[number] = self._transition(answered.completion, 1)
            except ParseError:
                found[number] = None

        try:
            async with anyio.create_task_group() as group:
                for number in range(count):
                    group.start_soon(ask, number)
        except BaseExceptionGroup as errors:
            # One typed error says what happened: where the engine fails, it fails all samples alike.
            raise next(leaves(errors)) from errors
        self._others = tuple(found)
        return self._others

    async def _answered(self, number: int, purpose: Purpose) -> Answered:
        question = self._question
        mark = "x" if purpose == "experience" else "a"
        return await self._voice.answered(
            question.prompt,
            request_id=f"{question.episode_id}-{mark}{question.step}-{number}",
            seed=seed_of(question.seed, purpose, question.step, number),
            again=number > 0 or purpose == "agreement",
        )

    def _transition(self, completion: Completion, samples: int) -> Transition:
        answer = self._voice.read(completion)
        return Transition(
            action=self._question.action,
            state=apply_changes(self._question.memory, answer.changed),
            reward=answer.reward,
            outcome=answer.outcome,
            reasoning=answer.reasoning,
            samples=samples,
            retrieved=self._question.retrieved,
        )
