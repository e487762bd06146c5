"""What could be a task of TextWorldExpress, and what could not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dreamsim.cli.tasks import SHIPPED_TASKS, read_tasks
from dreamsim.curriculum.task_writing import content_key
from dreamsim.errors import EnvironmentFailure
from dreamsim.records.state import State
from dreamsim.records.task import Lineage, Task
from dreamsim.testing import check_task_domain
from dreamsim_adapters.environments.textworld_express.domain import TextWorldExpressDomain
from dreamsim_adapters.environments.textworld_express.environment import spec_of

TASKS = list(read_tasks(SHIPPED_TASKS))
Change = Callable[[dict[str, str]], object]


@pytest.fixture(scope="module")
def domain() -> TextWorldExpressDomain:
    return TextWorldExpressDomain(TASKS)


def begins(game: str, *lines: str) -> Task:
    """The first task of a game that shows all `lines`."""
    return next(
        task for task in TASKS if task.environment.endswith(f"/{game}") and set(lines) <= set(task.first_state.lines)
    )


def changed(task: Task, change: Change) -> Task:
    elements = dict(task.first_state.elements)
    change(elements)
    return replace(task, first_state=State.from_elements(elements), seed=0)


def test_no_task_it_was_made_from_is_refused(domain: TextWorldExpressDomain) -> None:
    check_task_domain(domain, TASKS)


def test_no_real_task_it_has_not_seen_is_refused() -> None:
    half = TextWorldExpressDomain(TASKS[::2])
    seen = {content_key(task.instruction, task.first_state) for task in TASKS[::2]}
    others = [task for task in TASKS[1::2] if content_key(task.instruction, task.first_state) not in seen]
    assert len(others) > 250
    assert {half.refusal(task) for task in others} == {None}


@pytest.mark.parametrize(
    ("game", "lines", "change", "reason"),
    [
        ("coin", (), lambda e: e.pop("stove"), "furniture missing"),
        ("coin", (), lambda e: e.update(fridge="open"), "furniture missing"),
        ("coin", (), lambda e: e.update(at="attic"), "unknown room"),
        ("coin", ("east: pantry",), lambda e: e.update(east="moon"), "impossible exit"),
        ("coin", ("east: pantry", "west: corridor"), lambda e: e.update(west="pantry"), "impossible exit"),
        ("coin", (), lambda e: e.update(north="pantry", south="corridor", east="bedroom"), "too many or too few exits"),
        ("coin", (), lambda e: e.update(coin="held"), "thing in the wrong place"),
        ("coin", (), lambda e: e.update(dragon="here"), "unknown thing"),
        ("coin", (), lambda e: e.update({f"coin #{n}": "here" for n in range(9)}), "too many or too few things"),
        ("cookingworld", (), lambda e: e.pop("cookbook"), "furniture missing"),
        ("cookingworld", ("knife: in counter",), lambda e: e.update(knife="in oven"), "thing in the wrong place"),
        ("twc", ("at: bathroom", "brush: here"), lambda e: e.pop("brush"), "too many or too few things"),
    ],
)
def test_what_no_game_begins_with_is_refused(
    domain: TextWorldExpressDomain, game: str, lines: tuple[str, ...], change: Change, reason: str
) -> None:
    assert domain.refusal(changed(begins(game, *lines), change)) == reason


def swap(old: str, new: str, value: str = "here") -> Change:
    def change(elements: dict[str, str]) -> None:
        del elements[old]
        elements[new] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swap("brush", "comb"), None),
        (swap("brush", "dragon"), "unknown thing"),
        (swap("brush", "long coat"), "belongs nowhere here"),
        (swap("brush", "brush", "in sink"), "thing in the wrong place"),
    ],
)
def test_a_thing_of_twc_must_belong_somewhere_in_its_only_room(
    domain: TextWorldExpressDomain, change: Change, reason: str | None
) -> None:
    assert domain.refusal(changed(begins("twc", "at: bathroom", "brush: here"), change)) == reason


def test_another_game_and_another_instruction_are_refused(domain: TextWorldExpressDomain) -> None:
    task = TASKS[0]
    assert domain.refusal(replace(task, instruction="eat the moon")) == "other instruction"
    assert domain.refusal(replace(task, environment="textworld_express/chess")) == "unknown family"
    assert domain.refusal(replace(task, fold="test")) == "unknown family"


def test_a_written_task_is_never_played_in_the_real_game() -> None:
    lineage = Lineage(parent=TASKS[0].key, depth=1, writer="model@1")
    task = replace(TASKS[0], parameters={**TASKS[0].parameters, **lineage.parameters})
    with pytest.raises(EnvironmentFailure, match="dreamed only"):
        spec_of(task)
