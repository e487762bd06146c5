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
from typing import NamedTuple

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


class _Element(NamedTuple):
    """What a line says."""

    key: str
    value: str
    line: str
    """The line, normalised: the same object for all that say the same, so that a state costs references alone."""


class _Elements(dict[str, _Element]):
    """What lines say, by line; forgotten all at once when there are too many, because most come again at once."""

    def __missing__(self, line: str) -> _Element:
        element = _read(line)
        if len(line) <= LONGEST_KEPT:
            if len(self) >= SPLITS_KEPT:
                self.clear()
            self[line] = element
        return element


def split_line(line: str) -> tuple[str, str]:
    """Split one element line into key and value; a bare line is its own key with an empty value.

    A leading `[id]` (an element id, as web states have) is the key alone, so that its text may change.
    """
    key, value, _ = _ELEMENTS[line]
    return key, value


def _read(line: str) -> _Element:
    text = " ".join(line.split())
    if text.startswith("[") and "]" in text:
        key, _, value = text.partition("]")
        key, value = key + "]", value.strip()
    else:
        key, colon, value = text.partition(":")
        key, value = (key.strip(), value.strip()) if colon else (text, "")
    clean = join_line(key, value)
    return _Element(key, value, line if line == clean else _ELEMENTS[clean].line)


_ELEMENTS = _Elements()


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
        known: dict[str, str] = {}
        _enter(known, map(_ELEMENTS.__getitem__, lines))
        return cls(lines=tuple(known.values()))

    @classmethod
    def from_elements(cls, elements: Mapping[str, str]) -> State:
        """The state with these elements, in this order."""
        return cls(lines=tuple(join_line(key, value) for key, value in elements.items() if key or value))

    @property
    def elements(self) -> dict[str, str]:
        """Key -> value, in order."""
        return {key: value for key, value, _ in map(_ELEMENTS.__getitem__, self.lines)}

    @property
    def scene(self) -> str | None:
        """The value of the `at` line, or None where the environment has no scenes."""
        for line in self.lines:
            if line.startswith(SCENE) and split_line(line)[0] == SCENE:  # hardly any has to be split
                return split_line(line)[1]
        return None

    @property
    def text(self) -> str:
        """The lines joined by newlines."""
        return "\n".join(self.lines)

    def same_as(self, other: State) -> bool:
        """Whether both hold the same elements with the same values, in any order."""
        return self.elements == other.elements


class StateMemory:
    """What is known from the states seen so far: the base that changes are written against."""

    __slots__ = ("_current", "_scene", "_scenes")

    def __init__(self, first: State) -> None:
        self._current = first
        self._scene = first.scene
        self._scenes: dict[str | None, State] = {self._scene: first}

    @property
    def current(self) -> State:
        """The last state seen."""
        return self._current

    @property
    def scene(self) -> str | None:
        """The scene of the last state seen."""
        return self._scene

    def base(self, scene: str | None) -> dict[str, str]:
        """Elements expected in `scene` before anything is said of it: what was last seen there, plus what is held."""
        return {element.key: element.value for element in self.expected(scene)}

    def expected(self, scene: str | None) -> list[_Element]:
        """The same, as what the lines say, the scene first."""
        current = self._current.lines
        if scene == self._scene:
            known = [one for one in map(_ELEMENTS.__getitem__, current) if one[0] != RESULT and one[0] != SCENE]
        else:
            remembered = self._scenes.get(scene)
            there = () if remembered is None else remembered.lines
            kept = {one.key: one for one in map(_ELEMENTS.__getitem__, there) if not is_held(one.value)}
            kept |= {one.key: one for one in map(_ELEMENTS.__getitem__, current) if is_held(one.value)}
            kept.pop(RESULT, None)
            kept.pop(SCENE, None)  # not carried along, even in a scene called `held`
            known = list(kept.values())
        return known if scene is None else [_ELEMENTS[join_line(SCENE, scene)], *known]

    def left(self, scene: str | None) -> dict[str, str]:
        """Elements of `scene` as it was last seen; none of one that was not."""
        remembered = self._scenes.get(scene)
        return {} if remembered is None else remembered.elements

    def see(self, state: State) -> None:
        """Remember `state` as the current one."""
        self._current = state
        self._scene = scene = state.scene
        self._scenes[scene] = state


def after_nothing(state: State) -> State:
    """The state after a step without an action: as it was, and `result` says so."""
    return State.from_elements({**state.elements, RESULT: WASTED})


def is_held(value: str) -> bool:
    """Whether an element's value says that the agent carries it."""
    return value.startswith(HELD) and (value == HELD or value[len(HELD)] == " ")


def changes(memory: StateMemory, after: State) -> tuple[str, ...]:
    """The lines that turn what `memory` expects into `after`: the scene first if it changed, then the rest.

    Returns an empty tuple when nothing changed.
    """
    if after.scene == memory.scene:
        return _changes_here(memory.current, after)
    target = {key: line for key, _, line in map(_ELEMENTS.__getitem__, after.lines)}
    scene = None if SCENE not in target else _ELEMENTS[target[SCENE]].value
    base = {key: line for key, _, line in memory.expected(scene)}
    lines = [join_line(SCENE, GONE if scene is None else scene)]
    lines += [join_line(key, GONE) for key in base if key not in target]
    lines += [line for key, line in target.items() if base.get(key) != line and key != SCENE]
    return tuple(lines)


def _changes_here(before: State, after: State) -> tuple[str, ...]:
    """The changes within one scene. Most lines stay as they are, and those are not taken apart."""
    old, new = set(before.lines), set(after.lines)
    said = [
        line for line in after.lines if line not in old or (line.startswith(RESULT) and split_line(line)[0] == RESULT)
    ]
    lost = [split_line(line)[0] for line in before.lines if line not in new]
    if lost:
        there = {split_line(line)[0] for line in said}
        lost = [join_line(key, GONE) for key in lost if key not in there and key != RESULT]
    return (*lost, *said)


def apply_changes(memory: StateMemory, lines: Iterable[str]) -> State:
    """The state that `lines` describe, seen from `memory`. Does not change `memory`."""
    said = [_ELEMENTS[line] for line in lines]
    scene = next((value for key, value, _ in said if key == SCENE), memory.scene)
    if scene == memory.scene and scene != GONE:
        known = {key: line for key, _, line in map(_ELEMENTS.__getitem__, memory.current.lines)}
        known.pop(RESULT, None)
        if scene is not None and next(iter(known)) != SCENE:
            known = {SCENE: known[SCENE], **known}
    else:
        known = {key: line for key, _, line in memory.expected(None if scene == GONE else scene)}
    _enter(known, [one for one in said if one.key != SCENE])
    return State(lines=tuple(filter(None, known.values())))


def _enter(known: dict[str, str], said: Iterable[_Element]) -> None:
    """Enter what is said into `known`, lines by their keys."""
    for key, value, line in said:
        if value == GONE:
            known.pop(key, None)
        elif line:
            known[key] = line
