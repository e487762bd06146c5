"""From what TextWorldExpress says to element lines, and from its task texts to short instructions.

In: the feedback, look and inventory texts of one step. Out: a `State` such as

    at: kitchen
    fridge: open
    egg: in fridge raw
    knife: held
    north: pantry

Always:
- Every name is the one that actions use; preparation (`raw`, `roasted`, `sliced`, ...) follows the place.
- Whatever cannot be done reads `result: failed`, whatever can be read reads `result: ...`, all else has no result
  line: the other lines show what it did.
- Things on the floor, furniture and appliances read `here`; things on or in furniture read `in <furniture>`,
  as in the action that puts them there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dreamsim.records.state import RESULT, SCENE, State
from dreamsim.records.task import JsonScalar

FAILED = "failed"
PREPARATIONS = ("raw", "roasted", "fried", "grilled", "burned", "sliced", "diced", "chopped")
DIRECTIONS = ("north", "south", "east", "west")

_ROOM = re.compile(r"^You are in the (?P<room>[^.]+)\.\s*")
_INTRODUCTION = re.compile(
    r"^(?:In one part of the room you see|There is also|You also see|In another part of the room you see) "
)
_ARTICLE = re.compile(r"^(?:an?|some|the)\s+", re.IGNORECASE)
_OPEN_DOOR = re.compile(r"^Through an? open (?P<door>.+?), to the (?P<way>\w+) you see the (?P<room>.+)$")
_WAY = re.compile(r"^To the (?P<way>\w+) you see (?P<what>.+)$")
_CONTENTS = re.compile(
    r"^(?P<name>.+?),? that (?:(?P<closed>is closed)|(?P<empty>is empty|has nothing on it)|"
    r"has (?P<on>.+) on it|contains (?P<inside>.+))$"
)
_FAILURES = ("Unknown action", "You can't", "That is already", "You cannot", "That is not", "I'm not sure")
_SEPARATOR = "\f"
SIMON_SAYS = "Simon says "
ORDERS = "; "
"""Between the commands that Simon gives at once."""


def raw_observation(feedback: str, look: str, inventory: str) -> str:
    """Join the three texts of one step into one raw observation, the input of `TextWorldExpressMapping.state`."""
    return _SEPARATOR.join((feedback, look, inventory))


class TextWorldExpressMapping:
    """The state mapping of all eight games."""

    def state(self, raw: str) -> State:
        """The element lines of `raw_observation(feedback, look, inventory)`."""
        feedback, look, inventory = [*raw.split(_SEPARATOR), "", ""][:3]
        elements: dict[str, str] = {}
        _add_room(elements, look)
        for item in _inventory_items(inventory):
            _add(elements, *_name_and_preparation(item), place="held")
        result = result_of(feedback)
        if result:
            elements[RESULT] = result
        return State.from_elements(elements)


def _add(elements: dict[str, str], name: str, preparation: str, *, place: str) -> None:
    key, number = name, 2
    while key in elements:
        key, number = f"{name} #{number}", number + 1
    elements[key] = f"{place} {preparation}".strip()


def _name_and_preparation(thing: str) -> tuple[str, str]:
    words = _ARTICLE.sub("", thing.strip()).split()
    preparation = [word for word in words if word in PREPARATIONS]
    return " ".join(word for word in words if word not in PREPARATIONS), " ".join(preparation)


def _things(listing: str) -> list[str]:
    return [thing for thing in re.split(r",\s+and\s+|,\s+|\s+and\s+", listing.strip()) if thing.strip()]


def _inventory_items(inventory: str) -> list[str]:
    lines = [line.strip() for line in inventory.splitlines()[1:]]
    return [line for line in lines if line and not line.startswith("Your inventory is")]


def _add_room(elements: dict[str, str], look: str) -> None:
    room = _ROOM.match(look)
    if room is None:
        return
    elements[SCENE] = room["room"]
    exits: dict[str, str] = {}
    for part in re.split(r"\.\s+|\.$|\n", look[room.end() :]):
        sentence = part.strip().rstrip(".")
        if not sentence:
            continue
        if door := _OPEN_DOOR.match(sentence):
            exits[door["way"].lower()] = f"{door['room']} open door"
        elif way := _WAY.match(sentence):
            what = _ARTICLE.sub("", way["what"])
            exits[way["way"].lower()] = "closed door" if what.startswith("closed ") else what
        else:
            _add_thing(elements, _INTRODUCTION.sub("", sentence))
    elements.update({way: exits[way] for way in DIRECTIONS if way in exits})


def _add_thing(elements: dict[str, str], text: str) -> None:
    text = _ARTICLE.sub("", text)
    is_open = text.startswith("open ")
    if is_open:
        text = text.removeprefix("open ")
    contents = _CONTENTS.match(text)
    if contents is None:
        _add(elements, *_name_and_preparation(text), place="open" if is_open else "here")
        return
    name, preparation = _name_and_preparation(contents["name"])
    place = "closed" if contents["closed"] else "open" if is_open else "here"
    _add(elements, name, preparation, place=place)
    for thing in _things(contents["on"] or contents["inside"] or ""):
        _add(elements, *_name_and_preparation(thing), place=f"in {name}")


def result_of(feedback: str) -> str:
    """What an action returned beyond what it changed: `failed`, something read, or nothing."""
    text = " ".join(feedback.split())
    if text.startswith(_FAILURES):
        return FAILED
    if text.startswith("Gather all following ingredients"):
        return _recipe(feedback)
    if text.startswith("The map reads"):
        ways = [line.strip().rstrip(".") for line in feedback.splitlines()[1:] if line.strip()]
        plain = [re.sub(r"^The (.+?) connects to the (.+)$", r"\1 to \2", way) for way in ways]
        return "map " + "; ".join(way.replace(" and ", ", ") for way in plain)
    if found := re.search(r"following math problem: (.+?)\s*\. ", text + " "):
        return found[1]
    if found := re.match(r"The current task is to (.+?)\.$", text):
        return "task " + found[1]
    if found := re.match(r"Simon says,? '(.+?)'", text):
        return SIMON_SAYS + found[1]
    if found := re.match(r"Simon says, take these actions in order: (.+?)\.$", text):
        return SIMON_SAYS + ORDERS.join(found[1].split(", "))
    if text.startswith("Incorrect"):
        return "incorrect"
    return ""


def _recipe(feedback: str) -> str:
    _, _, rest = feedback.partition("Ingredients:")
    ingredients, _, directions = rest.partition("Directions:")
    needs = ", ".join(line.strip() for line in ingredients.splitlines() if line.strip())
    steps = "; ".join(re.sub(r"\s+the\s+", " ", line.strip()) for line in directions.splitlines() if line.strip())
    return f"gather {needs}; {steps}"


def instruction(game: str, description: str, parameters: Mapping[str, JsonScalar]) -> str:
    """A short instruction with what the game's own description leaves out, such as how many objects there are."""
    if game == "twc":
        return f"put {parameters.get('numItemsToPutAway', 'all')} objects where they belong"
    if game == "coin":
        return "find and take the coin"
    if game == "cookingworld":
        return "read the cookbook, make the meal and eat it"
    if game == "mapreader":
        found = re.search(r"located in the (.+?), and put it into the box found in the (.+?)\.", description)
        if found:
            return f"take the coin in the {found[1]} and put it in the box in the {found[2]}"
    if game == "arithmetic":
        return "solve the math problem and put the item of that quantity in the box"
    if game == "sorting":
        return "put all objects in the box, the smallest quantity first"
    if game == "simonsays":
        return "do what Simon says"
    if game == "peckingorder":
        return "read the instructions book and do what it says until the game is won"
    return " ".join(description.split())
