"""Reasoning for logged steps, written by a teacher model: the request for one episode, and what its answer may say.

In: an episode. Out: chat messages; from the answer, one reasoning per step.
Always: the teacher sees the whole trajectory and whether it succeeded (as in section 4.2 of arXiv 2511.03773); an
answer that does not explain every step, each once, is refused as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dreamsim.errors import ParseError
from dreamsim.records.episode import Episode
from dreamsim.records.state import StateMemory, changes

LONGEST = 4000
"""Characters of one reasoning; more is not an explanation but a runaway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationPrompts:
    """The texts that make a request, from plain files."""

    system: str
    """System prompt."""
    user: str
    """User prompt with places for `{instruction}`, `{success}`, `{first_state}`, `{steps}`, `{count}`."""


def annotation_messages(episode: Episode, prompts: AnnotationPrompts) -> list[dict[str, str]]:
    """Chat messages that ask for the reasoning of every step of `episode`."""
    memory = StateMemory(episode.task.first_state)
    steps: list[str] = []
    for number, transition in enumerate(episode.transitions, 1):
        changed = changes(memory, transition.state) or ("(nothing)",)
        memory.see(transition.state)
        done = "" if not transition.done else f"\nThis step ended the episode: {transition.outcome}"
        lines = "\n".join(changed)
        steps.append(
            f"Step {number}\nAction: {transition.action}\nWhat changed:\n{lines}\nReward: {transition.reward:g}{done}"
        )
    values = {
        "instruction": episode.task.instruction,
        "success": "yes" if episode.outcome == "success" else "no",
        "first_state": episode.task.first_state.text,
        "steps": "\n\n".join(steps),
        "count": str(len(steps)),
    }
    return [{"role": "system", "content": prompts.system}, {"role": "user", "content": _filled(prompts.user, values)}]


def _filled(template: str, values: dict[str, str]) -> str:
    """`template` with its places filled; data with braces of its own is left alone."""
    parts: list[str] = []
    rest = template
    while rest:
        found = [(rest.find("{" + name + "}"), name) for name in values]
        position, name = min(((at, name) for at, name in found if at >= 0), default=(-1, ""))
        if position < 0:
            parts.append(rest)
            break
        parts += [rest[:position], values[name]]
        rest = rest[position + len(name) + 2 :]
    return "".join(parts)


def parse_annotation(written: str, steps: int) -> tuple[str, ...]:
    """One reasoning per step.

    Raises:
        ParseError: not the JSON asked for, or a step is missing, doubled or empty.
    """
    try:
        answer: Any = json.loads(_json_part(written))
    except json.JSONDecodeError as error:
        raise ParseError(f"not JSON: {error.msg} at character {error.pos}") from error
    entries = answer.get("steps") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise ParseError('no list under "steps"')
    if len(entries) != steps:
        raise ParseError(f"{len(entries)} explanations for {steps} steps")
    return tuple(_reasoning(entry, number) for number, entry in enumerate(entries, 1))


def _reasoning(entry: Any, number: int) -> str:
    if not isinstance(entry, dict) or entry.get("step") != number:
        raise ParseError(f"entry {number} is not that of step {number}")
    reasoning = entry.get("reasoning")
    text = " ".join(reasoning.split()) if isinstance(reasoning, str) else ""
    if not text:
        raise ParseError(f"step {number} has no reasoning")
    if len(text) > LONGEST:
        raise ParseError(f"the reasoning of step {number} has {len(text)} characters; {LONGEST} are allowed")
    return text


def _json_part(written: str) -> str:
    """The answer without a thinking block before it and a code fence around it."""
    text = written.rpartition("</think>")[2].strip()
    if text.startswith("```"):
        text = text.partition("\n")[2].rstrip()
        text = text.removesuffix("```").rstrip()
    return text


def with_reasoning(episode: Episode, reasoning: Sequence[str]) -> Episode:
    """The episode with these reasonings, one per step."""
    transitions = tuple(
        replace(transition, reasoning=text) for transition, text in zip(episode.transitions, reasoning, strict=True)
    )
    return replace(episode, transitions=transitions)
