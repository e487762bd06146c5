"""What ALFWorld's engine never does, as rules over the books of an episode.

In: the books and a step. Out: what in it they forbid.
Always: a rule is a generator function whose name is the contradiction's name and whose docstring is the rule, from the
preconditions and effects in the games' own PDDL domain; where the states show too little to tell, it says nothing.
Which thing fits where, and what can be cleaned, is in no state: no rule says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dreamsim.experience.books import Rule, Step, differences
from dreamsim.experience.ledger_rules import (
    after_end,
    closed_hides,
    failed_changes,
    failed_earns,
    failed_ends,
    look_twice,
    reward_range,
    reward_without_success,
    success_unpaid,
)
from dreamsim.records.state import RESULT, SCENE, is_held
from dreamsim_adapters.environments.alfworld.actions import CONDITION_OF, Action, kind_of, parse_action
from dreamsim_adapters.environments.alfworld.books import AlfworldBooks, conditions_of, held, lying, place_of

APPLIANCE: Final = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
"""Verb -> the kind of place that it takes."""
_LOST: Final = {"heat": {"cool"}, "cool": {"hot"}}


def _works(step: Step, *verbs: str) -> Action | None:
    action = parse_action(step.action)
    return action if not step.failed and action.verb in verbs else None


def no_action(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """What is no action of the games fails."""
    if not parse_action(step.action).verb and not step.failed:
        yield f"{step.action!r} is no action of the games, and it worked"


def walks(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """Only going changes where the agent is, and it leads to where it says."""
    action, to = parse_action(step.action), step.after.get(SCENE, "")
    if to != books.at and (action.verb != "go" or to != action.place):
        yield f"{step.action!r} led from {books.at!r} to {to!r}"
    elif action.verb == "go" and not step.failed and to != action.place:
        yield f"{step.action!r} worked and led to {to!r}"


def walks_nowhere(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """Nobody goes to a place that there is not, or that can be reached already."""
    if action := _works(step, "go"):
        if not books.seen.exists(action.place):
            yield f"there is no {action.place!r}"
        if action.place == books.at or books.seen.together(books.at, action.place):
            yield f"{action.place!r} can be reached from {books.at!r} without going"


def must_work(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """What is closed before the agent opens, what is open closes, and one can always look."""
    action = parse_action(step.action)
    if not step.failed:
        return
    status = books.before.get(action.place, "")
    if (action.verb, status) in (("open", "closed"), ("close", "open")):
        yield f"{action.place!r} is {status}, and {step.action!r} failed"
    if action.verb in ("look", "inventory"):
        yield f"{step.action!r} failed"
    known = books.seen.exists(action.place) and books.seen.visited and books.at != action.place
    if action.verb == "go" and known and books.seen.apart(books.at, action.place):
        yield f"{action.place!r} is elsewhere than {books.at!r}, and going there failed"


def opens(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """Only what is closed opens, only what is open closes, and it shows."""
    if action := _works(step, "open", "close"):
        done = "open" if action.verb == "open" else "closed"
        if books.status.get(action.place) == done:
            yield f"{action.place!r} was {done} before {step.action!r}"
        if step.after.get(action.place) != done:
            yield f"{action.place!r} is {step.after.get(action.place, 'not shown')!r} after {step.action!r}"


def takes(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """Only free hands take, only what lies there, and then it is held."""
    if action := _works(step, "take"):
        if books.hands:
            yield f"{books.hands!r} was held when {step.action!r} worked"
        inside = books.contents.get(action.place)
        if inside is not None and action.thing not in inside and not books.twice(action.thing):
            yield f"{action.thing!r} was not in {action.place!r}"
        if books.status.get(action.place) == "closed":
            yield f"{action.place!r} was closed"
        if not is_held(step.after.get(action.thing, "")):
            yield f"{action.thing!r} is {step.after.get(action.thing, 'not there')!r} after {step.action!r}"


def puts(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """Only what is held is put down, into nothing closed, and then it lies there."""
    if action := _works(step, "put"):
        if not is_held(books.before.get(action.thing, "")):
            yield f"{action.thing!r} was not held"
        if books.status.get(action.place) == "closed":
            yield f"{action.place!r} was closed"
        if place_of(step.after.get(action.thing, "")) != action.place and not books.twice(action.thing):
            yield f"{action.thing!r} is {step.after.get(action.thing, 'not there')!r} after {step.action!r}"


def treats(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """Only what is held is cleaned, heated or cooled, and only by what does that."""
    if action := _works(step, *APPLIANCE):
        if kind_of(action.place) != APPLIANCE[action.verb]:
            yield f"{action.place!r} cannot {action.verb}"
        if not is_held(books.before.get(action.thing, "")):
            yield f"{action.thing!r} was not held"
        if CONDITION_OF[action.verb] not in conditions_of(step.after.get(action.thing, "")):
            yield f"{action.thing!r} is {step.after.get(action.thing, 'not there')!r} after {step.action!r}"


def switches(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """What is used is on, and lies within reach."""
    if (action := _works(step, "use")) and "on" not in conditions_of(step.after.get(action.thing, "")):
        yield f"{action.thing!r} is {step.after.get(action.thing, 'not there')!r} after {step.action!r}"


def hands(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """What is held stays held until it is put down, and there is never more than one."""
    action, had = parse_action(step.action), books.hands
    now = [name for name, value in step.after.items() if is_held(value)]
    if len(now) > 1:
        yield f"{' and '.join(map(repr, now))} are held at once"
    if had and had not in now and action.verb != "put":
        yield f"{had!r} was held, and {step.action!r} does not put it down"
    if now and now[0] != had and (action.verb != "take" or now[0] != action.thing):
        yield f"{now[0]!r} is held, and {step.action!r} does not take it"


def conditions_stay(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """What was done to a thing stays done, and nothing becomes clean, hot, cool, sliced or on by itself."""
    action = parse_action(step.action)
    for name, value in step.after.items():
        if name not in books.conditions or not (place_of(value) or is_held(value)):
            continue
        was, now = books.conditions[name], conditions_of(value)
        if name == action.thing and not step.failed:
            given = {CONDITION_OF.get(action.verb, ""), "on" if action.verb == "use" else ""} - {""}
            if action.verb == "examine":
                continue
            was = (was - _LOST.get(action.verb, set())) | given
        if was != now:
            yield f"{name!r} was {' '.join(sorted(was)) or 'plain'} and is {' '.join(sorted(now)) or 'plain'}"


def places_stay(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """What is open or closed stays so, and what lies somewhere stays there, unless the action is about it."""
    action = parse_action(step.action)
    if step.failed:
        return
    for place, was in books.status.items():
        now = step.after.get(place)
        about = action.place == place and action.verb in ("open", "close")
        if now in ("open", "closed") and now != was and not about:
            yield f"{place!r} was {was} and is {now}"
    for place, inside in books.contents.items():
        shown = place == step.after.get(SCENE) and step.after.get(place) != "closed"
        if not shown and step.after.get(place) != "open":
            continue
        moved = {action.thing} if action.verb in ("take", "put") else set()
        now_inside = lying(step.after, place)
        for name in sorted((inside - now_inside) - moved):
            if not books.twice(name) and not is_held(step.after.get(name, "")):
                yield f"{name!r} was in {place!r} and is {step.after.get(name, 'gone')!r}"
        for name in sorted((now_inside - inside) - moved):
            if not books.twice(name):
                yield f"{name!r} was not in {place!r} and lies there now"


def nothing_else(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """Looking, treating and switching change nothing but what they are about."""
    action = parse_action(step.action)
    if step.failed or action.verb not in ("look", "inventory", "help", *APPLIANCE, "slice", "use"):
        return
    skipped = {RESULT, action.thing}
    before = {name: value for name, value in books.before.items() if name not in skipped}
    after = {name: value for name, value in step.after.items() if name not in skipped}
    if action.verb == "look":  # it tells what is within reach, and so brings back what is known of that
        after = {name: value for name, value in after.items() if name in before or not _known(books, name, value)}
    elif action.verb != "inventory" and action.verb != "help":
        after = {name: value for name, value in after.items() if name in before}
    if before != after:
        yield f"{step.action!r} changed more: {differences(before, after)}"


def _known(books: AlfworldBooks, name: str, value: str) -> bool:
    return name in books.status or place_of(value) in books.seen.visited


def hands_told(books: AlfworldBooks, step: Step) -> Iterator[str]:
    """Looking at one's hands tells what is held."""
    result = step.after.get(RESULT, "")
    if _works(step, "inventory") and result != f"carrying {held(books.before) or 'nothing'}":
        yield f"{result!r}, and {held(books.before) or 'nothing'!r} is held"


RULES: tuple[Rule[AlfworldBooks], ...] = (
    after_end,
    reward_range,
    reward_without_success,
    success_unpaid,
    failed_changes,
    failed_earns,
    failed_ends,
    look_twice,
    closed_hides,
    no_action,
    walks,
    walks_nowhere,
    must_work,
    opens,
    takes,
    puts,
    treats,
    switches,
    hands,
    conditions_stay,
    places_stay,
    nothing_else,
    hands_told,
)
"""The rules, in the order of checking."""
