"""The text an experience model reads and writes, one segment at a time.

In: tasks, states, actions, experiences, transitions. Out: text segments. Laid out for prefix caching:

    <task> instruction <state> lines of the first state               never changes
    <example> ...                                                     once per episode, if retrieved once
    <action> ... <reason> ... <state> ... <reward> 0 <done> no <end>  one per past step, appended only
    <example> ...                                                     last, if retrieved per step
    <action> the action to answer
    ---------------------------------------------------------------- the model goes on from here
    <reason> why <state> changed lines <reward> 0 <done> no <end>

Tags stand at the beginning of lines; a tokenizer for tiny models swallows the white space around them.

Always:
- A segment depends on nothing before it, so each is tokenized once and the prompt only grows at its end.
- States after the first are written as changed lines (`records.state.changes`).
- The same functions write training data and prompts: what is learned is what is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dreamsim.records.episode import StepOutcome, Transition
from dreamsim.records.experience import Experience
from dreamsim.records.task import Task
from dreamsim.records.text import ACTION, DONE, END, EXAMPLE, REASON, REWARD, STATE, TASK, joined, plain

DONE_WORDS: Final[dict[StepOutcome, str]] = {"running": "no", "success": "success", "failure": "failure"}


def header(task: Task) -> str:
    """What never changes in an episode: the instruction and the first state."""
    return f"{TASK} {plain(task.instruction)}\n{STATE}\n{joined(task.first_state.lines)}"


def action_segment(action: str) -> str:
    """The action to answer; white space collapsed, so that an action cannot imitate the layout."""
    return f"\n{ACTION} {plain(action)}\n"


def answer_segment(
    *,
    reasoning: str,
    changed: Iterable[str],
    reward: float,
    outcome: StepOutcome,
    with_reasoning: bool = True,
) -> str:
    """What the model is to write for one step."""
    reason = f"{REASON} {plain(reasoning)}\n" if with_reasoning else ""
    state = f"{STATE}\n{joined(changed)}\n"
    return f"{reason}{state}{REWARD} {reward_text(reward)}\n{DONE} {DONE_WORDS[outcome]}\n{END}"


def transition_answer(transition: Transition, changed: Iterable[str], *, with_reasoning: bool = True) -> str:
    """`answer_segment` of a transition."""
    return answer_segment(
        reasoning=transition.reasoning,
        changed=changed,
        reward=transition.reward,
        outcome=transition.outcome,
        with_reasoning=with_reasoning,
    )


def example_segment(experience: Experience, *, with_state: bool, with_reasoning: bool = True) -> str:
    """A retrieved experience as a demonstration; the state before it only for models with room for it."""
    state = f"\n{STATE}\n{joined(experience.state)}" if with_state else ""
    answer = answer_segment(
        reasoning=experience.reasoning,
        changed=experience.changes,
        reward=experience.reward,
        outcome=experience.outcome,
        with_reasoning=with_reasoning,
    )
    return f"\n{EXAMPLE}{state}{action_segment(experience.action)}{answer}"


def reward_text(reward: float) -> str:
    """A reward as short as it can be read back exactly: `0`, `1`, `0.25`."""
    return str(int(reward)) if reward == int(reward) else repr(float(reward))
