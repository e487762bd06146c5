"""Reasoning for logged steps, written by a teacher model: the request for one episode, and what its answer may say.

In: an episode. Out: what stands in the prompt's places; from the answer, one reasoning per step.
Always: the teacher sees the whole trajectory and whether it succeeded (as in section 4.2 of arXiv 2511.03773); an
answer that does not explain every step, each once, is refused as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from dreamsim.errors import ParseError
from dreamsim.records.episode import Episode
from dreamsim.records.state import StateMemory, changes

LONGEST = 4000
"""Characters of one reasoning; more is not an explanation but a runaway."""
SCHEMA: Final = json.dumps(
    {
        "type": "object",
        "properties": {
            "steps": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"step": {"type": "integer"}, "reasoning": {"type": "string"}},
                    "required": ["step", "reasoning"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["steps"],
        "additionalProperties": False,
    }
)


def annotation_values(episode: Episode) -> dict[str, str]:
    """What stands in the places of the prompt: `{instruction}`, `{success}`, `{first_state}`, `{steps}`, `{count}`."""
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
    return {
        "instruction": episode.task.instruction,
        "success": "yes" if episode.outcome == "success" else "no",
        "first_state": episode.task.first_state.text,
        "steps": "\n\n".join(steps),
        "count": str(len(steps)),
    }


def read_annotation(answer: Any, steps: int) -> tuple[str, ...]:
    """One reasoning per step, from an answer's JSON.

    Raises:
        ParseError: not what was asked for, or a step is missing, doubled or empty.
    """
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


def with_reasoning(episode: Episode, reasoning: Sequence[str]) -> Episode:
    """The episode with these reasonings, one per step."""
    transitions = tuple(
        replace(transition, reasoning=text) for transition, text in zip(episode.transitions, reasoning, strict=True)
    )
    return replace(episode, transitions=transitions)
