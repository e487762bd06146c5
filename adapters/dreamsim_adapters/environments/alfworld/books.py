"""The books of one ALFWorld episode: places, contents and conditions as the states have shown them.

In: a task and, one after another, its transitions. Out: what the rules and the goal need to know. Always: everything is
read from states, so that dreamed and real episodes are held to the same; nothing that was not shown is in them.
"""

from __future__ import annotations

from collections.abc import Mapping

from dreamsim.experience.books import Books
from dreamsim.experience.parse import AnswerRules
from dreamsim.records.episode import Transition
from dreamsim.records.state import State, is_held
from dreamsim.records.task import Task
from dreamsim_adapters.environments.alfworld.actions import parse_action, parse_goal
from dreamsim_adapters.environments.alfworld.mapping import CONDITIONS
from dreamsim_adapters.environments.alfworld.seen import Seen


class AlfworldBooks(Books):
    """What is written down of an ALFWorld episode."""

    def __init__(self, task: Task, rewards: AnswerRules) -> None:
        super().__init__(task, rewards)
        self.goal = parse_goal(task.instruction)
        """What is asked for; None in other words than the package's own."""
        self.seen = Seen(task)
        """Places."""
        self.status: dict[str, str] = {}
        """Place -> `open` or `closed`, as last shown."""
        self.contents: dict[str, frozenset[str]] = {}
        """Place -> things in it, as last shown; only places that were looked into."""
        self.conditions: dict[str, frozenset[str]] = {}
        """Thing -> its conditions, as last shown."""
        self._twice: set[str] = set()
        self._state = task.first_state
        self._write(task.first_state)

    @property
    def at(self) -> str:
        """Where the agent is."""
        return self.scene or ""

    @property
    def hands(self) -> str:
        """What the agent holds, or nothing."""
        return held(self.before)

    def twice(self, thing: str) -> bool:
        """Whether it lies in two places, as where a coffee machine stands on a countertop: it was shown in both without
        having been carried, or was taken from another place than the one where the agent was."""
        return thing in self._twice

    def enter(self, transition: Transition) -> None:
        """Go on from `transition`."""
        action = parse_action(transition.action)
        taken = action.verb == "take" and is_held(transition.state.elements.get(action.thing, ""))
        if taken and action.place != self.at:
            self._twice.add(action.thing)
        self.seen.see(self._state, transition)
        self._state = transition.state
        super().enter(transition)
        self._write(transition.state)

    def _write(self, state: State) -> None:
        elements = state.elements
        for name, value in elements.items():
            if value in ("open", "closed"):
                self.status[name] = value
            elif place_of(value) or is_held(value):
                self.conditions[name] = conditions_of(value)
        before = {place: set(things) for place, things in self.contents.items()}
        for place in self.seen.listed:
            shown = place == state.scene or elements.get(place) == "open"
            if shown and elements.get(place) != "closed":
                self.contents[place] = lying(elements, place)
        for name, value in elements.items():
            others = {place for place, things in before.items() if name in things} - {place_of(value)}
            if place_of(value) and others:
                self._twice.add(name)
            if is_held(value):
                self.contents = {place: things - {name} for place, things in self.contents.items()}


def held(elements: Mapping[str, str]) -> str:
    """What is held, or nothing."""
    return next((name for name, value in elements.items() if is_held(value)), "")


def place_of(value: str) -> str:
    """The place that `in <place> <conditions>` names, or nothing."""
    words = value.split()
    return " ".join(words[1:3]) if words[:1] == ["in"] else ""


def conditions_of(value: str) -> frozenset[str]:
    """The conditions that a value ends with."""
    return frozenset(word for word in value.split() if word in CONDITIONS)


def lying(elements: Mapping[str, str], place: str) -> frozenset[str]:
    """What lies in `place`."""
    return frozenset(name for name, value in elements.items() if place_of(value) == place)
