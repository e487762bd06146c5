"""From what ALFWorld says to element lines: what an attentive reader knows of the place the agent is at.

In: a transcript, the form in which published logs come too: the opening, then `> action` and what it gave, in turn.
Out: a `State` such as

    at: fridge 1
    fridge 1: open
    apple 1: in fridge 1
    mug 2: held clean
    result: failed

and, before the agent has gone anywhere, one line for each kind of place with the numbers there are:

    at: room
    cabinet: 1 2 3 4
    fridge: 1

Always:
- names are those that actions use; conditions (`clean`, `hot`, `cool`, `sliced`, `on`) follow the place of a thing;
- only what the texts have said is in a state: a closed container shows nothing, a thing that was cleaned stays known as
  clean, and what is beside the agent's place shows once it was looked at or used;
- whatever cannot be done reads `result: failed`, what can be read reads `result: ...`;
- both dialects, with or without their `You arrive at ...`, give the same states; think steps are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from dreamsim.records.state import RESULT, SCENE, State

FAILED: Final = "failed"
ROOM: Final = "room"
CONDITIONS: Final = ("clean", "hot", "cool", "sliced", "on")
"""In the order in which they are written."""
NOTHING_SPECIAL: Final = "nothing special"
LONGEST_RESULT: Final = 200

_NAME = r"([a-z]+ \d+)"
_THING: Final = re.compile(rf"\ban? {_NAME}")
_ARRIVAL: Final = re.compile(r"^You arrive at (?:loc -?\d+|[a-z]+ \d+)\. ")
_LISTING: Final = re.compile(
    rf"^(?:You open the {_NAME}\. )?(?:(?:On|In) the (?P<on>[a-z]+ \d+), you see (?P<things>.+)|"
    r"The (?P<closed>[a-z]+ \d+) is closed|The (?P<open>[a-z]+ \d+) is open\. In it, you see (?P<inside>.+?))\.?$"
)
_CLOSES: Final = re.compile(rf"^You close the {_NAME}\.")
_TAKES: Final = re.compile(rf"^You pick up the {_NAME} from the {_NAME}\.")
_PUTS: Final = re.compile(rf"^You (?:put|move) the {_NAME} (?:in/on|in|on|to) the {_NAME}\.")
_CHANGES: Final = re.compile(rf"^You (clean|heat|cool) the {_NAME} using the {_NAME}\.")
_SLICES: Final = re.compile(rf"^You sliced the {_NAME} with the {_NAME}\.")
_SWITCHES: Final = re.compile(rf"^You turn (on|off) the {_NAME}\.")
_FACING: Final = re.compile(r"^You are facing (.+?)\. Next to it, you see (.+?)\.?$")
_CONTENTS: Final = re.compile(rf"^This is a normal {_NAME}\. In it, you see (.+?)\.?$")
_CONDITION: Final = re.compile(rf"^This (?:is an? )?(.*?){_NAME}(?: is (on|off))?\.$")
_BECOMES: Final = {"clean": "clean", "heat": "hot", "cool": "cool"}
_THOUGHT: Final = re.compile(r"^(?:think|actionpath)\b", re.IGNORECASE)


def transcript(opening: str, steps: Iterable[tuple[str, str]]) -> str:
    """The raw observation that `AlfworldMapping.state` reads: all that was said, and the actions it answered."""
    return "\n".join((opening, *(f"> {' '.join(action.split())}\n{feedback}" for action, feedback in steps)))


def instruction_of(opening: str) -> str:
    """The task, from the opening."""
    _, _, goal = opening.partition("Your task is to: ")
    return " ".join(goal.partition("\n")[0].split()).rstrip(".")


class AlfworldMapping:
    """The state mapping of all games, in both dialects."""

    def state(self, raw: str) -> State:
        """The element lines at the end of a transcript."""
        opening, *turns = re.split(r"(?:^|\n)> ?", raw)
        notes = Notes(opening)
        for turn in turns:
            action, _, feedback = turn.partition("\n")
            notes.see(action.strip(), feedback)
        return notes.state


class Notes:
    """What an attentive reader of one episode knows."""

    def __init__(self, opening: str) -> None:
        """`opening` is the first observation."""
        self.at = ROOM
        """Where the agent is."""
        self.places = tuple(_THING.findall(opening.partition("Your task is to")[0]))
        """Every place there is."""
        self.status: dict[str, str] = {}
        """Place -> `open` or `closed`, where known; most places are neither."""
        self.contents: dict[str, list[str]] = {}
        """Place -> things that are known to be in it. The games hold things that lie in two places at once."""
        self.loose: dict[str, set[str]] = {}
        """Place -> things within reach from it, in what is not known."""
        self.held: list[str] = []
        """What the agent holds."""
        self.conditions: dict[str, set[str]] = {}
        """Thing -> its conditions."""
        self.beside: dict[str, set[str]] = {}
        """Place -> places that can be reached from it without going."""
        self._result = ""

    @property
    def state(self) -> State:
        """The state now."""
        elements = {SCENE: self.at}
        if self.at == ROOM:
            elements |= _kinds(self.places)
        for place in (self.at, *sorted(self.beside.get(self.at, ()))):
            if place in self.status:
                elements[place] = self.status[place]
            if self.status.get(place) != "closed":
                for thing in self.contents.get(place, ()):
                    elements.setdefault(thing, self._with_conditions(f"in {place}", thing))
        for thing in sorted(self.loose.get(self.at, ())):
            elements.setdefault(thing, self._with_conditions("here", thing))
        elements |= {thing: self._with_conditions("held", thing) for thing in self.held}
        if self._result:
            elements[RESULT] = self._result
        return State.from_elements(elements)

    def see(self, action: str, feedback: str) -> None:
        """`action` gave `feedback`."""
        text = " ".join(feedback.split())
        if text == "OK." or (_THOUGHT.match(action) and not text):
            return
        self._result = ""
        arrives = action.startswith("go to ") or _ARRIVAL.match(text) is not None
        text = _ARRIVAL.sub("", text)
        if text.startswith("Nothing happens"):
            self._result = FAILED
        elif found := _LISTING.match(text):
            self._list(found, arrives=arrives)
        elif not self._change(text):
            self._result = self._read(text)

    def _list(self, found: re.Match[str], *, arrives: bool) -> None:
        place = found["on"] or found["closed"] or found["open"]
        if arrives:
            self.at = place
        else:
            self._use(place)
        if found["closed"]:
            self.status[place] = "closed"
            return
        if found["open"]:
            self.status[place] = "open"
        self.contents[place] = _THING.findall(found["things"] or found["inside"])

    def _change(self, text: str) -> bool:
        """Take in what an action changed; False if it changed nothing."""
        if found := _CLOSES.match(text):
            self._use(found[1])
            self.status[found[1]] = "closed"
        elif found := _TAKES.match(text):
            self._use(found[2])
            self.contents[found[2]] = [thing for thing in self.contents.get(found[2], ()) if thing != found[1]]
            self.held.append(found[1])
        elif found := _PUTS.match(text):
            self._use(found[2])
            self.held = [thing for thing in self.held if thing != found[1]]
            self.contents.setdefault(found[2], []).append(found[1])
        elif found := _CHANGES.match(text):
            self._use(found[3])
            self._becomes(found[2], _BECOMES[found[1]])
        elif found := _SLICES.match(text):
            self._becomes(found[1], "sliced")
        elif found := _SWITCHES.match(text):
            # A lamp that was not seen yet is within reach; in what, the text does not say.
            self.loose.setdefault(self.at, set()).add(found[2])
            self._becomes(found[2], found[1])
        else:
            return False
        return True

    def _becomes(self, thing: str, condition: str) -> None:
        conditions = self.conditions.setdefault(thing, set())
        conditions -= {"hot": {"cool"}, "cool": {"hot"}, "off": {"on"}}.get(condition, set())
        if condition in CONDITIONS:
            conditions.add(condition)

    def _use(self, place: str) -> None:
        """`place` was reached from where the agent is."""
        if ROOM not in (self.at, place) and place != self.at:
            group = {self.at, place, *self.beside.get(self.at, ()), *self.beside.get(place, ())}
            for member in group:
                self.beside[member] = group - {member}

    def _read(self, text: str) -> str:
        """The result line of what can be read."""
        if found := _FACING.match(text):
            places = re.findall(_NAME, found[1])
            for place in places:
                self._use(place)
            others = _THING.findall(found[2])
            return "facing " + ", ".join(places) + ("; next to it " + ", ".join(others) if others else "")
        if text.startswith("You are carrying"):
            return "carrying " + ", ".join(_THING.findall(text))
        if text.startswith("You are not carrying"):
            return "carrying nothing"
        if text.startswith("You are in the middle of a room"):
            return "in the middle of the room"
        if text.startswith("There's nothing special"):
            return NOTHING_SPECIAL
        if found := _CONTENTS.match(text):
            return "holds " + (", ".join(_THING.findall(found[2])) or "nothing")
        if found := _CONDITION.match(text):
            conditions = [*found[1].replace("cold", "cool").replace(" and ", " ").split(), *filter(None, [found[3]])]
            for condition in conditions:
                self._becomes(found[2], condition)
            return " ".join(conditions)
        return "list of commands" if text.startswith("Available commands") else text[:LONGEST_RESULT]

    def _with_conditions(self, place: str, thing: str) -> str:
        known = self.conditions.get(thing, ())
        return " ".join((place, *(condition for condition in CONDITIONS if condition in known)))


def _kinds(places: Iterable[str]) -> dict[str, str]:
    numbers: dict[str, list[int]] = {}
    for place in places:
        kind, _, number = place.rpartition(" ")
        numbers.setdefault(kind, []).append(int(number))
    return {kind: " ".join(map(str, sorted(known))) for kind, known in sorted(numbers.items())}
