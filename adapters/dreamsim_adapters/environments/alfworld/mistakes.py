"""Actions that cannot work in ALFWorld: absent things, closed or wrong places, full hands, wrong grammar, nonsense.

In: a state, the actions that can be taken in it, and kinds of things. Out: one action. Always: the action is not among
those that can be taken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from dreamsim.records.state import RESULT, SCENE, State, is_held
from dreamsim_adapters.environments.alfworld.actions import kind_of
from dreamsim_adapters.environments.alfworld.mapping import ROOM

TRIES: Final = 8
"""Mistakes drawn before one is made up that is certain to be one."""
APPLIANCES: Final = ("sinkbasin 1", "microwave 1", "fridge 1", "stoveburner 1", "coffeemachine 1", "toaster 1")
PUT_FORMS: Final = ("move {} to {}", "put {} in/on {}")
"""Of the new dialect and the old one."""
NONSENSE: Final = (
    "jump",
    "wait",
    "go back",
    "ask for help",
    "take everything",
    "clean the room",
    "think about {here}",
    "undo",
    "xyzzy",
    "break {here}",
    "throw {here}",
    "eat {here}",
)
UNGRAMMATICAL: Final = (
    "take",
    "go to",
    "open",
    "go {place}",
    "go to the {place}",
    "take {here}",
    "take the {here} from the {place}",
    "put {here}",
    "put {here} into {place}",
    "pick up {here}",
    "{here}",
    "turn on {here}",
    "open the {place}",
    "look at {here}",
    "take({here})",
)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a mistake can be made about."""

    at: str
    here: tuple[str, ...]
    held: tuple[str, ...]
    closed: tuple[str, ...]
    opened: tuple[str, ...]
    places: tuple[str, ...]
    elsewhere: tuple[str, ...]
    kinds: tuple[str, ...]
    put: str
    last: str


def mistake(
    dice: random.Random,
    state: State,
    admissible: Sequence[str],
    vocabulary: Sequence[str],
    *,
    last: str = "",
    seen: Collection[str] = (),
) -> str:
    """An action that cannot be taken in `state`.

    Args:
        dice: decides which.
        state: the present state.
        admissible: actions that can be taken.
        vocabulary: kinds of things, most of which are not here.
        last: the action before, which is now and then taken again.
        seen: names of things and places seen in the episode.
    """
    scene = _scene(state, admissible, vocabulary, last, seen)
    possible = frozenset(admissible)
    for _ in range(TRIES):
        action = dice.choices(_KINDS, _WEIGHTS)[0](dice, scene)
        if action and action not in possible:
            return action
    return "frobnicate " + _one(dice, scene.here, scene.places)


def put_form(admissible: Sequence[str]) -> str:
    """How the game at hand words putting something down."""
    return PUT_FORMS[0] if "help" in admissible else PUT_FORMS[1]  # the old dialect has no `help`


def _scene(
    state: State,
    admissible: Sequence[str],
    vocabulary: Sequence[str],
    last: str,
    seen: Collection[str],
) -> _Scene:
    elements = {key: value for key, value in state.elements.items() if key not in (SCENE, RESULT) and " " in key}
    at = state.scene or ROOM
    gone = tuple(action.removeprefix("go to ") for action in admissible if action.startswith("go to "))
    places = (*gone, *(() if at == ROOM else (at,)))
    return _Scene(
        at=at,
        here=tuple(name for name in elements if name not in places),
        held=tuple(name for name, value in elements.items() if is_held(value)),
        closed=tuple(name for name, value in elements.items() if value == "closed"),
        opened=tuple(name for name, value in elements.items() if value == "open"),
        places=places,
        elsewhere=tuple(sorted(name for name in seen if " " in name and name not in elements and name not in places)),
        kinds=tuple(vocabulary),
        put=put_form(admissible),
        last=last,
    )


def _one(dice: random.Random, *choices: Sequence[str]) -> str:
    """One of the first of `choices` that has any."""
    return next((dice.choice(names) for names in choices if names), "thing 1")


def _made_up(dice: random.Random, scene: _Scene) -> str:
    return f"{_one(dice, scene.kinds)} {dice.randint(1, 3)}"


def _take(dice: random.Random, scene: _Scene) -> str:
    """What is elsewhere, does not exist, or lies here while the hands are full."""
    thing = dice.choice((_one(dice, scene.elsewhere, scene.here), _one(dice, scene.here), _made_up(dice, scene)))
    place = scene.at if scene.at != ROOM and dice.random() < 0.7 else _one(dice, scene.places)
    return f"take {thing} from {place}"


def _put(dice: random.Random, scene: _Scene) -> str:
    thing = dice.choice((_one(dice, scene.held, scene.here), _one(dice, scene.elsewhere, scene.here)))
    place = dice.choice((_one(dice, scene.closed, scene.places), _one(dice, scene.places), scene.at))
    return scene.put.format(thing, place)


def _go(dice: random.Random, scene: _Scene) -> str:
    """To where the agent is, or to a place that there is not."""
    if scene.at != ROOM and dice.random() < 0.4:
        return f"go to {scene.at}"
    place = _one(dice, scene.places)
    return f"go to {kind_of(place)} {dice.randint(1, 30)}" if dice.random() < 0.7 else f"go to {_made_up(dice, scene)}"


def _open(dice: random.Random, scene: _Scene) -> str:
    verb = dice.choice(("open", "close"))
    state = scene.opened if verb == "open" else scene.closed
    return f"{verb} {dice.choice((_one(dice, state, scene.places), scene.at, _one(dice, scene.places)))}"


def _treat(dice: random.Random, scene: _Scene) -> str:
    """Clean, heat or cool something not held, or elsewhere than where that is done."""
    thing = _one(dice, scene.held, scene.here) if dice.random() < 0.6 else _one(dice, scene.here, scene.elsewhere)
    place = scene.at if dice.random() < 0.4 else dice.choice(APPLIANCES)
    return f"{dice.choice(('clean', 'heat', 'cool'))} {thing} with {place}"


def _use(dice: random.Random, scene: _Scene) -> str:
    thing = _one(dice, scene.here, scene.elsewhere) if dice.random() < 0.6 else "desklamp 1"
    if dice.random() < 0.25:
        return f"slice {thing} with {_one(dice, scene.held, scene.here)}"
    return f"{dice.choice(('use', 'use', 'examine'))} {dice.choice((thing, _one(dice, scene.elsewhere, scene.places)))}"


def _phrase(dice: random.Random, scene: _Scene, forms: Sequence[str]) -> str:
    return dice.choice(forms).format(here=_one(dice, scene.here, scene.places), place=_one(dice, scene.places))


def _ungrammatical(dice: random.Random, scene: _Scene) -> str:
    return _phrase(dice, scene, UNGRAMMATICAL)


def _nonsense(dice: random.Random, scene: _Scene) -> str:
    return _phrase(dice, scene, NONSENSE)


def _again(dice: random.Random, scene: _Scene) -> str:
    return scene.last


_KINDS: Final[tuple[Callable[[random.Random, _Scene], str], ...]] = (
    _take,
    _put,
    _go,
    _open,
    _treat,
    _use,
    _ungrammatical,
    _nonsense,
    _again,
)
_WEIGHTS: Final = (24, 16, 12, 12, 10, 8, 8, 5, 5)
