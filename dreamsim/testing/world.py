"""A small text world built from a seed: rooms, containers, objects, and one thing to carry somewhere.

In: a seed. Out: a `Layout` (what never changes), a `Position` (what does), tasks and their gold paths.
Always: the same seed builds the same world; `gold_path` solves it; an action that cannot work changes nothing
but the `result` line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from dreamsim.errors import UsageError
from dreamsim.records.episode import StepOutcome, Transition
from dreamsim.records.state import GONE, HELD, RESULT, SCENE, State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import generator

ENVIRONMENT = "scripted/carry"
ROOMS = ("kitchen", "hall", "cellar", "attic", "garden", "study", "porch", "barn")
CONTAINERS = ("box", "chest", "drawer", "basket", "crate", "cupboard")
OBJECTS = ("key", "apple", "lamp", "rope", "coin", "book", "cup", "bell")
HERE = "here"
_REFUSED: tuple[str, StepOutcome] = ("That cannot be done.", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What never changes in one world."""

    doors: Mapping[str, tuple[str, ...]]
    """Room -> rooms next to it; the first room is where an episode begins."""
    containers: Mapping[str, str]
    """Container -> room it stands in."""
    objects: Mapping[str, str]
    """Object -> container or room it lies in at first."""
    goal_object: str
    """What to carry."""
    goal_container: str
    """Where to."""

    @classmethod
    def build(cls, seed: int, *, rooms: int, objects: int) -> Layout:
        """The world of a seed."""
        random = generator(seed, "layout")
        names = [ROOMS[i] for i in random.permutation(len(ROOMS))[:rooms]]
        doors: dict[str, set[str]] = {name: set() for name in names}
        for index in range(1, rooms):  # a tree, so every room can be reached
            other = names[int(random.integers(index))]
            doors[names[index]].add(other)
            doors[other].add(names[index])
        boxes = [CONTAINERS[i] for i in random.permutation(len(CONTAINERS))[: max(2, rooms // 2)]]
        containers = {box: names[int(random.integers(rooms))] for box in boxes}
        things = [OBJECTS[i] for i in random.permutation(len(OBJECTS))[:objects]]
        # Nothing lies in the goal's container, the last one, so no world is solved before it begins.
        spots = (*boxes[:-1], *names)
        placed = {thing: spots[int(random.integers(len(spots)))] for thing in things}
        return cls(
            doors={room: tuple(sorted(beside)) for room, beside in doors.items()},
            containers=containers,
            objects=placed,
            goal_object=things[0],
            goal_container=boxes[-1],
        )

    @property
    def start(self) -> str:
        """The room an episode begins in."""
        return next(iter(self.doors))

    def route(self, start: str, end: str) -> tuple[str, ...]:
        """Rooms to walk through from `start` to `end`, `end` included; empty if they are one."""
        before: dict[str, str] = {}
        waiting = deque([start])
        while waiting:
            room = waiting.popleft()
            if room == end:
                break
            for beside in self.doors[room]:
                if beside not in before and beside != start:
                    before[beside] = room
                    waiting.append(beside)
        steps: list[str] = []
        while end != start:
            steps.append(end)
            end = before[end]
        return tuple(reversed(steps))


class Position:
    """What changes in a world; one per episode."""

    __slots__ = ("layout", "opened", "places", "room")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.room = layout.start
        self.places = dict(layout.objects)
        self.opened: frozenset[str] = frozenset()

    def state(self, result: str = "") -> State:
        """What can be seen now."""
        lines = [f"{SCENE}: {self.room}", "exits: " + ", ".join(self.layout.doors[self.room])]
        for box, room in self.layout.containers.items():
            if room == self.room:
                lines.append(f"{box}: {'open' if box in self.opened else 'closed'}")
        lines += [f"{thing}: {seen}" for thing in self.places if (seen := self._seen(thing))]
        if result:
            lines.append(f"{RESULT}: {result}")
        return State(lines=tuple(lines))

    def _seen(self, thing: str) -> str:
        place = self.places[thing]
        if place == self.room:
            return HERE
        if place == HELD or (place in self.opened and self.layout.containers[place] == self.room):
            return place if place == HELD else f"in {place}"
        return ""

    def admissible(self) -> tuple[str, ...]:
        """Every action that changes something now."""
        actions = [f"go {room}" for room in self.layout.doors[self.room]]
        near = [box for box, room in self.layout.containers.items() if room == self.room]
        actions += [f"close {box}" if box in self.opened else f"open {box}" for box in near]
        for thing, place in self.places.items():
            if place == HELD:
                actions += [f"put {thing} in {box}" for box in near if box in self.opened]
                actions.append(f"break {thing}")
            elif self._seen(thing):
                actions.append(f"take {thing}")
        return tuple(actions)

    def take_action(self, action: str) -> Transition:
        """Do `action`, and say what came of it."""
        result, outcome = self._do(action) if action in self.admissible() else _REFUSED
        return Transition(
            action=action,
            state=self.state(result),
            reward=1.0 if outcome == "success" else 0.0,
            outcome=outcome,
            admissible=() if outcome != "running" else self.admissible(),
        )

    def _do(self, action: str) -> tuple[str, StepOutcome]:
        verb, _, rest = action.partition(" ")
        if verb == "go":
            self.room = rest
            return f"You go to the {rest}.", "running"
        if verb == "open":
            self.opened |= {rest}
            return f"You open the {rest}.", "running"
        if verb == "close":
            self.opened -= {rest}
            return f"You close the {rest}.", "running"
        if verb == "take":
            self.places[rest] = HELD
            return f"You take the {rest}.", "running"
        if verb == "break":
            del self.places[rest]
            lost = rest == self.layout.goal_object
            return f"The {rest} is {GONE}.", "failure" if lost else "running"
        thing, _, box = rest.partition(" in ")
        self.places[thing] = box
        solved = thing == self.layout.goal_object and box == self.layout.goal_container
        return f"You put the {thing} in the {box}.", "success" if solved else "running"


def scripted_task(seed: int, *, fold: str = "train", rooms: int = 4, objects: int = 3) -> Task:
    """The task of a seed: 2 to 8 rooms, 1 to 8 objects."""
    if not (2 <= rooms <= len(ROOMS) and 1 <= objects <= len(OBJECTS)):
        raise UsageError(f"a scripted world has 2-{len(ROOMS)} rooms and 1-{len(OBJECTS)} objects")
    layout = Layout.build(seed, rooms=rooms, objects=objects)
    return Task(
        environment=ENVIRONMENT,
        instruction=f"Put the {layout.goal_object} in the {layout.goal_container}.",
        first_state=Position(layout).state(),
        fold=fold,
        seed=seed,
        parameters={"rooms": rooms, "objects": objects},
    )


def scripted_tasks(
    count: int, *, first_seed: int = 0, fold: str = "train", rooms: int = 4, objects: int = 3
) -> tuple[Task, ...]:
    """Tasks of `count` seeds in a row."""
    seeds = range(first_seed, first_seed + count)
    return tuple(scripted_task(seed, fold=fold, rooms=rooms, objects=objects) for seed in seeds)


def layout_of(task: Task) -> Layout:
    """The world of a scripted task."""
    rooms, objects = task.parameters.get("rooms"), task.parameters.get("objects")
    if task.environment != ENVIRONMENT or not isinstance(rooms, int) or not isinstance(objects, int):
        raise UsageError(f"not a scripted task: {task.environment!r}; make one with scripted_task")
    return Layout.build(task.seed, rooms=rooms, objects=objects)


def gold_path(task: Task) -> tuple[str, ...]:
    """The shortest way to solve a scripted task."""
    layout = layout_of(task)
    actions: list[str] = []
    room = layout.start

    def walk(end: str) -> None:
        nonlocal room
        actions.extend(f"go {step}" for step in layout.route(room, end))
        room = end

    place = layout.objects[layout.goal_object]
    walk(layout.containers.get(place, place))
    if place in layout.containers:
        actions.append(f"open {place}")
    actions.append(f"take {layout.goal_object}")
    walk(layout.containers[layout.goal_container])
    actions.append(f"open {layout.goal_container}")
    actions.append(f"put {layout.goal_object} in {layout.goal_container}")
    return tuple(actions)
