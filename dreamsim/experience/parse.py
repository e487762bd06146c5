"""From what an experience model wrote to a transition: tolerant in form, strict in substance.

In: any text. Out: an `Answer`, or a `ParseError` that says what is missing or contradictory.
Always:
- White space, letter case of tags, a missing `<end>`, text after it and a line said twice do not matter; nothing else
  is forgiven.
- Nothing is made up: a missing or malformed part is an error, never a default.
- Reward and outcome agree: reward lies in the allowed range, and a failure or a running step earns nothing unless the
  task gives rewards along the way.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from dreamsim.errors import ParseError
from dreamsim.records.episode import StepOutcome
from dreamsim.records.state import GONE, RESULT, SCENE, split_line

_TAG = re.compile(r"<\s*(reason|state|reward|done|end|task|action|example)\s*>", re.IGNORECASE)
_PLAIN = re.compile(
    r"\s*(?:<reason>(?P<reason>[^<]*))?<state>(?P<state>[^<]*)<reward>(?P<reward>[^<]*)<done>(?P<done>[^<]*)(?:<end>|\Z)"
)
"""An answer as it should be, which nearly all are: it is read in one go."""
_OUTCOMES: dict[str, StepOutcome] = {
    "no": "running",
    "running": "running",
    "yes": "success",
    "success": "success",
    "failure": "failure",
}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRules:
    """What the task allows an answer to say."""

    minimum_reward: float = 0.0
    """Least reward of one step."""
    maximum_reward: float = 1.0
    """Greatest reward of one step."""
    outcome_only: bool = True
    """Whether only a step that solves the task earns something, and then the maximum."""
    reasoning_required: bool = True
    """Whether an answer without reasoning is an error."""
    maximum_lines: int = 400
    """Most changed lines of one answer."""
    maximum_line_characters: int = 2000
    """Longest line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the experience model said about one step."""

    reasoning: str
    """Why."""
    changed: tuple[str, ...]
    """Changed lines, to be applied to what is known."""
    reward: float
    """Reward of the step."""
    outcome: StepOutcome
    """Whether the task goes on, is solved or is lost."""


def parse_answer(written: str, rules: AnswerRules) -> Answer:
    """Read one answer.

    Raises:
        ParseError: a part is missing, twice there, malformed, out of range or contradictory.
    """
    parts = _sections(written)
    reasoning = " ".join(parts.get("reason", "").split())
    if rules.reasoning_required and not reasoning:
        raise ParseError("the reasoning is missing or empty")
    changed = _changed_lines(_required(parts, "state"), rules)
    reward = _reward(_required(parts, "reward"), rules)
    word = _required(parts, "done").strip().lower()
    outcome = _OUTCOMES.get(word)
    if outcome is None:
        raise ParseError(f"done is {_shown(word)}, not one of no, success, failure")
    if rules.outcome_only:
        earned = rules.maximum_reward if outcome == "success" else 0.0
        if reward != earned:
            raise ParseError(f"reward {reward} contradicts done {word}: the task gives {earned}")
    return Answer(reasoning=reasoning, changed=changed, reward=reward, outcome=outcome)


def _sections(written: str) -> dict[str, str]:
    plain = _PLAIN.match(written)
    if plain is not None:
        return {name: text for name, text in plain.groupdict().items() if text is not None}
    sections: dict[str, str] = {}
    tags = list(_TAG.finditer(written))
    if tags and written[: tags[0].start()].strip():
        raise ParseError(f"text before the first tag: {_shown(written[: tags[0].start()])}")
    for number, tag in enumerate(tags):
        name = tag[1].lower()
        if name == "end":
            break
        if name in ("task", "action", "example"):
            raise ParseError(f"the answer goes on with <{name}>")
        if name in sections:
            raise ParseError(f"<{name}> is there twice")
        stop = tags[number + 1].start() if number + 1 < len(tags) else len(written)
        sections[name] = written[tag.end() : stop]
    return sections


def _required(parts: dict[str, str], name: str) -> str:
    if name not in parts:
        raise ParseError(f"<{name}> is missing")
    return parts[name]


def _changed_lines(section: str, rules: AnswerRules) -> tuple[str, ...]:
    written = (" ".join(line.split()) for line in section.splitlines() if line.strip())
    lines = tuple(dict.fromkeys(written))  # said twice is said once; said in two ways is refused below
    if len(lines) > rules.maximum_lines:
        raise ParseError(f"{len(lines)} changed lines, more than {rules.maximum_lines}")
    keys: set[str] = set()
    for line in lines:
        if len(line) > rules.maximum_line_characters:
            raise ParseError(f"a line of {len(line)} characters: {_shown(line)}")
        key, value = split_line(line)
        if not key:
            raise ParseError(f"a line without an element: {_shown(line)}")
        if key in keys:
            raise ParseError(f"two different lines for {_shown(key)}")
        if key in (SCENE, RESULT) and (not value or value == GONE):
            raise ParseError(f"the line {_shown(line)} says nothing")
        keys.add(key)
    return lines


def _reward(section: str, rules: AnswerRules) -> float:
    word = section.strip()
    if not _NUMBER.match(word):
        raise ParseError(f"reward {_shown(word)} is not a number")
    reward = float(word)
    if not math.isfinite(reward) or not rules.minimum_reward <= reward <= rules.maximum_reward:
        raise ParseError(f"reward {_shown(word)} is outside {rules.minimum_reward}..{rules.maximum_reward}")
    return reward


def _shown(text: str) -> str:
    collapsed = " ".join(text.split())
    return repr(collapsed if len(collapsed) <= 60 else collapsed[:57] + "...")
