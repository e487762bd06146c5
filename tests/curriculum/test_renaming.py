"""Tasks whose things bear other names: said back exactly, played as before, and nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.curriculum.renaming import RENAMED, OtherNames, RenamingEnvironment, renamed_tasks, world_names
from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.testing.contracts import check_environment
from dreamsim.testing.environment import ScriptedEnvironment
from dreamsim.testing.world import CONTAINERS, ENVIRONMENT, OBJECTS, gold_path, scripted_task, scripted_tasks
from tests.curriculum.lists import a_task, written
from tests.trainers.played import played

NAMES = {ENVIRONMENT: frozenset((*OBJECTS, *CONTAINERS))}
NUMBERS = st.integers(0, 63)


def all_renamed(tasks: Sequence[Task], *, seed: int = 0) -> tuple[Task, ...]:
    return renamed_tasks(tasks, NAMES, share=1, seed=seed)


def others_of(task: Task) -> OtherNames:
    return OtherNames(NAMES[ENVIRONMENT], int(str(task.parameters[RENAMED])))


def carrying(number: int, *held: str) -> Episode:
    """An episode in which these things are carried."""
    one = played(scripted_task(number))
    states = [State.of([*(f"{name}: held" for name in held)]) for _ in one.transitions]
    steps = [replace(step, state=state) for step, state in zip(one.transitions, states, strict=True)]
    return replace(one, transitions=tuple(steps))


@given(number=NUMBERS, said=st.lists(st.sampled_from([*OBJECTS, *CONTAINERS, "held", "in", "open"]), max_size=12))
def test_said_twice_is_as_it_was(number: int, said: list[str]) -> None:
    others = OtherNames(NAMES[ENVIRONMENT], number)
    text = "; ".join(said)
    assert others.text(others.text(text)) == text


@given(number=NUMBERS)
def test_every_name_becomes_another_and_no_two_become_one(number: int) -> None:
    others = OtherNames(NAMES[ENVIRONMENT], number)
    given_names = [others.text(name) for name in sorted(NAMES[ENVIRONMENT])]
    assert len(set(given_names)) == len(given_names)
    assert not set(given_names) & NAMES[ENVIRONMENT]


@given(seed=st.integers(0, 500))
def test_a_renamed_task_is_another_one_and_can_be_said_back(seed: int) -> None:
    task = scripted_task(seed)
    (renamed,) = all_renamed([task])
    assert renamed.key != task.key
    assert not set(renamed.first_state.elements) & NAMES[ENVIRONMENT]
    assert others_of(renamed).task(renamed) == task


def test_the_share_says_how_many_are_renamed_and_the_seed_which() -> None:
    tasks = scripted_tasks(200, first_seed=0, fold="train", rooms=4)
    half = renamed_tasks(tasks, NAMES, share=0.5, seed=0)
    changed = [RENAMED in task.parameters for task in half]
    assert 70 < sum(changed) < 130
    assert renamed_tasks(tasks, NAMES, share=0.5, seed=0) == half
    assert [RENAMED in task.parameters for task in renamed_tasks(tasks, NAMES, share=0.5, seed=1)] != changed
    assert renamed_tasks(tasks, NAMES, share=0, seed=0) == tasks


def test_a_task_without_names_to_change_stays_as_it_is() -> None:
    task = a_task(0)
    assert all_renamed([task]) == (task,)


def test_what_a_model_writes_after_a_renamed_task_is_not_said_back() -> None:
    from dreamsim.curriculum.task_writing import family_parameters

    (renamed,) = all_renamed([scripted_task(1)])
    assert RENAMED not in family_parameters(renamed)
    assert RENAMED not in family_parameters(written(renamed, 1))


async def test_renamed_tasks_keep_the_contract_of_their_environment() -> None:
    tasks = all_renamed([scripted_task(seed) for seed in range(6)])
    environment = RenamingEnvironment(ScriptedEnvironment(), NAMES)

    def script(task: Task) -> Sequence[str]:
        others = others_of(task)
        return [others.text(action) for action in gold_path(others.task(task))]

    await check_environment(environment, tasks, script)


async def test_a_renamed_thing_is_played_as_the_thing_it_is() -> None:
    task = scripted_task(3)
    (renamed,) = all_renamed([task])
    others = others_of(renamed)
    environment = RenamingEnvironment(ScriptedEnvironment(), NAMES)
    async with environment.session(renamed, episode_id="a", seed=0) as session:
        assert session.state.same_as(renamed.first_state)
        steps = [await session.step(others.text(action)) for action in gold_path(task)]
    assert [step.action for step in steps] == [others.text(action) for action in gold_path(task)]
    assert steps[-1].outcome == "success"


async def test_a_thing_does_not_answer_to_the_name_it_had() -> None:
    task = scripted_task(3)
    (renamed,) = all_renamed([task])
    environment = RenamingEnvironment(ScriptedEnvironment(), NAMES)
    taken = next(action for action in gold_path(task) if action.startswith("take"))
    async with environment.session(renamed, episode_id="a", seed=0) as session:
        for action in gold_path(task)[: gold_path(task).index(taken)]:
            await session.step(others_of(renamed).text(action))
        assert (await session.step(taken)).state.elements["result"] == "That cannot be done."


async def test_a_task_that_is_not_renamed_is_passed_on() -> None:
    task = scripted_task(3)
    inside = ScriptedEnvironment()
    environment = RenamingEnvironment(inside, NAMES)
    assert (environment.name, environment.source) == (inside.name, inside.source)
    async with environment.session(task, episode_id="a", seed=0) as session:
        assert session.state.same_as(task.first_state)


def test_a_task_renamed_with_unknown_names_is_refused() -> None:
    (renamed,) = all_renamed([scripted_task(3)])
    with pytest.raises(ConfigurationError, match=r"store\.experiences"):
        RenamingEnvironment(ScriptedEnvironment(), {}).session(renamed, episode_id="a", seed=0)


def test_what_most_episodes_carry_keeps_its_name() -> None:
    episodes = [carrying(number, "knife", f"apple {number}") for number in range(8)]
    assert world_names(episodes) == {ENVIRONMENT: frozenset(f"apple {number}" for number in range(8))}
