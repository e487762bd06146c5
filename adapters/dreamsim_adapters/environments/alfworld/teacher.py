"""A programmatic teacher: why each real step went as it did, from what an attentive reader knows.

In: an episode. Out: the same episode with `reasoning` filled in, such as
`at: shelf 1; mug 2: in shelf 1; hands: empty; works; mug wanted` or
`at: cabinet 1; mug 2: held clean; suits; works; mug in cabinet clean wanted; task solved`.

Always: reasoning names facts before it concludes. First where the agent is, then where each thing in the action is
according to the states seen so far and what lies in what is closed now, then whether a thing suits a place (`suits`,
`does not suit`: only knowledge of things can tell), then whether the action works, then what the task has reached.
Facts read as in the state (`name: value`, or `name: none`). A fact that no state seen so far shows is never named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import RESULT, SCENE, State, is_held
from dreamsim_adapters.environments.alfworld.actions import (
    CONDITION_OF,
    Action,
    Goal,
    kind_of,
    parse_action,
    parse_goal,
)
from dreamsim_adapters.environments.alfworld.books import place_of
from dreamsim_adapters.environments.alfworld.mapping import FAILED
from dreamsim_adapters.environments.alfworld.seen import Seen


def annotate(episode: Episode) -> Episode:
    """`episode` with the reasoning of each transition; the episode itself stays as it is."""
    seen, goal = Seen(episode.task), parse_goal(episode.task.instruction)
    before = episode.task.first_state
    transitions: list[Transition] = []
    for transition in episode.transitions:
        transitions.append(replace(transition, reasoning=_reason(seen, goal, before, transition)))
        seen.see(before, transition)
        before = transition.state
    return replace(episode, transitions=tuple(transitions))


def _reason(seen: Seen, goal: Goal | None, before: State, transition: Transition) -> str:
    action, after = parse_action(transition.action), transition.state.elements
    parts = _facts(seen, before, action)
    failed = after.get(RESULT) == FAILED
    if _hangs_on_kinds(seen, before, action):
        parts.append("does not suit" if failed else "suits")
    if failed:
        return "; ".join((*parts, "fails"))
    parts.append("works")
    parts += _progress(goal, action, after)
    if transition.outcome == "success":
        parts.append("task solved")
    return "; ".join(parts)


def _facts(seen: Seen, before: State, action: Action) -> list[str]:
    elements, at = before.elements, before.scene or ""
    if not action.verb:
        return ["no such action"]
    facts = [f"{SCENE}: {at}"]
    if action.verb == "go":
        return [*facts, *_of_place(seen, at, action.place)]
    if action.place and action.place != at:
        facts.append("near" if seen.together(at, action.place) else "elsewhere")
    facts += [_fact(elements, name) for name in (action.thing, action.tool) if name]
    if action.place in elements:
        facts.append(_fact(elements, action.place))
    if action.verb == "open" and elements.get(action.place) == "closed":
        facts.append("seen" if action.place in seen.listed else "new")
    if action.verb == "close" and elements.get(action.place) == "open":
        facts += [f"{name}: {value}" for name, value in elements.items() if place_of(value) == action.place]
    if action.verb in ("take", "use", "inventory"):
        facts.append(f"hands: {_in_hands(elements)}")
    return facts


def _of_place(seen: Seen, at: str, place: str) -> list[str]:
    if not seen.exists(place):
        return [f"{place}: none"]
    if place == at:
        return []
    known = ["near"] if seen.together(at, place) else []
    return [*known, "seen" if place in seen.visited else "new"]


def _progress(goal: Goal | None, action: Action, after: Mapping[str, str]) -> list[str]:
    if goal is None:
        return []
    if action.verb == "use":
        wanted = kind_of(action.thing) == goal.lamp and kind_of(_in_hands(after)) == goal.thing
        return [f"{goal.thing} under {goal.lamp} " + ("wanted" if wanted else "not wanted")] if goal.lamp else []
    if action.verb == "take" or (action.verb in CONDITION_OF and CONDITION_OF[action.verb] == goal.condition):
        return [f"{goal.thing} " + ("wanted" if kind_of(action.thing) == goal.thing else "not wanted")]
    if action.verb != "put" or not goal.place:
        return []
    placed = [name for name, value in after.items() if kind_of(name) == goal.thing and _lies(value, action.place, goal)]
    wanted = action.thing in placed and kind_of(action.place) == goal.place
    asked = " ".join(filter(None, (goal.thing, "in", goal.place, goal.condition)))
    said = [f"{asked} " + ("wanted" if wanted else "not wanted")]
    return [*said, f"{len(placed)} of {goal.count}"] if wanted and goal.count > 1 else said


def _lies(value: str, place: str, goal: Goal) -> bool:
    rest = value.removeprefix(f"in {place}")
    return value != rest and (not goal.condition or goal.condition in rest.split())


def _hangs_on_kinds(seen: Seen, before: State, action: Action) -> bool:
    """Whether nothing but the kinds of a thing and a place decides if the action works."""
    elements, at = before.elements, before.scene or ""
    if action.verb not in ("put", "clean", "heat", "cool") or not is_held(elements.get(action.thing, "")):
        return False
    within_reach = action.place == at or seen.together(at, action.place)
    return within_reach and not (action.verb == "put" and elements.get(action.place) == "closed")


def _in_hands(elements: Mapping[str, str]) -> str:
    return next((name for name, value in elements.items() if is_held(value)), "empty")


def _fact(elements: Mapping[str, str], name: str) -> str:
    return f"{name}: {elements[name]}" if name in elements else f"{name}: none"
