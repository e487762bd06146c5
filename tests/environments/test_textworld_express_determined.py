"""Which steps the history decides."""

from __future__ import annotations

import pytest

from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim_adapters.environments.textworld_express.determined import determined

KITCHEN = ["at: kitchen", "fridge: closed", "cookbook: here", "north: pantry", "east: closed door"]
OPENED = ["at: kitchen", "fridge: open", "egg: in fridge raw", "cookbook: here", "north: pantry", "east: closed door"]
BEYOND = ["at: kitchen", "fridge: closed", "cookbook: here", "north: pantry", "east: hall open door"]
PANTRY = ["at: pantry", "south: kitchen"]
READ = [*KITCHEN, "result: gather egg; fry egg"]

Step = tuple[str, list[str]]


def decided(*steps: Step, game: str = "cookingworld") -> list[bool]:
    task = Task(environment=f"textworld_express/{game}", instruction="", first_state=State.of(KITCHEN), fold="test")
    transitions = tuple(
        Transition(action=action, state=State.of(lines), reward=0.0, outcome="running") for action, lines in steps
    )
    episode = Episode(
        id="e",
        run="r",
        task=task,
        repeat=0,
        source="real",
        purpose="evaluation",
        transitions=transitions,
        outcome="truncated",
    )
    return determined(episode)


@pytest.mark.parametrize(
    ("first", "back"),
    [
        (("open fridge", OPENED), ("close fridge", KITCHEN)),
        (("open door to east", BEYOND), ("close door to east", KITCHEN)),
        (("move north", PANTRY), ("move south", KITCHEN)),
        (("read cookbook", READ), ("inventory", KITCHEN)),
    ],
)
def test_what_is_seen_once_is_known_from_then_on(first: Step, back: Step) -> None:
    assert decided(first, back, first) == [False, True, True]


def test_a_failure_is_decided() -> None:
    failed = [*KITCHEN, "result: failed"]
    assert decided(("open fridge", failed), ("move east", failed), ("take hat", failed)) == [True] * 3


def test_a_door_opened_from_the_other_side_is_seen_from_here_on_arrival() -> None:
    hall = ["at: hall", "west: kitchen open door"]
    closed = ["at: hall", "west: closed door"]
    steps = (("open door to east", BEYOND), ("move east", hall), ("close door to west", closed))
    assert decided(*steps, ("open door to west", hall)) == [False, False, True, True]


def test_a_meal_is_not_decided_before_the_recipe_is_read() -> None:
    meal = [*KITCHEN, "meal: held"]
    assert decided(("prepare meal", meal)) == [False]
    assert decided(("read cookbook", READ), ("prepare meal", meal)) == [False, True]


def test_other_games_know_no_recipe() -> None:
    assert decided(("prepare meal", [*KITCHEN, "result: failed"]), game="twc") == [True]
