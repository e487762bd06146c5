"""When an ALFWorld task is solved, by the books.

In: the books of an episode before a step, and the step. Out: what it leads to, or None where they do not decide it.
Always: the step's own claim (its outcome and reward) is never looked at; the state that it shows is believed; no game
can be lost.
"""

from __future__ import annotations

from typing import Final

from dreamsim.experience.books import Step
from dreamsim.records.episode import StepOutcome
from dreamsim_adapters.environments.alfworld.actions import CONDITION_OF, Goal, kind_of, parse_action
from dreamsim_adapters.environments.alfworld.books import AlfworldBooks, conditions_of, held, place_of

DOUBLY_LAID: Final = frozenset({"coffeemachine", "countertop", "desk", "handtowelholder", "shelf", "stoveburner"})
"""Kinds of places with things that lie in another place as well, in some games. Such a thing, taken from the one place,
still lies in the other, and so a mug can be heated in the hand and be a hot mug in the coffee machine."""


def outcome(books: AlfworldBooks, step: Step) -> StepOutcome | None:
    """What `step` leads to; None where the books do not decide it."""
    if step.failed:
        return "running"
    goal = books.goal
    if goal is None:
        return None
    return _under_light(books, step, goal) if goal.lamp else _put_away(books, step, goal)


def _put_away(books: AlfworldBooks, step: Step, goal: Goal) -> StepOutcome | None:
    action = parse_action(step.action)
    treated = goal.condition and CONDITION_OF.get(action.verb) == goal.condition
    if treated and kind_of(action.thing) == goal.thing and goal.place in DOUBLY_LAID:
        return None
    if action.verb != "put" or kind_of(action.thing) != goal.thing or kind_of(action.place) != goal.place:
        return "running"
    if goal.condition and goal.condition not in conditions_of(step.after.get(action.thing, "")):
        return "running"
    lying = {name for name, value in step.after.items() if place_of(value) == action.place} | {action.thing}
    if sum(kind_of(name) == goal.thing for name in lying) >= goal.count:
        return "success"
    return "running" if action.place in books.contents else None


def _under_light(books: AlfworldBooks, step: Step, goal: Goal) -> StepOutcome | None:
    if kind_of(held(step.after)) != goal.thing:
        return "running"
    lit = {name for name, had in books.conditions.items() if "on" in had}
    lit |= {name for name, value in step.after.items() if "on" in conditions_of(value)}
    lamps = [name for name in lit if kind_of(name) == goal.lamp]
    if any(name in step.after for name in lamps):
        return "success"
    return None if lamps else "running"
