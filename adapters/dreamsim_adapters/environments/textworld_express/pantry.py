"""Where the food of cookingworld is kept, and what that says of a recipe.

In: the books of an episode and a step. Out: (rule, message) pairs.
Always: only worlds of one room are judged, whose counter is in sight; food of an unknown name, and what may be anywhere
(salt, flour, oil, pepper), is let pass.

A dream in which the recipe asks for what is nowhere cannot be won: before these rules that were 41 % of the dreams of a
training whose cookbook was read and whose fridge and cupboard were opened (docs/log.md).
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
_FRIDGE: Final = "fridge"
_LOOK: Final = f"open {_FRIDGE}"


def broken_by_recipe(books: TextWorldExpressBooks, step: Step) -> Iterator[tuple[str, str]]:
    """What `step` says against recipe and pantry."""
    parameters = books.task.parameters
    if books.game != "cookingworld" or parameters.get("numLocations") != 1:
        return
    if step.action == _LOOK and books.recipe is not None and not _looked(books):
        for name in _missing(books, books.recipe, step, kept={_FRIDGE}):
            yield "recipe_there", f"the recipe asks for {name!r}, which is kept in the fridge and is not there"
    said = step.after.get(RESULT, "")
    if books.recipe is None and said.startswith("gather "):
        recipe, wanted = recipe_of(said), parameters.get("numIngredients")
        if isinstance(wanted, int) and len(recipe) != wanted:
            yield "recipe_size", f"the recipe asks for {len(recipe)} ingredients, in a game of {wanted}"
        for name in _missing(books, recipe, step, kept={"counter", *({_FRIDGE} if _looked(books) else ())}):
            yield "recipe_there", f"the recipe asks for {name!r}, which is not in the {KEPT[name]}"


def _looked(books: TextWorldExpressBooks) -> bool:
    return any(container == _FRIDGE for _, container in books.contents)


def _missing(
    books: TextWorldExpressBooks, recipe: Mapping[str, object], step: Step, *, kept: set[str]
) -> Iterator[str]:
    """What of `recipe` should have been seen by now, if it is kept there, and was not."""
    seen = {base_name(key) for key in (*books.before, *step.after)} | books.taken
    for inside in books.contents.values():
        seen |= {name for name, _ in inside}
    return (name for name in recipe if KEPT.get(name) in kept and name not in seen)
