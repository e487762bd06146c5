"""The suite passes a consistent world, and every kind of liar is caught by the rule that is meant for it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from dreamsim.protocols import Environment
from dreamsim.records.state import State
from dreamsim.testing import ScriptedEnvironment, scripted_task, scripted_tasks
from dreamsim.testing.consistency import check_consistency
from dreamsim.testing.consistency_machine import consistency_machine
from dreamsim.testing.examination import RULES, element_actions, inverse_of
from dreamsim.testing.liars import LIES, LIES_TO_THE_SUITE, Lie, LyingEnvironment, RestlessEnvironment

TASKS = (*scripted_tasks(8), *scripted_tasks(8, first_seed=100, rooms=2, objects=1))
SETTINGS = settings(
    max_examples=8,
    stateful_step_count=15,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # shrinking is for people
    suppress_health_check=list(HealthCheck),
)
IN_THIS_WORLD = tuple(lie for lie in (*LIES, *LIES_TO_THE_SUITE) if not lie.name.startswith(("fails", "shows other")))
"""The scripted world never says `result: failed`, and its only way to look is to stay."""
RESTLESS = {
    "after_end": RestlessEnvironment(ScriptedEnvironment()),
    "same_again": RestlessEnvironment(ScriptedEnvironment(), changes_its_mind=True),
    "first_state": RestlessEnvironment(ScriptedEnvironment(), begins_elsewhere=True),
}


async def test_a_consistent_world_passes() -> None:
    report = await check_consistency(ScriptedEnvironment(), TASKS, steps=40)
    assert report.consistent, report.findings
    assert report.episodes == len(TASKS)
    assert report.steps > 100
    assert report.per_100_steps == 0


def test_hypothesis_finds_nothing_in_a_consistent_world() -> None:
    run_state_machine_as_test(consistency_machine(ScriptedEnvironment, TASKS), settings=SETTINGS)


@pytest.mark.parametrize("lie", IN_THIS_WORLD, ids=lambda lie: lie.rule)
async def test_a_liar_is_caught_by_the_rule_that_is_meant(lie: Lie) -> None:
    report = await check_consistency(LyingEnvironment(ScriptedEnvironment(), lie), TASKS, steps=40, repeatable=False)
    assert lie.rule in report.rules, report.rules


@pytest.mark.parametrize("rule", RESTLESS)
async def test_lies_about_whole_episodes_are_caught(rule: str) -> None:
    report = await check_consistency(RESTLESS[rule], TASKS, steps=40)
    assert rule in report.rules, report.rules


def test_hypothesis_catches_a_liar() -> None:
    def liar() -> Environment:
        return LyingEnvironment(ScriptedEnvironment(), LIES_TO_THE_SUITE[0])

    with pytest.raises(AssertionError, match="impossible_changes"):
        run_state_machine_as_test(consistency_machine(liar, TASKS), settings=SETTINGS)


def test_every_rule_of_the_suite_has_a_liar() -> None:
    told = {lie.rule for lie in (*LIES, *LIES_TO_THE_SUITE)} | set(RESTLESS)
    assert set(RULES) <= told


async def test_what_is_tried_depends_on_the_seed_alone() -> None:
    one, other = [await check_consistency(ScriptedEnvironment(), TASKS[:3], seed=5) for _ in range(2)]
    assert (one.steps, one.episodes) == (other.steps, other.episodes)


async def test_nothing_judged_is_not_called_consistent() -> None:
    assert not (await check_consistency(ScriptedEnvironment(), ())).consistent


@pytest.mark.parametrize(
    ("action", "back"),
    [
        ("open box", "close box"),
        ("close box", "open box"),
        ("move north", "move south"),
        ("go attic", "go hall"),
        ("put cup in box", "take cup"),
        ("take apple", "put apple in red box"),
        ("take key", None),
        ("eat apple", None),
    ],
)
def test_actions_have_opposites(action: str, back: str | None) -> None:
    before = {"at": "hall", "red box": "open", "apple": "in red box raw", "key": "here"}
    assert inverse_of(before, action) == back


def test_element_lines_suggest_actions() -> None:
    actions = element_actions(State.of(["at: hall", "box: open", "key: held", "north: attic"]))
    assert {"move north", "put key in box", "close box", "look around"} <= set(actions)
    assert "take key" not in actions


def test_the_machine_plays_tasks_that_are_over_at_once() -> None:
    task = scripted_task(0, rooms=2, objects=1)
    run_state_machine_as_test(consistency_machine(ScriptedEnvironment, [task]), settings=SETTINGS)
