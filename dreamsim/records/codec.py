"""Records to plain JSON values and back; the schema is documented in docs/data-format.md.

In: a `Task`, `Transition`, `Decision` or `Episode`, or a JSON value that claims to be one. Out: the other.
Always:
- `episode_from_json(episode_to_json(e))` equals `e`, arrays included, if `e` keeps the rules of
  `records.episode`.
- Reading is strict: a wrong type, an unknown field, a broken chain of states or an outcome that contradicts
  the steps raises `RecordError`, which names the field. What may be left out has a stated default.
- Writing leaves out what equals its default; arrays are base64 of little-endian int32 or float32.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeAlias, get_args

import numpy as np

from dreamsim.errors import RecordError
from dreamsim.records import limits
from dreamsim.records.completion import Completion, Decision, FinishReason
from dreamsim.records.episode import (
    EPISODE_OUTCOMES,
    PURPOSES,
    SOURCES,
    STEP_OUTCOMES,
    Episode,
    EpisodeOutcome,
    StepOutcome,
    Transition,
)
from dreamsim.records.fields import Fields, array_text, check_length, read_lines
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust_codec import trust_from_json, trust_to_json

SCHEMA = "dreamsim-episode/2"
"""Name and version of the JSON form of an episode."""

READABLE = (SCHEMA, "dreamsim-episode/1")
"""Versions that can be read. Version 1 had no `generation`, `quality` and `trust`; what lacks them reads the same."""

FINISH_REASONS: tuple[FinishReason, ...] = get_args(FinishReason)

JsonObject: TypeAlias = dict[str, Any]


def task_to_json(task: Task) -> JsonObject:
    """The JSON form of a task; `task_key` lets a reader notice that the content was changed."""
    return {
        "environment": task.environment,
        "instruction": task.instruction,
        "first_state": list(task.first_state.lines),
        "fold": task.fold,
        "seed": task.seed,
        "parameters": dict(task.parameters),
        "task_key": task.key,
    }


def task_from_json(value: object, where: str = "") -> Task:
    """Read a task.

    Raises:
        RecordError: not a task; the message names the field.
    """
    fields = Fields(value, where)
    task = _read_task(fields, fields.lines("first_state"))
    fields.finish()
    return task


def decision_to_json(decision: Decision) -> JsonObject:
    """The JSON form of a decision."""
    result: JsonObject = {"action": decision.action}
    if decision.thought:
        result["thought"] = decision.thought
    if decision.prompt_token_ids.size:
        result["prompt_token_ids"] = array_text(decision.prompt_token_ids, np.int32)
    if decision.completion is not None:
        completion = decision.completion
        result["completion"] = {
            "token_ids": array_text(completion.token_ids, np.int32),
            "logprobs": array_text(completion.logprobs, np.float32),
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "cached_tokens": completion.cached_tokens,
            "version": completion.version,
        }
    return result


def decision_from_json(value: object, where: str = "") -> Decision:
    """Read a decision.

    Raises:
        RecordError: not a decision; the message names the field.
    """
    fields = Fields(value, where)
    decision = Decision(
        action=fields.text("action"),
        thought=fields.text("thought", ""),
        prompt_token_ids=fields.array("prompt_token_ids", np.int32),
        completion=_read_completion(fields.value("completion"), fields.path("completion"))
        if fields.has("completion")
        else None,
    )
    fields.finish()
    return decision


def transition_to_json(transition: Transition) -> JsonObject:
    """The JSON form of a transition."""
    result: JsonObject = {
        "action": transition.action,
        "next_state": list(transition.state.lines),
        "reward": transition.reward,
        "done": transition.done,
        "outcome": transition.outcome,
    }
    if transition.reasoning:
        result["reasoning"] = transition.reasoning
    if transition.admissible:
        result["admissible"] = list(transition.admissible)
    if transition.score is not None:
        result["score"] = transition.score
    if transition.decision is not None:
        result["decision"] = decision_to_json(transition.decision)
    if transition.samples != 1:
        result["samples"] = transition.samples
    if transition.retrieved:
        result["retrieved"] = list(transition.retrieved)
    if transition.trust is not None:
        result["trust"] = trust_to_json(transition.trust)
    return result


def transition_from_json(value: object, where: str = "", *, before: State | None = None) -> Transition:
    """Read a transition. When it says the state `before` the action, that must be the one given.

    Raises:
        RecordError: not a transition; the message names the field.
    """
    fields = Fields(value, where)
    if fields.has("state") and before is not None and not State.of(fields.lines("state")).same_as(before):
        raise RecordError(fields.path("state"), "differs from the state that the step before led to")
    transition = Transition(
        action=fields.text("action"),
        state=State.of(fields.lines("next_state")),
        reward=fields.number("reward"),
        outcome=_read_step_outcome(fields),
        reasoning=fields.text("reasoning", ""),
        admissible=fields.texts("admissible"),
        score=fields.optional_number("score"),
        decision=decision_from_json(fields.value("decision"), fields.path("decision"))
        if fields.has("decision")
        else None,
        samples=fields.integer("samples", 1, least=0),
        retrieved=fields.texts("retrieved"),
        trust=trust_from_json(fields.value("trust"), fields.path("trust")) if fields.has("trust") else None,
    )
    fields.finish()
    return transition


def episode_to_json(episode: Episode) -> JsonObject:
    """The JSON form of an episode: one line of a JSONL file."""
    result: JsonObject = {
        "schema": SCHEMA,
        "id": episode.id,
        "run": episode.run,
        "repeat": episode.repeat,
        "source": episode.source,
        "purpose": episode.purpose,
        **task_to_json(episode.task),
        "steps": [transition_to_json(transition) for transition in episode.transitions],
        "outcome": episode.outcome,
    }
    optional: JsonObject = {
        "error_kind": episode.error_kind,
        "error_message": episode.error_message,
        "policy": episode.policy or None,
        "experience_model": episode.experience_model or None,
        "started_at": episode.started_at or None,
        "duration_s": episode.duration_s or None,
        "generation": episode.generation if episode.generation > 1 else None,
        "quality": dict(episode.quality) or None,
    }
    return result | {name: value for name, value in optional.items() if value is not None}


def episode_from_json(value: object, *, run: str = "import") -> Episode:
    """Read an episode. Needed are `environment`, `instruction` and `steps`, each with `action`, `next_state`,
    `reward` and `done`, the first also with `state` unless the episode has a `first_state`.

    Args:
        run: the run it belongs to, unless it says so itself.

    Raises:
        RecordError: not an episode; the message names the field.
    """
    fields = Fields(value)
    schema = fields.text("schema", SCHEMA)
    if schema not in READABLE:
        raise RecordError("schema", f"is {schema!r:.60}; this version reads {' and '.join(READABLE)}")
    steps = fields.value("steps")
    if not isinstance(steps, list | tuple):
        raise RecordError("steps", "must be a list")
    check_length(steps, "steps", limits.STEPS)
    task = _read_task(fields, _first_state_lines(fields, steps))
    transitions: list[Transition] = []
    state = task.first_state
    for index, step in enumerate(steps):
        if transitions and transitions[-1].done:
            raise RecordError(f"steps[{index - 1}].done", "only the last step can end the task")
        transitions.append(transition_from_json(step, f"steps[{index}]", before=state))
        state = transitions[-1].state
    outcome = _read_outcome(fields, transitions)
    content = fields.optional_text("id")
    episode = Episode(
        id=content_id(value) if content is None else content,
        run=fields.text("run", run),
        task=task,
        repeat=fields.integer("repeat", 0, least=0),
        source=fields.choice("source", SOURCES, "real"),
        purpose=fields.choice("purpose", PURPOSES, "experience"),
        transitions=tuple(transitions),
        outcome=outcome,
        error_kind=fields.optional_text("error_kind"),
        error_message=fields.optional_text("error_message"),
        policy=fields.text("policy", ""),
        experience_model=fields.text("experience_model", ""),
        started_at=fields.number("started_at", 0.0),
        duration_s=fields.number("duration_s", 0.0),
        generation=fields.integer("generation", 0, least=0),
        quality=fields.numbers("quality"),
    )
    fields.finish()
    if not episode.id:
        raise RecordError("id", "is empty; leave it out to have one made from the content")
    if (outcome == "error") != (episode.error_kind is not None):
        raise RecordError("error_kind", "goes with the outcome 'error', and only with it")
    return episode


def content_id(value: object) -> str:
    """The id of an episode that came without one: a hash of what it says, the same at every import."""
    content = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(content.encode(), digest_size=10).hexdigest()


def _first_state_lines(fields: Fields, steps: list[Any] | tuple[Any, ...]) -> tuple[str, ...]:
    if fields.has("first_state"):
        return fields.lines("first_state")
    if not steps:
        raise RecordError("first_state", "is missing, and there is no step to take it from")
    first = Fields(steps[0], "steps[0]")
    if not first.has("state"):
        raise RecordError("steps[0].state", "is missing: the first step must say the state it begins in")
    return read_lines(first.value("state"), "steps[0].state")


def _read_task(fields: Fields, first_state: tuple[str, ...]) -> Task:
    task = Task(
        environment=fields.text("environment"),
        instruction=fields.text("instruction"),
        first_state=State.of(first_state),
        fold=fields.text("fold", "train"),
        seed=fields.integer("seed", 0),
        parameters=fields.scalars("parameters"),
    )
    if not task.environment:
        raise RecordError(fields.path("environment"), "is empty")
    key = fields.optional_text("task_key")
    if key is not None and key != task.key:
        raise RecordError(fields.path("task_key"), f"is {key!r:.40}, but the content hashes to {task.key!r}")
    return task


def _read_step_outcome(fields: Fields) -> StepOutcome:
    if not fields.has("outcome"):
        if not fields.flag("done"):
            return "running"
        return "success" if fields.number("reward") > 0 else "failure"
    outcome: StepOutcome = fields.choice("outcome", STEP_OUTCOMES)
    if fields.has("done") and fields.flag("done") != (outcome != "running"):
        raise RecordError(fields.path("done"), f"contradicts the outcome {outcome!r}")
    return outcome


def _read_outcome(fields: Fields, transitions: list[Transition]) -> EpisodeOutcome:
    last: StepOutcome = transitions[-1].outcome if transitions else "running"
    implied: EpisodeOutcome = "truncated" if last == "running" else last
    outcome = fields.choice("outcome", EPISODE_OUTCOMES, implied)
    if outcome not in (implied, "error"):
        raise RecordError("outcome", f"is {outcome!r}, but by the last step it is {implied!r}")
    return outcome


def _read_completion(value: object, where: str) -> Completion:
    fields = Fields(value, where)
    completion = Completion(
        token_ids=fields.array("token_ids", np.int32),
        logprobs=fields.array("logprobs", np.float32),
        finish_reason=fields.choice("finish_reason", FINISH_REASONS),
        prompt_tokens=fields.integer("prompt_tokens", least=0),
        cached_tokens=fields.integer("cached_tokens", 0, least=0),
        version=fields.text("version", ""),
    )
    fields.finish()
    if completion.logprobs.size not in (0, completion.token_ids.size):
        problem = f"{completion.logprobs.size} values for {completion.token_ids.size} tokens"
        raise RecordError(fields.path("logprobs"), problem)
    return completion
