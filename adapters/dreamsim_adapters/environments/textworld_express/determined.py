"""Which next states follow from what an episode has shown so far, and which only the game can know.

In: an episode. Out: for each step, whether the history decides the next state.
Always: it looks at states and actions alone, never at how well anybody foretold them. Not decided are
- entering a room that this episode has not shown;
- opening a container that was never seen open;
- opening a door whose other side was never seen from here;
- reading what was not read before;
- preparing the meal before the recipe was read.
"""

from __future__ import annotations

from collections.abc import Mapping

from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import RESULT, State
from dreamsim.records.task import Task
from dreamsim_adapters.environments.textworld_express.mapping import DIRECTIONS, FAILED

_SAYS_NOTHING_NEW = ("", FAILED, "incorrect")
_RECIPE = "gather "


def determined(episode: Episode) -> list[bool]:
    """For each step, whether what came before it decides the state after it."""
    shown = _Shown(episode.task)
    decided: list[bool] = []
    before = episode.task.first_state
    for transition in episode.transitions:
        decided.append(shown.decides(before, transition))
        shown.see(transition.action, transition.state)
        before = transition.state
    return decided


class _Shown:
    """What an episode has shown so far."""

    def __init__(self, task: Task) -> None:
        self._cooking = task.environment.endswith("/cookingworld")
        self._rooms: set[str | None] = set()
        self._opened: set[tuple[str | None, str]] = set()
        self._read: set[tuple[str, str]] = set()
        self._recipe = False
        self.see("", task.first_state)

    def see(self, action: str, state: State) -> None:
        """`action` led to `state`."""
        elements = state.elements
        self._rooms.add(state.scene)
        self._opened.update((state.scene, name) for name, value in elements.items() if _is_open(name, value))
        result = elements.get(RESULT, "")
        self._read.add((action, result))
        self._recipe = self._recipe or result.startswith(_RECIPE)

    def decides(self, before: State, transition: Transition) -> bool:
        """Whether the state after `transition` follows."""
        after = transition.state
        if after.scene != before.scene and after.scene not in self._rooms:
            return False
        result = after.elements.get(RESULT, "")
        if result not in _SAYS_NOTHING_NEW and (transition.action, result) not in self._read:
            return False
        if self._cooking and transition.action == "prepare meal" and not self._recipe:
            return False
        if after.scene != before.scene:
            return True
        opened = _opened_by(before.elements, after.elements)
        return all((after.scene, name) in self._opened for name in opened)


def _opened_by(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [name for name, value in after.items() if _is_open(name, value) and not _is_open(name, before.get(name, ""))]


def _is_open(name: str, value: str) -> bool:
    """Whether it is an open container, or a way through an open door (or without one)."""
    if name in DIRECTIONS:
        return value != "closed door"
    return value == "open" or value.startswith("open ")
