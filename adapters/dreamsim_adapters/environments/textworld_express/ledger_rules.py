"""What a TextWorldExpress step may not show: every difference from what was foretold, each under its rule's name.

In: the books of an episode and a step. Out: (rule, message) pairs.
Always: a difference breaks exactly one rule; where nothing was foretold, nothing is broken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from dreamsim.experience.books import Step
from dreamsim.records.state import RESULT, SCENE, is_held
from dreamsim_adapters.environments.textworld_express.books import TextWorldExpressBooks, Things, things
from dreamsim_adapters.environments.textworld_express.foretell import Foretold, foretell
from dreamsim_adapters.environments.textworld_express.furniture import COOKED, CUT
from dreamsim_adapters.environments.textworld_express.mapping import DIRECTIONS
from dreamsim_adapters.environments.textworld_express.pantry import broken_by_recipe

RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "must_fail": "An action that cannot work (absent, closed, not held, no way there, no tool) shows a failure.",
        "must_work": "An action that cannot fail, by what has been shown, does not show one.",
        "result_line": "What only acts returns nothing to read; reading returns something.",
        "same_text": "What was read before reads the same again.",
        "exits": "Ways lead where they led, and the way back leads back; moving follows them; doors change by hand.",
        "taken_is_held": "What is taken is held, prepared as it was.",
        "put_lies_there": "What is put somewhere lies there and is held no longer.",
        "held_stays": "What is held stays held, as it is, while the action is about something else.",
        "one_place": "A thing is in one place: taken, it lies no longer where it was.",
        "opens_closes": "What is opened is open, what is closed is closed.",
        "opened_stays": "What nobody opens or closes stays as it is.",
        "contents_as_left": "A container that was open before shows what was in it then; closed, it shows nothing.",
        "preparation": "Only cutting and cooking change how food is prepared, and only as the verb says.",
        "meal": "Preparing the meal uses up its ingredients and nothing else.",
        "eaten": "What is eaten is gone.",
        "room_as_left": "A room that was seen before looks as it was left.",
        "vanished": "Nothing that nobody touches disappears or changes its place.",
        "from_nowhere": "Nothing appears where nothing was opened or entered.",
        "recipe_size": "A recipe asks for as many ingredients as its game has.",
        "recipe_there": "What a recipe asks for lies where such food is kept.",
    }
)
"""The rules of TextWorldExpress: name -> what it forbids the opposite of."""


def broken_rules(books: TextWorldExpressBooks, step: Step) -> Iterator[tuple[str, str]]:
    """What `step` breaks of `RULES`, with a message for a person."""
    action = step.action
    foretold = foretell(books, action)
    if step.failed:
        if foretold.works:
            yield "must_work", f"{action!r} failed, though nothing stands in its way"
        return  # that it changes nothing is a rule of every environment
    if foretold.works is False:
        yield "must_fail", f"{action!r} cannot work here"
        return
    yield from _broken_result(books, foretold, step)
    yield from broken_by_recipe(books, step)
    if foretold.things is None:
        return
    seen = things(step.after)
    if books.limited and action.startswith("take ") and seen == books.seen:
        return  # the hands are full, which the state does not tell
    yield from _differences(books, foretold, seen, action)


def _broken_result(books: TextWorldExpressBooks, foretold: Foretold, step: Step) -> Iterator[tuple[str, str]]:
    result = step.after.get(RESULT, "")
    if foretold.works is None and foretold.things is None:
        return
    if foretold.reads is None:
        if result:
            yield "result_line", f"{step.action!r} returned {result!r}"
    elif not result:
        yield "result_line", f"{step.action!r} returned nothing"
    elif books.texts.get(foretold.reads, result) != result:
        yield "same_text", f"{foretold.reads!r} read {books.texts[foretold.reads]!r} before, and now {result!r}"


def _differences(
    books: TextWorldExpressBooks, foretold: Foretold, seen: Things, action: str
) -> Iterator[tuple[str, str]]:
    assert foretold.things is not None, "looked at before"
    missing, extra = foretold.things - seen, seen - foretold.things
    if foretold.may_lose is not None:
        missing = _without(missing, foretold.may_lose)
    if foretold.may_add is not None:
        extra = _without(extra, foretold.may_add)
    for name in dict.fromkeys(name for name, _ in (*missing, *extra)):
        wanted = [value for other, value in missing if other == name]
        found = [value for other, value in extra if other == name]
        rule = _rule(books, foretold, action, name, wanted, found)
        yield rule, f"after {action!r} {name!r} is {_told(found)}, not {_told(wanted)}"


def _without(some: Things, allowed: object) -> Things:
    assert callable(allowed)
    return type(some)({thing: count for thing, count in some.items() if not allowed(*thing)})


def _told(values: list[str]) -> str:
    return " and ".join(repr(value) for value in values) if values else "not there"


def _rule(
    books: TextWorldExpressBooks, foretold: Foretold, action: str, name: str, wanted: list[str], found: list[str]
) -> str:
    """The rule that says where `name` should be: `wanted` values are missing, `found` ones should not be there."""
    verb = action.partition(" ")[0]
    acted, walked = name == foretold.about, verb == "move"
    if name == SCENE or name in DIRECTIONS:
        return "exits"
    if any(is_held(value) for value in wanted) and not (acted and verb in _PREPARES):
        if found and all(is_held(value) for value in found):
            return "preparation"
        return "meal" if verb == "prepare" else "taken_is_held" if acted and verb == "take" else "held_stays"
    if (acted or verb == "prepare") and (rule := _rule_of_action(verb, wanted, found)):
        return rule
    if _openness(wanted) and _openness(found):
        return "room_as_left" if walked else "opened_stays"
    if wanted and found and _place(wanted[0]) == _place(found[0]):
        return "preparation"
    if verb in ("open", "close") and not acted and _in(foretold.about, (*wanted, *found)):
        return "contents_as_left"
    if not wanted and (books.held(name) or _expected(foretold, name)):
        return "one_place"
    if walked and foretold.may_add is None:
        return "room_as_left"
    return "vanished" if wanted else "from_nowhere"


_PREPARES: Final = ("slice", "dice", "chop", "cook")


def _rule_of_action(verb: str, wanted: list[str], found: list[str]) -> str:
    if verb == "take" and wanted:
        return "taken_is_held"
    if verb == "put":
        return "put_lies_there"
    if verb in ("open", "close"):
        return "opens_closes"
    if verb in _PREPARES:
        return "preparation"
    if verb == "prepare":
        return "meal"
    if verb == "eat" and found:
        return "eaten"
    return ""


def _openness(values: list[str]) -> bool:
    return any(value in ("open", "closed") for value in values)


def _place(value: str) -> str:
    return " ".join(word for word in value.split() if word not in COOKED | CUT | {"raw"})


def _in(container: str, values: tuple[str, ...]) -> bool:
    return any(value == f"in {container}" or value.startswith(f"in {container} ") for value in values)


def _expected(foretold: Foretold, name: str) -> bool:
    return foretold.things is not None and any(other == name for other, _ in foretold.things)
