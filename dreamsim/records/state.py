"""A state: short element lines, no prose; and the changes that lead from one state to the next.

In: lines `key: value` (or bare lines) of an environment's mapping or an experience model's output.
Out: a `State`, or the changes between two.

Always:
- `apply_changes(memory, changes(memory, after))` gives `after` as a mapping, for any two states.
- A line whose key is `at` names the scene (a room, a page). Entering a scene seen before starts from what was
  last seen there, so a known place costs one line. Elements whose value begins with `held` travel along.
- A line whose key is `result` says what an action returned. It belongs to one state and is never carried over.
- `key: gone` removes an element, so no element of a state has the value `gone`; `at: gone` leaves all scenes.

The abstract, compact state space is that of the method (arXiv 2511.03773, section 3); the change form is ours:
an experience model that must repeat an unchanged page pays for it in tokens at every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

SCENE = "at"
RESULT = "result"
GONE = "gone"
HELD = "held"
NO_ACTION = "(no action)"
"""Stands for the action in a step that the policy wasted: what it wrote held none."""
WASTED = "no action"
"""What such a step returns."""
SPLITS_KEPT = 16_384
"""Lines of which it is remembered how they split, about 300 bytes each: a state is read some ten times a step, and of
its lines hardly any are new."""
LONGEST_KEPT = 200
"""Characters of the longest line remembered, which bounds memory."""


def split_line(line: str) -> tuple[str, str]:
    """Split one element line into key and value; a bare line is its own key with an empty value.

    A leading `[id]` (an element id, as web states have) is the key alone, so that its text may change.
    """
    return _split_kept(line) if len(line) <= LONGEST_KEPT else _split(line)


def _split(line: str) -> tuple[str, str]:
    text = " ".join(line.split())
    if text.startswith("[") and "]" in text:
        key, _, value = text.partition("]")
        return key + "]", value.strip()
    key, colon, value = text.partition(":")
    return (key.strip(), value.strip()) if colon else (text, "")


_split_kept = lru_cache(maxsize=SPLITS_KEPT)(_split)


def join_line(key: str, value: str) -> str:
    """The inverse of `split_line`."""
    if key.startswith("[") and key.endswith("]"):
        return f"{key} {value}".strip()
    return f"{key}: {value}" if value else key


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the agent can perceive now, as element lines in the order first seen."""

    lines: tuple[str, ...]
    """Element lines, normalised by `State.of`; keys are unique."""

    @classmethod
    def of(cls, lines: Iterable[str]) -> State:
        """Normalise lines: white space collapsed, empty lines dropped, the last line of a key wins."""
        elements: dict[str, str] = {}
        for line in lines:
            key, value = split_line(line)
            if value == GONE:
                elements.pop(key, None)
            elif key or value:
                elements[key] = value
        return cls.from_elements(elements)

    @classmethod
    def from_elements(cls, elements: Mapping[str, str]) -> State:
        """The state with these elements, in this order."""
        return cls(lines=tuple(join_line(key, value) for key, value in elements.items() if key or value))

    @property
    def elements(self) -> dict[str, str]:
        """Key -> value, in order."""
        return dict(map(split_line, self.lines))

    @property
    def scene(self) -> str | None:
        """The value of the `at` line, or None where the environment has no scenes."""
        found = None
        for line in self.lines:
            if SCENE in line:  # hardly any has to be split
                key, value = split_line(line)
                found = value if key == SCENE else found
        return found

    @property
    def text(self) -> str:
        """The lines joined by newlines."""
        return "\n".join(self.lines)

    def same_as(self, other: State) -> bool:
        """Whether both hold the same elements with the same values, in any order."""
        return self.elements == other.elements


class StateMemory:
    """What is known from the states seen so far: the base that changes are written against."""

    __slots__ = ("_current", "_scenes")

    def __init__(self, first: State) -> None:
        self._current = first
        self._scenes: dict[str | None, State] = {first.scene: first}

    @property
    def current(self) -> State:
        """The last state seen."""
        return self._current

    def base(self, scene: str | None) -> dict[str, str]:
        """Elements expected in `scene` before anything is said of it: what was last seen there, plus what is held."""
        current = self._current.elements
        if scene == current.get(SCENE):
            known = dict(current)
        else:
            remembered = self._scenes.get(scene)
            known = {} if remembered is None else remembered.elements
            known = {key: value for key, value in known.items() if not is_held(value)}
            for key, value in current.items():
                if is_held(value):
                    known[key] = value
        known.pop(RESULT, None)
        known.pop(SCENE, None)  # not carried along, even in a scene called `held`
        return known if scene is None else {SCENE: scene, **known}

    def left(self, scene: str | None) -> dict[str, str]:
        """Elements of `scene` as it was last seen; none of one that was not."""
        remembered = self._scenes.get(scene)
        return {} if remembered is None else dict(remembered.elements)

    def see(self, state: State) -> None:
        """Remember `state` as the current one."""
        self._current = state
        self._scenes[state.scene] = state


def after_nothing(state: State) -> State:
    """The state after a step without an action: as it was, and `result` says so."""
    return State.from_elements({**state.elements, RESULT: WASTED})


def is_held(value: str) -> bool:
    """Whether an element's value says that the agent carries it."""
    return value == HELD or value.startswith(HELD + " ")


def changes(memory: StateMemory, after: State) -> tuple[str, ...]:
    """The lines that turn what `memory` expects into `after`: the scene first if it changed, then the rest.

    Returns an empty tuple when nothing changed.
    """
    target = after.elements
    scene = target.get(SCENE)
    base = memory.base(scene)
    lines: list[str] = []
    if scene != memory.current.scene:
        lines.append(join_line(SCENE, GONE if scene is None else scene))
    lines += [join_line(key, GONE) for key in base if key not in target]
    lines += [join_line(key, value) for key, value in target.items() if key != SCENE and base.get(key) != value]
    return tuple(lines)


def apply_changes(memory: StateMemory, lines: Iterable[str]) -> State:
    """The state that `lines` describe, seen from `memory`. Does not change `memory`."""
    pairs = [split_line(line) for line in lines]
    scene = next((value for key, value in pairs if key == SCENE), memory.current.scene)
    elements = memory.base(None if scene == GONE else scene)
    for key, value in pairs:
        if key == SCENE:
            continue
        if value == GONE:
            elements.pop(key, None)
        elif key or value:
            elements[key] = value
    return State.from_elements(elements)
