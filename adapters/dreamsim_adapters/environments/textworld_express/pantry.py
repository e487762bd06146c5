"""Where the food of cookingworld is kept, and what that says of a recipe.

In: the books of an episode and a step. Out: (rule, message) pairs; what a first look must show.
Always: only worlds of one room are judged, whose counter is in sight; food of an unknown name is let pass.

A dream in which the recipe asks for what is nowhere cannot be won, and teaches nothing (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from dreamsim.experience.books import Step, base_name
from dreamsim.records.state import RESULT
from dreamsim_adapters.environments.textworld_express.books import TextWorldExpressBooks
from dreamsim_adapters.environments.textworld_express.teacher import recipe_of

KEPT: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(
        (
            *("block of cheese", "carrot", "chicken breast", "chicken leg", "chicken wing", "cilantro", "egg"),
            *("green bell pepper", "lettuce", "milk", "orange bell pepper", "parsley", "pork chop"),
            *("red bell pepper", "red onion", "red tuna", "water", "white onion", "white tuna"),
            *("yellow bell pepper", "yellow onion"),
        ),
        "fridge",
    )
    | dict.fromkeys(
        (
            *("banana", "green apple", "green hot pepper", "purple potato", "red apple", "red hot pepper"),
            *("red potato", "tomato", "yellow apple", "yellow potato"),
        ),
        "counter",
    )
)
"""Food -> where it always lies at first, in all folds (450 games of textworld-express 1.1.0)."""
ANYWHERE: Final = frozenset({"black pepper", "flour", "olive oil", "salt"})
"""Food that lies on the counter or a table, in the fridge or in the kitchen cupboard."""
RAW: Final = frozenset({"chicken breast", "chicken leg", "chicken wing", "egg", "pork chop", "red tuna", "white tuna"})
"""What of the fridge's food is raw at first."""
_FRIDGE: Final = "fridge"
_CUPBOARD: Final = "kitchen cupboard"


def broken_by_recipe(books: TextWorldExpressBooks, step: Step) -> Iterator[tuple[str, str]]:
    """What `step` says against recipe and pantry."""
    if not _judged(books):
        return
    for name in owed(books, step.action):
        if not any(base_name(key) == name for key in step.after):
            yield "recipe_there", f"the recipe asks for {name!r}, and after {step.action!r} it is nowhere"
    said = step.after.get(RESULT, "")
    if books.recipe is None and said.startswith("gather "):
        recipe, wanted = recipe_of(said), books.task.parameters.get("numIngredients")
        if isinstance(wanted, int) and len(recipe) != wanted:
            yield "recipe_size", f"the recipe asks for {len(recipe)} ingredients, in a game of {wanted}"
        for name in _unseen(books, recipe):
            if _nowhere(name, _looked(books)):
                yield "recipe_there", f"the recipe asks for {name!r}, which would have been seen by now"


def owed(books: TextWorldExpressBooks, action: str) -> tuple[str, ...]:
    """What a first look into fridge or cupboard must show: the recipe asks for it, and it can be nowhere else."""
    verb, _, container = action.partition(" ")
    looked = _looked(books)
    if verb != "open" or container not in {_FRIDGE, _CUPBOARD} - looked or books.recipe is None or not _judged(books):
        return ()
    return tuple(name for name in _unseen(books, books.recipe) if _nowhere(name, {*looked, container}))


def found_in(name: str, action: str) -> tuple[str, str]:
    """An owed thing as a first look shows it: name and value."""
    return name, f"in {action.removeprefix('open ')}" + (" raw" if name in RAW else "")


def _judged(books: TextWorldExpressBooks) -> bool:
    return books.game == "cookingworld" and books.task.parameters.get("numLocations") == 1


def _looked(books: TextWorldExpressBooks) -> set[str]:
    return {container for _, container in books.contents}


def _nowhere(name: str, looked: set[str]) -> bool:
    """Whether what was not seen would have been, once these containers were looked into; the counter is in sight."""
    return KEPT.get(name) in {"counter", *looked} or (name in ANYWHERE and {_FRIDGE, _CUPBOARD} <= looked)


def _unseen(books: TextWorldExpressBooks, recipe: Mapping[str, object]) -> Iterator[str]:
    """What of `recipe` was not seen so far."""
    seen = {base_name(key) for key in books.before} | books.taken
    for inside in (*books.contents.values(), *books.rooms.values()):
        seen |= {name for name, _ in inside}
    return (name for name in recipe if name not in seen)
