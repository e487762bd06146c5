"""Actions that cannot work: wrong or absent objects, closed containers, blocked ways, wrong grammar, nonsense.

In: a state, the actions that can be taken in it, and names of things that exist elsewhere. Out: one action.
Always: the action is not among those that can be taken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from dreamsim.records.state import RESULT, SCENE, State, is_held
from dreamsim_adapters.environments.textworld_express.mapping import DIRECTIONS

TRIES: Final = 8
"""Mistakes drawn before one is made up that is certain to be one."""
APPLIANCES: Final = ("stove", "oven", "toaster", "barbeque")
CUTS: Final = ("slice", "dice", "chop")
WANTED: Final = ("coin", "cookbook", "knife", "meal")
"""What a beginner asks for wherever it is."""
_TO_THINGS: Final = ("take", "take", "take", "open", "eat", "examine")
NONSENSE: Final = (
    "jump",
    "sing loudly",
    "wait for the bus",
    "look at the sky",
    "ask for help",
    "go away",
    "think about {here}",
    "paint {here} blue",
    "take everything",
    "undo",
    "xyzzy",
    "use {here}",
    "eat the {scene}",
    "dance with {here}",
    "take {here} and {other}",
)
UNGRAMMATICAL: Final = (
    "take",
    "put",
    "open",
    "move",
    "put {here}",
    "put in {here}",
    "{here}",
    "{here} take",
    "take {here} from {other}",
    "put {here} on {other}",
    "put {here} into the {other}",
    "go {way}",
    "{way}",
    "pick up {here}",
    "open the {here} please",
    "take({here})",
    "move to {here}",
)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a mistake can be made about."""

    here: tuple[str, ...]
    held: tuple[str, ...]
    closed: tuple[str, ...]
    opened: tuple[str, ...]
    blocked: tuple[str, ...]
    absent: tuple[str, ...]
    elsewhere: tuple[str, ...]
    room: str
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
        vocabulary: names of things, most of which are not here.
        last: the action before, which is now and then taken again.
        seen: names of things seen in the episode, here or elsewhere.
    """
    scene = _scene(state, vocabulary, last, seen)
    possible = frozenset(admissible)
    for _ in range(TRIES):
        kind = dice.choices(_KINDS, _WEIGHTS)[0]
        action = kind(dice, scene)
        if action and action not in possible:
            return action
    return "frobnicate " + _one(dice, scene.here, scene.absent)


def _scene(state: State, vocabulary: Sequence[str], last: str, seen: Collection[str]) -> _Scene:
    elements = {key: value for key, value in state.elements.items() if key != RESULT}
    things = {key: value for key, value in elements.items() if key != SCENE and key not in DIRECTIONS}
    return _Scene(
        here=tuple(things),
        held=tuple(name for name, value in things.items() if is_held(value)),
        closed=tuple(name for name, value in things.items() if value.startswith("closed")),
        opened=tuple(name for name, value in things.items() if value.startswith("open")),
        blocked=tuple(way for way in DIRECTIONS if elements.get(way, "closed door") == "closed door"),
        absent=tuple(name for name in vocabulary if name not in things),
        elsewhere=tuple(sorted({*seen, *WANTED} - {*things, *DIRECTIONS, SCENE, RESULT})),
        room=elements.get(SCENE, "room"),
        last=last,
    )


def _one(dice: random.Random, *choices: Sequence[str]) -> str:
    """One of the first of `choices` that has any."""
    return next((dice.choice(names) for names in choices if names), "thing")


def _absent(dice: random.Random, scene: _Scene) -> str:
    return f"{dice.choice(_TO_THINGS)} {_one(dice, scene.absent, scene.here)}"


def _elsewhere(dice: random.Random, scene: _Scene) -> str:
    """What was seen in another room, was used up, lies behind a door that is closed now, or is what the task is for."""
    name = _one(dice, scene.elsewhere, scene.absent, scene.here)
    if dice.random() < 0.25:
        return f"put {name} in {_one(dice, scene.here, scene.absent)}"
    return f"{dice.choice(_TO_THINGS)} {name}"


def _mixed_up(dice: random.Random, scene: _Scene) -> str:
    """The beginning of one name and the end of another."""
    first, last = _one(dice, scene.here, scene.absent), _one(dice, (*scene.here, *scene.elsewhere), scene.absent)
    name = f"{first.split(maxsplit=1)[0]} {last.rsplit(maxsplit=1)[-1]}"
    if name in scene.here:
        return ""
    return f"{dice.choice(_TO_THINGS)} {name}"


def _put(dice: random.Random, scene: _Scene) -> str:
    things, places = (
        dice.choice((scene.held, scene.here, scene.absent)),
        dice.choice((scene.closed, scene.here, scene.absent)),
    )
    return f"put {_one(dice, things, scene.here, scene.absent)} in {_one(dice, places, scene.here, scene.absent)}"


def _take(dice: random.Random, scene: _Scene) -> str:
    return f"take {_one(dice, scene.here, scene.absent)}"


def _open(dice: random.Random, scene: _Scene) -> str:
    if dice.random() < 0.5:
        return f"open {_one(dice, scene.opened if dice.random() < 0.5 else scene.here, scene.here)}"
    return f"close {_one(dice, scene.closed if dice.random() < 0.5 else scene.here, scene.here)}"


def _move(dice: random.Random, scene: _Scene) -> str:
    way = _one(dice, scene.blocked, DIRECTIONS)
    return dice.choice((f"move {way}", f"move {way}", f"open door to {way}", f"close door to {way}"))


def _prepare(dice: random.Random, scene: _Scene) -> str:
    thing = dice.choice((_one(dice, scene.here, scene.absent), _one(dice, scene.absent, scene.here)))
    action = dice.choice(("cut", "cook", "eat", "read", "meal"))
    if action == "cut":
        return f"{dice.choice(CUTS)} {thing}"
    if action == "cook":
        return f"cook {thing} in {dice.choice((*APPLIANCES, _one(dice, scene.here, scene.absent)))}"
    if action == "meal":
        return dice.choice(("prepare meal", "eat meal", "read cookbook"))
    return f"{action} {thing}"


def _phrase(dice: random.Random, scene: _Scene, forms: Sequence[str]) -> str:
    return dice.choice(forms).format(
        here=_one(dice, scene.here, scene.absent),
        other=_one(dice, scene.here, scene.absent),
        way=dice.choice(DIRECTIONS),
        scene=scene.room,
    )


def _ungrammatical(dice: random.Random, scene: _Scene) -> str:
    return _phrase(dice, scene, UNGRAMMATICAL)


def _nonsense(dice: random.Random, scene: _Scene) -> str:
    return _phrase(dice, scene, NONSENSE)


def _again(dice: random.Random, scene: _Scene) -> str:
    return scene.last


_KINDS: Final[tuple[Callable[[random.Random, _Scene], str], ...]] = (
    _absent,
    _elsewhere,
    _mixed_up,
    _put,
    _take,
    _open,
    _move,
    _prepare,
    _ungrammatical,
    _nonsense,
    _again,
)
_WEIGHTS: Final = (10, 12, 4, 20, 12, 12, 14, 12, 8, 5, 5)
