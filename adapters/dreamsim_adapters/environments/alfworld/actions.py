"""ALFWorld's actions and goals in parts, in both dialects.

In: an action or an instruction. Out: what it is about. Always: parsing looks at the words alone, so that what is no
action of the games is told apart from what is one and cannot work now.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_NAME = r"[a-z]+ \d+"
_FORMS: Final = (
    ("go", re.compile(rf"go to (?P<place>{_NAME})")),
    ("open", re.compile(rf"open (?P<place>{_NAME})")),
    ("close", re.compile(rf"close (?P<place>{_NAME})")),
    ("take", re.compile(rf"take (?P<thing>{_NAME}) from (?P<place>{_NAME})")),
    ("put", re.compile(rf"(?:move (?P<thing>{_NAME}) to|put (?P<other>{_NAME}) in/on) (?P<place>{_NAME})")),
    ("clean", re.compile(rf"clean (?P<thing>{_NAME}) with (?P<place>{_NAME})")),
    ("heat", re.compile(rf"heat (?P<thing>{_NAME}) with (?P<place>{_NAME})")),
    ("cool", re.compile(rf"cool (?P<thing>{_NAME}) with (?P<place>{_NAME})")),
    ("slice", re.compile(rf"slice (?P<thing>{_NAME}) with (?P<tool>{_NAME})")),
    ("use", re.compile(rf"use (?P<thing>{_NAME})")),
    ("examine", re.compile(rf"examine (?P<thing>{_NAME})")),
    ("look", re.compile("look")),
    ("inventory", re.compile("inventory")),
    ("help", re.compile("help")),
)
CONDITION_OF: Final = {"clean": "clean", "heat": "hot", "cool": "cool", "slice": "sliced"}
"""Verb -> the condition it gives a thing."""
_GOALS: Final = (
    re.compile(r"put (?P<count>two) (?P<thing>[a-z]+) in (?P<place>[a-z]+)"),
    re.compile(r"find (?P<count>two) (?P<thing>[a-z]+) and put them in (?P<place>[a-z]+)"),
    re.compile(r"put (?:a|some) (?:(?P<condition>clean|hot|cool) )?(?P<thing>[a-z]+) (?:in|on) (?P<place>[a-z]+)"),
    re.compile(r"(?P<verb>clean|heat|cool) some (?P<thing>[a-z]+) and put it in (?P<place>[a-z]+)"),
    re.compile(r"look at (?P<thing>[a-z]+) under the (?P<lamp>[a-z]+)"),
    re.compile(r"examine the (?P<thing>[a-z]+) with the (?P<lamp>[a-z]+)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action in parts."""

    verb: str = ""
    """`go`, `take`, `put`, ...; empty for what is no action of the games."""
    thing: str = ""
    """What it is done to."""
    place: str = ""
    """Where, or with what furniture."""
    tool: str = ""
    """With what thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a task asks for."""

    thing: str
    """Kind of thing."""
    place: str = ""
    """Kind of place it must be in; empty for tasks about light."""
    condition: str = ""
    """Condition it must have, if any."""
    count: int = 1
    """How many."""
    lamp: str = ""
    """Kind of lamp that must be on while the thing is held."""


def parse_action(action: str) -> Action:
    """The parts of `action`."""
    text = " ".join(action.split())
    for verb, form in _FORMS:
        if found := form.fullmatch(text):
            parts = found.groupdict()
            thing = parts.get("thing") or parts.get("other") or ""
            return Action(verb=verb, thing=thing, place=parts.get("place") or "", tool=parts.get("tool") or "")
    return Action()


def parse_goal(instruction: str) -> Goal | None:
    """What `instruction` asks for; None for other words than the package's own."""
    text = " ".join(instruction.lower().split()).rstrip(".")
    for form in _GOALS:
        if found := form.fullmatch(text):
            parts = found.groupdict()
            return Goal(
                thing=parts["thing"],
                place=parts.get("place") or "",
                condition=parts.get("condition") or CONDITION_OF.get(parts.get("verb") or "", ""),
                count=2 if parts.get("count") else 1,
                lamp=parts.get("lamp") or "",
            )
    return None


def kind_of(name: str) -> str:
    """`mug 2` -> `mug`."""
    return name.rpartition(" ")[0]
