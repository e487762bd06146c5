"""The books of a TextWorldExpress episode: rooms, exits, closed contents, texts read, the recipe, what was put where.

In: a task and, one after another, its transitions. Out: what the rules and the goal check look up.
Always: states are compared as collections of (name, value): two things of one name are numbered by the mapping in the
order of the text, so their keys say nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from dreamsim.experience.books import Books, base_name
from dreamsim.experience.parse import AnswerRules
from dreamsim.records.episode import Transition
from dreamsim.records.state import RESULT, SCENE, is_held
from dreamsim.records.task import Task
from dreamsim_adapters.environments.textworld_express.belongings import BELONGINGS, Belongings
from dreamsim_adapters.environments.textworld_express.mapping import (
    DIRECTIONS,
    FAILED,
    ORDERS,
    PREPARATIONS,
    SIMON_SAYS,
)
from dreamsim_adapters.environments.textworld_express.teacher import recipe_of

CLOSED_DOOR: Final = "closed door"
OPEN_DOOR: Final = " open door"

Things = Counter[tuple[str, str]]
"""(name, value) -> how often."""


class TextWorldExpressBooks(Books):
    """What is written down of one episode."""

    def __init__(self, task: Task, rewards: AnswerRules, belongings: Belongings = BELONGINGS) -> None:
        super().__init__(task, rewards)
        self.belongings = belongings
        """twc: where things belong."""
        self.game = task.environment.partition("/")[2]
        """Name of the game."""
        self.rooms: dict[str, Things] = {}
        """Room -> what was there when it was left, without what was held."""
        self.exits: dict[tuple[str | None, str], str] = {}
        """(room, way) -> the room behind it."""
        self.contents: dict[tuple[str | None, str], Things] = {}
        """(room, container) -> what was in it when it was last open."""
        self.texts: dict[str, str] = {}
        """Thing -> what reading it returned."""
        self.recipe: dict[str, list[str]] | None = None
        """Ingredient -> what must be done to it; None while the cookbook is unread."""
        self.put: dict[str, str] = {}
        """Things put somewhere and not taken up again since -> where."""
        self.taken: set[str] = set()
        """Things that were held at some time."""
        self.command = ""
        """peckingorder: the command that was read and still stands."""
        self.orders: tuple[str, ...] = ()
        """simonsays: the commands that stand, the next one first; empty where none was shown."""
        self.followed = 0
        """simonsays: commands followed so far."""
        self.seen: Things = Counter()
        """What `before` shows, the result line aside; not to be changed."""
        self._note(task.first_state.elements)

    @property
    def limited(self) -> bool:
        """Whether only a few things can be carried."""
        return bool(self.task.parameters.get("limitInventorySize"))

    def values(self, name: str) -> list[str]:
        """Values of the things of this name that can be seen now."""
        if name in (SCENE, RESULT, *DIRECTIONS):
            return []
        return [value for key, value in self.before.items() if base_name(key) == name]

    def held(self, name: str) -> list[str]:
        """Values of the things of this name that are held."""
        return [value for value in self.values(name) if is_held(value)]

    def enter(self, transition: Transition) -> None:
        """Go on from `transition`."""
        after = transition.state.elements
        if after.get(RESULT) != FAILED:
            self._did(transition.action, after.get(RESULT, ""))
        super().enter(transition)
        self._note(self.before)

    def _did(self, action: str, result: str) -> None:
        verb, _, rest = action.partition(" ")
        if verb in ("put", "take"):
            self.command = ""  # in peckingorder, whatever is moved brings another one
            name, _, place = rest.partition(" in ")
            self.put.pop(name, None)
            if verb == "put":
                self.put[name] = place
        elif verb in ("read", "examine") and result:
            self.texts[rest] = result
            if result.startswith("gather "):
                self.recipe = recipe_of(result)
            if rest == "instructions book":
                self.command = result
        if self.orders and action == self.orders[0]:
            self.orders = self.orders[1:]
            self.followed += 1

    def _note(self, elements: Mapping[str, str]) -> None:
        if (said := elements.get(RESULT, "")).startswith(SIMON_SAYS):
            self.orders = tuple(said.removeprefix(SIMON_SAYS).split(ORDERS))
        room, seen = elements.get(SCENE), things(elements)
        self.seen = seen
        if room is not None:
            self.rooms[room] = lying(seen)
        for key, value in elements.items():
            if value == "open":
                self.contents[room, key] = inside(seen, key)
            elif key in DIRECTIONS:
                if value != CLOSED_DOOR:
                    self.exits[room, key] = value.removesuffix(OPEN_DOOR)
            elif is_held(value):
                self.taken.add(base_name(key))


def things(elements: Mapping[str, str]) -> Things:
    """All elements, the result line aside."""
    found = Counter(zip(map(base_name, elements), elements.values(), strict=True))
    if (said := elements.get(RESULT)) is not None:
        found[RESULT, said] -= 1
        if not found[RESULT, said]:
            del found[RESULT, said]
    return found


def lying(all_things: Things) -> Things:
    """What is not held."""
    return _some(all_things, lambda value: not is_held(value))


def inside(all_things: Things, container: str) -> Things:
    """What lies in or on `container`; not what lies in another whose name begins alike (`desk` and `desk chair`)."""
    return _some(all_things, lambda value: lies_in(value, container))


def _some(all_things: Things, wanted: Callable[[str], bool]) -> Things:
    found: Things = Counter()
    for thing, count in all_things.items():  # given a mapping, a Counter first asks what it is
        if wanted(thing[1]):
            found[thing] = count
    return found


def lies_in(value: str, container: str) -> bool:
    """Whether `value` is `in <container>`, with nothing behind it but how the thing is prepared."""
    if not value.startswith("in ") or not value.startswith(container, 3):
        return False
    rest = value[len(container) + 3 :]
    return rest[:1] in ("", " ") and all(word in PREPARATIONS for word in rest.split())
