"""How a language model is asked for a variation of a task, and how its answer is read (Eq. 6 of arXiv 2511.03773).

In: a seed task and other tasks of its family. Out: the segments of a prompt; from an answer, instruction and first
state. One layout for writing and for learning to write:

    <action> make new task                     no prompt of a transition begins so
    <example>
    <task> instruction of the seed
    <state>
    lines of its first state
    <end>
    <example>                                  up to k other tasks of the family, each a variation of the seed
    <task> ... <end>
    <example>
    ----------------------------------------- the model goes on from here
    <task> instruction <state> lines of the first state <end>

Always:
- every task after the first stands where an answer stands: a model can learn from each of them;
- segments depend on nothing before them, and the same function writes them for training and for use;
- an answer is read tolerantly in form (white space, letter case of tags, text after `<end>`, a reason before the
  task), strictly in substance: nothing is made up, and no line is said in two ways.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dreamsim.errors import ParseError
from dreamsim.records.state import GONE, RESULT, State, split_line
from dreamsim.records.task import JsonScalar, Task
from dreamsim.records.text import ACTION, END, EXAMPLE, STATE, TASK, joined, plain

OPENING: Final = f"{ACTION} make new task"
BETWEEN: Final = f"\n{EXAMPLE}\n"
MAXIMUM_LINES: Final = 200
MAXIMUM_CHARACTERS: Final = 500
_TAG = re.compile(r"<\s*(reason|state|reward|done|end|task|action|example)\s*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTask:
    """What a model wrote when asked for a task."""

    instruction: str
    """What to do, in words."""
    first_state: State
    """The state that an episode begins in."""
    reasoning: str = ""
    """Why this task, where the model says so."""


def task_text(instruction: str, first_state: State) -> str:
    """A task as it stands in the prompt, and as an answer is to be written."""
    return f"{TASK} {plain(instruction)}\n{STATE}\n{joined(first_state.lines)}\n{END}"


def prompt_segments(seed: Task, others: Sequence[Task] = ()) -> tuple[str, ...]:
    """The prompt that asks for a variation of `seed`, in segments that are tokenized one by one and put together.

    Segments with an odd index introduce a task, those with an even one from 2 on are tasks; the last one introduces
    the answer.
    """
    segments = [OPENING]
    for task in (seed, *others):
        segments += [BETWEEN, task_text(task.instruction, task.first_state)]
    return (*segments, BETWEEN)


def parse_task(written: str) -> WrittenTask:
    """Read one answer.

    Raises:
        ParseError: a part is missing, twice there or malformed.
    """
    sections = _sections(written)
    instruction = " ".join(sections["task"].split())
    if not instruction:
        raise ParseError("the instruction is empty")
    if len(instruction) > MAXIMUM_CHARACTERS:
        raise ParseError(f"an instruction of {len(instruction)} characters, more than {MAXIMUM_CHARACTERS}")
    return WrittenTask(
        instruction=instruction,
        first_state=State.of(_state_lines(sections["state"])),
        reasoning=" ".join(sections.get("reason", "").split()),
    )


def family_parameters(task: Task) -> dict[str, JsonScalar]:
    """Parameters that variations of a task share: numbers and switches. Texts name an instance (a game's file)."""
    lineage = task.lineage
    own = () if lineage is None else lineage.parameters
    return {name: value for name, value in task.parameters.items() if name not in own and not isinstance(value, str)}


def family_of(task: Task) -> str:
    """What tasks have in common that are variations of each other: environment, fold and parameters."""
    parameters = sorted(family_parameters(task).items())
    return f"{task.environment} {task.fold} {json.dumps(parameters, separators=(',', ':'))}"


def content_key(instruction: str, first_state: State) -> str:
    """Hash of what a task says, whoever made it: the order of lines and letter case do not matter."""
    content = [" ".join(instruction.lower().split()), sorted(line.lower() for line in first_state.lines)]
    return hashlib.blake2b(json.dumps(content, ensure_ascii=False).encode(), digest_size=8).hexdigest()


def _sections(written: str) -> dict[str, str]:
    tags = list(_TAG.finditer(written))
    sections: dict[str, str] = {}
    if not tags or written[: tags[0].start()].strip():
        raise ParseError("the answer does not begin with a tag")
    for number, tag in enumerate(tags):
        name = tag[1].lower()
        if name == "end":
            break
        if name not in ("reason", "task", "state"):
            raise ParseError(f"the answer has a <{name}>, which no task has")
        if name in sections:
            raise ParseError(f"<{name}> is there twice")
        stop = tags[number + 1].start() if number + 1 < len(tags) else len(written)
        sections[name] = written[tag.end() : stop]
    for name in ("task", "state"):
        if name not in sections:
            raise ParseError(f"<{name}> is missing")
    return sections


def _state_lines(section: str) -> list[str]:
    lines = list(dict.fromkeys(" ".join(line.split()) for line in section.splitlines() if line.strip()))
    if not lines:
        raise ParseError("the first state is empty")
    if len(lines) > MAXIMUM_LINES:
        raise ParseError(f"{len(lines)} lines, more than {MAXIMUM_LINES}")
    keys: set[str] = set()
    for line in lines:
        key, value = split_line(line)
        if not key:
            raise ParseError(f"a line without an element: {line[:60]!r}")
        if value == GONE or key == RESULT:
            raise ParseError(f"no first state has the line {line[:60]!r}")
        if len(line) > MAXIMUM_CHARACTERS:
            raise ParseError(f"a line of {len(line)} characters: {line[:60]!r}")
        if key in keys:
            raise ParseError(f"two different lines for {key[:60]!r}")
        keys.add(key)
    return lines
