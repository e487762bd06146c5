"""A language model as judge: of a dreamed step's quality by four criteria, and of whether a step ended the task.

In: a task, the steps before and the step in question. Out: `Scores`, or a `Verdict`.
Always:
- the answer is JSON, held to a schema where the model's server can do that, and checked here in any case; what cannot
  be read is asked for again, then it is a `JudgeError`: a score is never made up;
- prompts are plain files; the package's own are `data/prompts/judge.*.md` and `verify.*.md`.

The criteria and their scale 0, 1, 2 are those of appendix D of arXiv 2511.03773; the prompts are ours.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from dreamsim.errors import ParseError, RecordError
from dreamsim.experience.questions import Note, Patience, Prompt, ask
from dreamsim.protocols import ChatModel, LedgerSession
from dreamsim.records.episode import STEP_OUTCOMES, Transition
from dreamsim.records.fields import Fields
from dreamsim.records.state import StateMemory, changes
from dreamsim.records.task import Task
from dreamsim.records.trust import Verdict
from dreamsim.runtime.seeds import seed_of

HIGHEST: Final = 2
CRITERIA: Final = ("consistency", "diversity", "informativeness", "hallucination")
SHOWN_STEPS: Final = 30
"""Most past steps a judge is shown; of a longer history the last ones, beside the first state."""


def _object(properties: Mapping[str, Any]) -> str:
    names = list(properties)
    schema = {"type": "object", "properties": properties, "required": names, "additionalProperties": False}
    return json.dumps(schema, separators=(",", ":"))


SCORES_SCHEMA: Final = _object(
    {"reason": {"type": "string"}} | {name: {"type": "integer", "enum": [0, 1, HIGHEST]} for name in CRITERIA}
)
"""Reason first: what stands before the scores can carry them."""
VERDICT_SCHEMA: Final = _object(
    {"reason": {"type": "string"}, "outcome": {"type": "string", "enum": [*STEP_OUTCOMES, "unknown"]}}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a judge gave one step; each 0, 1 or 2, higher is better."""

    consistency: int
    """Whether the next state follows from the state, the action and the history."""
    diversity: int
    """Whether it is more than a copy or a stock phrase."""
    informativeness: int
    """Whether it tells the agent what it needs to know."""
    hallucination: int
    """Whether nothing is made up: a failed action shows a failure."""
    reason: str = ""
    """Why, in the judge's words."""

    @classmethod
    def read(cls, answer: Any) -> Self:
        """From an answer's JSON.

        Raises:
            ParseError: a score is missing, out of range or no whole number, or something else is there.
        """
        try:
            given = Fields(answer)
            scores = cls(reason=" ".join(given.text("reason").split()), **{n: _score(given, n) for n in CRITERIA})
            given.finish()
        except RecordError as error:
            raise ParseError(str(error)) from error
        return scores

    @property
    def by_name(self) -> dict[str, int]:
        """Criterion -> score."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in CRITERIA}


def _score(given: Fields, name: str) -> int:
    score = given.integer(name, least=0)
    if score > HIGHEST:
        raise RecordError(name, f"must be at most {HIGHEST}, not {score}")
    return score


def step_values(task: Task, before: Sequence[Transition], transition: Transition) -> dict[str, str]:
    """What stands in the places of a judge's prompt.

    `{instruction}`, `{first_state}`, `{history}`, `{state}` (before the action), `{action}`, `{next_state}`,
    `{changed}` (what is new in it), `{reasoning}`, `{reward}` and `{outcome}`.
    """
    memory = StateMemory(task.first_state)
    steps: list[str] = []
    for number, seen in enumerate(before, 1):
        changed = "\n".join(changes(memory, seen.state)) or "(nothing changes)"
        memory.see(seen.state)
        steps.append(f"Step {number}: {seen.action}\n{changed}")
    left_out = max(0, len(steps) - SHOWN_STEPS)
    shown = ([f"({left_out} steps before)"] if left_out else []) + steps[left_out:]
    return {
        "instruction": task.instruction,
        "first_state": task.first_state.text,
        "history": "\n\n".join(shown) or "(this is the first step)",
        "state": memory.current.text,
        "action": transition.action,
        "next_state": transition.state.text,
        "changed": "\n".join(changes(memory, transition.state)) or "(nothing changes)",
        "reasoning": transition.reasoning or "(none)",
        "reward": f"{transition.reward:g}",
        "outcome": transition.outcome,
    }


class Judge:
    """Scores steps. One object serves all episodes."""

    def __init__(self, model: ChatModel, prompt: Prompt, *, patience: Patience | None = None, seed: int = 0) -> None:
        self._model = model
        self._prompt = prompt
        self._patience = patience
        self._seed = seed

    @property
    def name(self) -> str:
        """`judge:` and the model's name."""
        return f"judge:{self._model.name}"

    async def scores(
        self,
        task: Task,
        before: Sequence[Transition],
        transition: Transition,
        *,
        request_id: str,
        note: Note | None = None,
    ) -> Scores:
        """The scores of `transition` after `before`; `request_id` names its requests and their seeds.

        Raises:
            JudgeError: no scores within the allowed number of requests.
            EngineError: the model can no longer be asked at all.
        """
        values = step_values(task, before, transition)
        return await ask(
            self._model,
            self._prompt,
            values,
            Scores.read,
            json_schema=SCORES_SCHEMA,
            request_id=request_id,
            seed=seed_of(self._seed, "judge", request_id),
            patience=self._patience,
            note=note,
        )


class JudgeVerifier:
    """Asks a second model whether a step ended the task. It is not shown what the dream claimed."""

    def __init__(self, model: ChatModel, prompt: Prompt, *, patience: Patience | None = None, seed: int = 0) -> None:
        self._model = model
        self._prompt = prompt
        self._patience = patience
        self._seed = seed
        self._asked = itertools.count()

    @property
    def name(self) -> str:
        """`judge:` and the model's name."""
        return f"judge:{self._model.name}"

    async def verify(
        self,
        task: Task,
        before: Sequence[Transition],
        transition: Transition,
        *,
        books: LedgerSession | None = None,
    ) -> Verdict:
        """The judge's verdict; `books` do not matter.

        Raises:
            JudgeError: no verdict within the allowed number of requests.
            EngineError: the model can no longer be asked at all.
        """
        values = step_values(task, before, transition)
        for claimed in ("outcome", "reward", "reasoning"):
            del values[claimed]
        return await ask(
            self._model,
            self._prompt,
            values,
            self._read,
            json_schema=VERDICT_SCHEMA,
            request_id=f"verify-{task.key}-{len(before)}-{next(self._asked)}",
            seed=seed_of(self._seed, "verify", task.key, len(before)),
            patience=self._patience,
        )

    def _read(self, answer: Any) -> Verdict:
        try:
            given = Fields(answer)
            word = given.choice("outcome", (*STEP_OUTCOMES, "unknown"))
            reason = " ".join(given.text("reason").split())
            given.finish()
        except RecordError as error:
            raise ParseError(str(error)) from error
        outcome = next((outcome for outcome in STEP_OUTCOMES if outcome == word), None)
        return Verdict(verifier=self.name, outcome=outcome, reason=reason)
