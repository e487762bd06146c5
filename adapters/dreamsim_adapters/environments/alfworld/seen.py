"""What the states of an ALFWorld episode have shown so far of its places.

In: states and actions, never raw texts, so that it serves real and dreamed episodes alike. Out: which places there are,
which were visited or looked into, and which can be reached from which. Always: nothing is known that no state showed.
"""

from __future__ import annotations

from collections.abc import Mapping

from dreamsim.records.episode import Transition
from dreamsim.records.state import RESULT, SCENE, State
from dreamsim.records.task import Task
from dreamsim_adapters.environments.alfworld.actions import parse_action
from dreamsim_adapters.environments.alfworld.mapping import FAILED, ROOM


class Seen:
    """The places of one episode."""

    def __init__(self, task: Task) -> None:
        self._there = _places(task.first_state.elements)
        self.visited: set[str] = set()
        """Places where the agent was, or that it used from beside."""
        self.listed: set[str] = set()
        """Places whose contents were shown."""
        self.read: set[tuple[str, str, str]] = set()
        """(where, action, result) of what was read."""
        self._beside: dict[str, set[str]] = {}
        self._apart: set[frozenset[str]] = set()
        self.enter(task.first_state)

    def exists(self, place: str) -> bool:
        """Whether there is such a place; anything may be where the first state does not tell."""
        return not self._there or place in self._there or place in self.visited

    def together(self, one: str, other: str) -> bool:
        """Whether both were shown to be reachable from one spot."""
        return other in self._beside.get(one, ())

    def apart(self, one: str, other: str) -> bool:
        """Whether the agent has walked from one to the other: then they cannot be reached from one spot."""
        return frozenset((one, other)) in self._apart

    def see(self, before: State, transition: Transition) -> None:
        """`transition` came after `before`."""
        action, after = parse_action(transition.action), transition.state
        at, result = before.scene or ROOM, after.elements.get(RESULT, "")
        failed = result == FAILED
        if result and not failed:
            self.read.add((at, transition.action, result))
        if action.verb == "go":
            # Walking fails only to where one can reach already.
            if failed and action.place in self._there and at != ROOM:
                self._join({at, action.place})
        elif action.verb == "go":
            self._apart.add(frozenset((at, action.place)))
        elif action.place and not failed:
            self._join({at, action.place})
            self.visited.add(action.place)
        if result.startswith("facing "):
            self._join({at, *result.removeprefix("facing ").partition(";")[0].split(", ")})
        self.enter(after)

    def enter(self, state: State) -> None:
        """Take in what `state` shows."""
        elements = state.elements
        at = elements.get(SCENE, ROOM)
        if at == ROOM:
            return
        self.visited.add(at)
        if elements.get(at) != "closed":
            self.listed.add(at)
        for name, value in elements.items():
            if value in ("open", "closed"):
                self.visited.add(name)
                if value == "open":
                    self.listed.add(name)

    def _join(self, places: set[str]) -> None:
        for place in tuple(places):
            places |= self._beside.get(place, set())
        for place in places:
            self._beside[place] = places - {place}


def _places(first: Mapping[str, str]) -> set[str]:
    """The places that the lines of the middle of the room name."""
    if first.get(SCENE) != ROOM:
        return set()
    lines = [(kind, value.split()) for kind, value in first.items() if kind not in (SCENE, RESULT)]
    return {f"{kind} {number}" for kind, numbers in lines for number in numbers if number.isdigit()}
