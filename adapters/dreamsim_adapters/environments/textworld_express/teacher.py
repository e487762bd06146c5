"""A programmatic teacher: why each real step went as it did, from what the environment knows.

In: an episode whose transitions carry the running score. Out: the same episode with `reasoning` filled in, such as
`egg: in fridge raw; fridge: open; works; belongs; 1 of 2 placed`.

Always: reasoning names facts before it concludes. First where each thing in the action is according to the states
seen so far, then what the recipe or the task says of it, then whether the action works, then what the task has reached.
Facts read as in the state (`name: value`, or `name: none`), so that naming one is copying one. A fact that no state
seen so far shows is never named: the experience model must be able to learn every word of it from its prompt or from
other episodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import RESULT, SCENE, State
from dreamsim_adapters.environments.textworld_express.mapping import DIRECTIONS, FAILED

_CUTTING = ("slice", "dice", "chop")


@dataclass(slots=True)
class _Knowledge:
    """What an attentive reader of the episode knows before a step."""

    recipe: dict[str, list[str]] = field(default_factory=dict)
    """Ingredient -> what must be done to it; empty while the cookbook is unread."""
    rooms: set[str] = field(default_factory=set)
    """Rooms seen."""
    opened: set[tuple[str | None, str]] = field(default_factory=set)
    """(room, container) seen open."""
    inside: dict[tuple[str | None, str], dict[str, None]] = field(default_factory=dict)
    """(room, container) -> what has been seen in it since it was last opened, in that order."""
    results: set[tuple[str, str]] = field(default_factory=set)
    """(action, what it returned) seen."""

    def see(self, action: str, state: State) -> None:
        """`action` led to `state`."""
        elements = state.elements
        self.rooms.add(state.scene or "")
        self.opened.update((state.scene, name) for name, value in elements.items() if value.split()[:1] == ["open"])
        if action.startswith("open "):
            self.inside.pop((state.scene, action.removeprefix("open ")), None)
        for name in elements:
            if (container := _container(elements, name)) is not None:
                self.inside.setdefault((state.scene, container), {})[name] = None
        if result := elements.get(RESULT):
            self.results.add((action, result))
        if (result or "").startswith("gather "):
            self.recipe = recipe_of(result or "")

    placed: int = 0
    """twc: objects that lie where they belong."""


def annotate(episode: Episode) -> Episode:
    """`episode` with the reasoning of each transition; the episode itself stays as it is."""
    knowledge = _Knowledge()
    before = episode.task.first_state
    knowledge.see("", before)
    score = 0.0
    transitions: list[Transition] = []
    for transition in episode.transitions:
        after_score = score if transition.score is None else transition.score
        reasoning = _reason(episode, knowledge, before, transition, after_score - score)
        transitions.append(replace(transition, reasoning=reasoning))
        knowledge.see(transition.action, transition.state)
        before, score = transition.state, after_score
    return replace(episode, transitions=tuple(transitions))


def recipe_of(result: str) -> dict[str, list[str]]:
    """Ingredient -> preparations in order, from a `gather ...` result line."""
    gather, *steps = [part.strip() for part in result.removeprefix("gather ").split(";")]
    needs: dict[str, list[str]] = {name.strip(): [] for name in gather.split(",")}
    for step in steps:
        verb, _, name = step.partition(" ")
        if name in needs:
            needs[name].append(verb)
    return needs


def _reason(episode: Episode, knowledge: _Knowledge, before: State, transition: Transition, gain: float) -> str:
    elements = before.elements
    words = transition.action.split()
    verb, arguments = words[0] if words else "", " ".join(words[1:])
    parts: list[str] = []
    if verb == "move" and arguments in DIRECTIONS:
        parts += [_fact(elements, SCENE), *_facts_of_move(knowledge, elements, arguments)]
    elif "door to" in arguments:
        parts.append(_fact(elements, arguments.rpartition(" ")[2]))
    elif arguments and arguments != "around" and verb != "prepare":
        for name in _names(arguments):
            parts.append(_fact(elements, name))
            if (container := _container(elements, name)) is not None:
                parts.append(_fact(elements, container))
    if verb == "open" and elements.get(arguments) == "closed":
        parts.append("seen" if (before.scene, arguments) in knowledge.opened else "new")
    if verb == "close" and elements.get(arguments) == "open":
        # What will no longer be seen: whatever was in there and has not been taken since.
        parts += [_fact(elements, name) for name in knowledge.inside.get((before.scene, arguments), ())]
    parts += _facts_of_recipe(knowledge, elements, verb, arguments)
    if transition.state.elements.get(RESULT) == FAILED:
        parts.append("fails")
        return "; ".join(parts)
    parts.append("works")
    if (result := transition.state.elements.get(RESULT)) and verb == "read":
        parts.append("read before" if (transition.action, result) in knowledge.results else "unread")
    parts += _progress(episode, knowledge, verb, transition, gain)
    return "; ".join(parts)


def _names(arguments: str) -> Sequence[str]:
    return [name.strip() for name in arguments.split(" in ") if name.strip()]


def _container(elements: Mapping[str, str], name: str) -> str | None:
    value = elements.get(name, "")
    found = re.match(r"in (.+)$", value)
    if found is None:
        return None
    place = found[1]
    while place and place not in elements:
        place = place.rpartition(" ")[0]
    return place or None


def _fact(elements: Mapping[str, str], name: str) -> str:
    return f"{name}: {elements[name]}" if name in elements else f"{name}: none"


def _facts_of_move(knowledge: _Knowledge, elements: Mapping[str, str], way: str) -> list[str]:
    facts = [_fact(elements, way)]
    room = elements.get(way, "").removesuffix(" open door")
    if room and room != "closed door":
        facts.append("seen" if room in knowledge.rooms else "new")
    return facts


def _facts_of_recipe(knowledge: _Knowledge, elements: Mapping[str, str], verb: str, arguments: str) -> list[str]:
    name = arguments.partition(" in ")[0]
    if verb in _CUTTING:
        return [_fact(elements, "knife"), *_needs(knowledge, name)]
    if verb == "cook":
        return [*_needs(knowledge, name)]
    if verb == "eat" and name != "meal":
        return _needs(knowledge, name)
    if verb == "prepare":
        return [_fact(elements, ingredient) for ingredient in knowledge.recipe] or ["recipe unread"]
    return []


def _needs(knowledge: _Knowledge, name: str) -> list[str]:
    if not knowledge.recipe:
        return ["recipe unread"]
    steps = knowledge.recipe.get(name)
    if steps is None:
        return ["not in recipe"]
    return ["recipe " + " ".join(steps)] if steps else ["recipe as it is"]


def _progress(episode: Episode, knowledge: _Knowledge, verb: str, transition: Transition, gain: float) -> list[str]:
    said: list[str] = []
    if episode.task.environment.endswith("/twc"):
        total = episode.task.parameters.get("numItemsToPutAway", "all")
        if verb == "put":
            said.append("belongs" if gain > 0 else "does not belong")
            knowledge.placed += 1 if gain > 0 else 0
            said.append(f"{knowledge.placed} of {total} placed")
        elif verb == "take" and gain < 0:
            knowledge.placed -= 1
            said.append(f"{knowledge.placed} of {total} placed")
    if transition.outcome == "success":
        said.append("task solved")
    elif transition.outcome == "failure":
        said.append("task lost")
    return said
