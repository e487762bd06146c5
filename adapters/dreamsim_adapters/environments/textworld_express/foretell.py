"""What the books say of a step before it is taken: whether it works, and what must be seen after it.

In: the books of an episode and an action. Out: `Foretold`.
Always: what the episode has not shown and the game's own rules do not fix is left open (`works` is None, `things` is
None or `opens` is set): these books never know more than an attentive player who knows the game.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from dreamsim.records.state import SCENE, is_held
from dreamsim_adapters.environments.textworld_express.books import (
    CLOSED_DOOR,
    OPEN_DOOR,
    TextWorldExpressBooks,
    Things,
    inside,
    lies_in,
    lying,
)
from dreamsim_adapters.environments.textworld_express.furniture import (
    BOX,
    COOKED,
    COOKED_BY,
    CUT,
    CUT_BY,
    FIXED,
    FLAT,
    NO_FOOD,
    NOT_FLAT,
    OPENABLE,
    READABLE,
    STEP_MAKES,
)
from dreamsim_adapters.environments.textworld_express.mapping import DIRECTIONS

OPPOSITE: Final[Mapping[str, str]] = {"north": "south", "south": "north", "east": "west", "west": "east"}
_COOKING: Final = "cookingworld"
_OPENING: Final = frozenset({"twc", _COOKING})
"""Games in which containers can be opened."""


Allowed = Callable[[str, str], bool]
"""Whether a thing of this name and value may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What must come of an action."""

    works: bool | None = None
    """Whether it works; None: either may be."""
    things: Things | None = None
    """What is seen after it if it works; None: anything."""
    may_add: Allowed | None = None
    """What may be seen beside `things`: a room or a container's contents that no step has shown."""
    may_lose: Allowed | None = None
    """What of `things` may be gone: what an unread recipe needs."""
    reads: str | None = None
    """What is read: its text must be that of the last time."""
    about: str = ""
    """The thing that the action is about."""


_FAILS: Final = Foretold(works=False)
_OPEN_END: Final = Foretold()


def foretell(books: TextWorldExpressBooks, action: str) -> Foretold:
    """What the books say of `action`; nothing in `simonsays`, where actions are only words."""
    verb, _, rest = action.partition(" ")
    if books.game == "simonsays" or books.scene is None or action != " ".join(action.split()):
        return _OPEN_END
    if action in ("look around", "inventory"):
        return Foretold(works=True, things=books.seen)
    known = _VERBS.get(verb)
    if known is None or not rest:
        return _OPEN_END
    return known(books, rest) if _in_sight(books, rest) else _OPEN_END


def _lies_in(container: str, name: str, value: str) -> bool:
    return lies_in(value, container)


def _open_way(way: str, name: str, value: str) -> bool:
    return name == way and value.endswith(OPEN_DOOR)


def _stands_in_a_room(name: str, value: str) -> bool:
    return name != SCENE and not is_held(value)


def _held_food(name: str, value: str) -> bool:
    return is_held(value) and name not in NO_FOOD | {"meal"}


def _in_sight(books: TextWorldExpressBooks, rest: str) -> bool:
    """Whether names are written as the game writes them: with other capitals, the game may still know them."""
    return rest == rest.lower() or any(key in rest for key in books.before if key != key.lower())


def _after(books: TextWorldExpressBooks, *, gone: tuple[str, str] | None, new: tuple[str, str] | None) -> Things:
    seen = Counter(books.seen)
    if gone is not None:
        seen[gone] -= 1
    if new is not None:
        seen[new] += 1
    return +seen


def _preparation(value: str, place: str) -> str:
    return value.removeprefix(place).strip()


def _take(books: TextWorldExpressBooks, name: str) -> Foretold:
    free = sorted({value for value in books.values(name) if not is_held(value)})
    if not free or name in FIXED or name in OPENABLE:
        return _FAILS
    if len(free) > 1:
        return Foretold(about=name)
    value = free[0]
    within = next((key for key in books.before if lies_in(value, key)), "")
    place = f"in {within}" if value.startswith("in ") else "here"
    sure = value.startswith("in ") or name in books.taken or name == "coin"
    held = f"held {_preparation(value, place)}".strip()
    after = _after(books, gone=(name, value), new=(name, held))
    return Foretold(works=True if sure and not books.limited else None, things=after, about=name)


def _put(books: TextWorldExpressBooks, rest: str) -> Foretold:
    name, _, place = rest.partition(" in ")
    held, where = sorted(set(books.held(name))), books.values(place)
    if books.game == "coin" or not held or not where or all(is_held(value) for value in where):
        return _FAILS
    if place in NOT_FLAT or place in books.taken or "closed" in where or where[0].startswith("in "):
        return _FAILS
    works = "open" in where or place in FLAT or place == BOX
    if books.game == "mapreader" and place != BOX:
        works = False
    value = f"in {place} {_preparation(held[0], 'held')}".strip()
    after = _after(books, gone=(name, held[0]), new=(name, value))
    return Foretold(works=True if works else None, things=after if len(held) == 1 else None, about=name)


def _open(books: TextWorldExpressBooks, name: str) -> Foretold:
    if name.startswith("door to "):
        return _door(books, name.removeprefix("door to "), opens=True)
    if books.game not in _OPENING or "closed" not in books.values(name):
        return _FAILS
    after = _after(books, gone=(name, "closed"), new=(name, "open"))
    known = books.contents.get((books.scene, name))
    return Foretold(
        works=True,
        things=after if known is None else after + known,
        may_add=partial(_lies_in, name) if known is None else None,
        about=name,
    )


def _close(books: TextWorldExpressBooks, name: str) -> Foretold:
    if name.startswith("door to "):
        return _door(books, name.removeprefix("door to "), opens=False)
    if books.game not in _OPENING or "open" not in books.values(name):
        return _FAILS
    after = _after(books, gone=(name, "open"), new=(name, "closed"))
    return Foretold(works=True, things=after - inside(after, name), about=name)


def _door(books: TextWorldExpressBooks, way: str, *, opens: bool) -> Foretold:
    value = books.before.get(way, "") if way in DIRECTIONS else ""
    if value == CLOSED_DOOR and opens:
        behind = books.exits.get((books.scene, way))
        if behind is None:
            rest = _after(books, gone=(way, value), new=None)
            return Foretold(works=True, things=rest, may_add=partial(_open_way, way), about=way)
        return Foretold(works=True, things=_after(books, gone=(way, value), new=(way, behind + OPEN_DOOR)), about=way)
    if value.endswith(OPEN_DOOR) and not opens:
        return Foretold(works=True, things=_after(books, gone=(way, value), new=(way, CLOSED_DOOR)), about=way)
    return _FAILS


def _move(books: TextWorldExpressBooks, way: str) -> Foretold:
    value = books.before.get(way, CLOSED_DOOR) if way in DIRECTIONS else CLOSED_DOOR
    if value == CLOSED_DOOR:
        return _FAILS
    room = value.removesuffix(OPEN_DOOR)
    seen = books.seen
    held = seen - lying(seen)
    back = f"{books.scene}{OPEN_DOOR}" if value.endswith(OPEN_DOOR) else str(books.scene)
    there = books.rooms.get(room)
    if there is None:
        new = Counter({(SCENE, room): 1, (OPPOSITE[way], back): 1})
        return Foretold(works=True, things=held + new, may_add=_stands_in_a_room, about=way)
    # A door stands as it was left on this side, whichever side that was done from.
    through = Counter({thing: count for thing, count in there.items() if thing[0] != OPPOSITE[way]})
    through[OPPOSITE[way], back] = 1
    return Foretold(works=True, things=held + through, about=way)


def _examine(books: TextWorldExpressBooks, name: str) -> Foretold:
    if not books.values(name):
        return _FAILS
    if books.game != _COOKING:
        return _OPEN_END
    return Foretold(works=True, things=books.seen, reads=name if name in READABLE else None, about=name)


def _read(books: TextWorldExpressBooks, name: str) -> Foretold:
    if not books.values(name) or name not in READABLE:
        return _FAILS
    held = bool(books.held(name))
    if name == "math problem" and not held:
        return _FAILS  # is read in the hand
    sure = name != "map" or held
    text = "" if name == "instructions book" else name  # its text changes while the game goes on
    return Foretold(works=True if sure else None, things=books.seen, reads=text, about=name)


def _cut(verb: str) -> Callable[[TextWorldExpressBooks, str], Foretold]:
    def cut(books: TextWorldExpressBooks, name: str) -> Foretold:
        return _prepared(books, name, CUT_BY[verb], done=CUT, tool=bool(books.held("knife")))

    return cut


def _cook(books: TextWorldExpressBooks, rest: str) -> Foretold:
    name, _, place = rest.partition(" in ")
    there = place in COOKED_BY and any(not is_held(value) for value in books.values(place))
    return _prepared(books, name, COOKED_BY.get(place, ""), done=COOKED, tool=there)


def _prepared(books: TextWorldExpressBooks, name: str, makes: str, *, done: frozenset[str], tool: bool) -> Foretold:
    """Food `name` becomes `makes`; it cannot be `done` so already, and the tool must be at hand."""
    held = books.held(name)
    if books.game != _COOKING or not held or not tool or name in NO_FOOD or name == "meal":
        return _FAILS
    if all(done & set(value.split()) for value in held):
        return _FAILS
    if len(held) > 1:
        return Foretold(about=name)
    had = [word for word in held[0].split()[1:] if word != "raw" or makes in CUT]
    words = [*had, makes] if makes in CUT else [makes, *had]
    after = _after(books, gone=(name, held[0]), new=(name, " ".join(["held", *words])))
    needed = makes in {STEP_MAKES.get(step) for step in (books.recipe or {}).get(name, [])}
    return Foretold(works=True if needed else None, things=after, about=name)


def _eat(books: TextWorldExpressBooks, name: str) -> Foretold:
    held = books.held(name)
    if books.game != _COOKING or not held or name in NO_FOOD:
        return _FAILS
    after = _after(books, gone=(name, held[0]), new=None) if len(held) == 1 else None
    return Foretold(works=True if name == "meal" else None, things=after, about=name)


def _prepare(books: TextWorldExpressBooks, what: str) -> Foretold:
    if what != "meal":
        return _OPEN_END
    if books.game != _COOKING:
        return _FAILS
    if books.recipe is None:
        made = _after(books, gone=None, new=("meal", "held"))
        return Foretold(things=made, may_lose=_held_food, about="meal")
    used: list[tuple[str, str]] = []
    for name, steps in books.recipe.items():
        needed = {STEP_MAKES.get(step, step) for step in steps}
        ready = [value for value in books.held(name) if set(value.split()[1:]) - {"raw"} == needed]
        if not ready:
            return _FAILS
        used.append((name, ready[0]))
    after = books.seen - Counter(used)
    after["meal", "held"] += 1
    return Foretold(works=True if books.scene == "kitchen" else None, things=after, about="meal")


_VERBS: Final[Mapping[str, Callable[[TextWorldExpressBooks, str], Foretold]]] = {
    "take": _take,
    "put": _put,
    "open": _open,
    "close": _close,
    "move": _move,
    "examine": _examine,
    "read": _read,
    "slice": _cut("slice"),
    "dice": _cut("dice"),
    "chop": _cut("chop"),
    "cook": _cook,
    "eat": _eat,
    "prepare": _prepare,
}
