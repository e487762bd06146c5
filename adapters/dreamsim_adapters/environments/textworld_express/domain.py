"""Which tasks could be of TextWorldExpress: a written one that no game could begin with is refused.

In: real tasks; a task that a model wrote. Out: what is impossible or foreign about it, or nothing.
Always: no task it was made from is refused. What it goes by:

    unknown family              game, fold and parameters of no real task
    other instruction           the game asks for something else
    unknown room                no game of the family begins there
    furniture missing           the room has furniture that every real task of it shows
    impossible exit             leads to a room that is not next to this one, or two lead to the same one
    too many or too few exits   than any real task of the room shows
    unknown thing               of no real task of the game; in twc, nothing that its own table (`belongings`) holds
    thing in the wrong place    where nothing of the kind ever is at first; in twc, where it belongs already
    too many or too few things  than any real task of the family shows
    belongs nowhere here        twc with one room: a thing that could not be put away
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from dreamsim.curriculum.task_writing import family_of
from dreamsim.experience.books import base_name
from dreamsim.records.state import split_line
from dreamsim.records.task import Task
from dreamsim_adapters.environments.textworld_express.belongings import Belongings, belongings
from dreamsim_adapters.environments.textworld_express.books import CLOSED_DOOR, OPEN_DOOR
from dreamsim_adapters.environments.textworld_express.mapping import DIRECTIONS

VERSION: Final = "textworld-express-1"
TWC: Final = "twc"


@dataclass(slots=True)
class _Room:
    """What real tasks that begin in one room show."""

    furniture: set[str]
    """Lines of all of them, at least."""
    neighbours: set[str] = field(default_factory=set)
    exits: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Family:
    """What real tasks of one family show."""

    instructions: set[str] = field(default_factory=set)
    rooms: dict[str | None, _Room] = field(default_factory=dict)
    places: set[str] = field(default_factory=set)
    """Values of things."""
    counts: set[int] = field(default_factory=set)
    """Numbers of things."""


class TextWorldExpressDomain:
    """A `TaskDomain` of the families of real tasks."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        """Learn from `tasks`. Blocks: reads a small file."""
        self._families: dict[str, _Family] = defaultdict(_Family)
        self._things: dict[str, set[str]] = defaultdict(set)
        self._belongings: dict[str, Belongings] = {}
        listed = tuple(tasks)
        for task in listed:
            self._see_room(task)
        for task in listed:
            self._see_things(task)

    @property
    def name(self) -> str:
        """Name and version."""
        return VERSION

    def _see_room(self, task: Task) -> None:
        family = self._families[family_of(task)]
        family.instructions.add(task.instruction)
        lines = {line for line in task.first_state.lines if split_line(line)[0] not in DIRECTIONS}
        room = family.rooms.setdefault(task.first_state.scene, _Room(furniture=lines))
        room.furniture &= lines
        neighbours = _neighbours(task)
        room.neighbours.update(neighbours)
        room.exits.add(len(neighbours))

    def _see_things(self, task: Task) -> None:
        family = self._families[family_of(task)]
        things = _things(task, family.rooms[task.first_state.scene])
        family.counts.add(len(things))
        family.places.update(value for _, value in things)
        self._things[task.environment].update(f"{name}: {value}" for name, value in things)
        if _is_twc(task) and task.fold not in self._belongings:
            self._belongings[task.fold] = belongings(task.fold)

    def refusal(self, task: Task) -> str | None:
        """What is impossible or foreign about `task`, by the table above."""
        family = self._families.get(family_of(task))
        if family is None:
            return "unknown family"
        if task.instruction not in family.instructions:
            return "other instruction"
        room = family.rooms.get(task.first_state.scene)
        if room is None:
            return "unknown room"
        if not room.furniture <= set(task.first_state.lines):
            return "furniture missing"
        return _refused_exits(task, room) or self._refused_things(task, family, room)

    def _refused_things(self, task: Task, family: _Family, room: _Room) -> str | None:
        things = _things(task, room)
        if not min(family.counts) <= len(things) <= max(family.counts):
            return "too many or too few things"
        if _is_twc(task):
            return _refused_in_twc(task, things, family.places, self._belongings[task.fold])
        for name, value in things:
            if f"{name}: {value}" not in self._things[task.environment]:
                known = any(one.startswith(f"{name}: ") for one in self._things[task.environment])
                return "thing in the wrong place" if known else "unknown thing"
        return None


def _refused_in_twc(task: Task, things: list[tuple[str, str]], places: set[str], where: Belongings) -> str | None:
    here = set(task.first_state.elements)
    for name, value in things:
        if name not in where:
            return "unknown thing"
        if value not in places or value.removeprefix("in ") in where[name]:
            return "thing in the wrong place"
        if task.parameters.get("numLocations") == 1 and not where[name] & here:
            return "belongs nowhere here"
    return None


def _refused_exits(task: Task, room: _Room) -> str | None:
    neighbours = _neighbours(task)
    if not min(room.exits) <= len(neighbours) <= max(room.exits):
        return "too many or too few exits"
    rooms = [neighbour for neighbour in neighbours if neighbour != CLOSED_DOOR]
    return None if len(set(rooms)) == len(rooms) and room.neighbours.issuperset(neighbours) else "impossible exit"


def _neighbours(task: Task) -> list[str]:
    elements = task.first_state.elements
    return [elements[way].removesuffix(OPEN_DOOR) for way in DIRECTIONS if way in elements]


def _things(task: Task, room: _Room) -> list[tuple[str, str]]:
    """Name and value of whatever is neither furniture nor an exit."""
    pairs = [split_line(line) for line in task.first_state.lines if line not in room.furniture]
    return [(base_name(key), value) for key, value in pairs if key not in DIRECTIONS]


def _is_twc(task: Task) -> bool:
    return task.environment.rpartition("/")[2] == TWC
