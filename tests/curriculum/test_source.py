"""What a curriculum gives next."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.curriculum.figures import curriculum_figures
from dreamsim.curriculum.source import Curriculum, PlannedGroup
from dreamsim.curriculum.value import TaskClusters
from dreamsim.errors import ConfigurationError
from dreamsim.records.task import Task
from dreamsim.runtime.curriculum_settings import CurriculumSection
from tests.curriculum.lists import a_curriculum, a_result, a_task, run, written

pytestmark = pytest.mark.anyio
SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.7, 1.0])
ACTIONS = st.lists(st.sampled_from(["plan", "real", "observe", "solve", "write", "save"]), max_size=60)


def drive(curriculum: Curriculum, actions: list[str], *, saving: bool) -> list[tuple[str, int]]:
    """Do `actions`; returns the groups given. `save` replaces the curriculum by one restored from its state."""
    given: list[tuple[str, int]] = []
    open_groups = []
    for step, action in enumerate(actions):
        if action in ("plan", "real"):
            group = curriculum.plan(real_only=action == "real")
            if group is not None:
                assert not (action == "real" and group.task.synthetic)
                given.append((group.task.key, group.number))
                open_groups.append(group)
        elif action in ("observe", "solve") and open_groups:
            group = open_groups.pop(step % len(open_groups))
            curriculum.observe(a_result(group, 2 if action == "solve" else step % 2))
        elif action == "write":
            order = curriculum.order()
            if order is not None:
                lineage = order.seed.lineage
                curriculum.take(order, written(order.seed, order.number, 1 if lineage is None else 1 + lineage.depth))
        elif action == "save" and saving:
            state = json.loads(json.dumps(curriculum.state(), sort_keys=True))
            curriculum.restore(state)
            for group in open_groups:  # they come again first
                again = curriculum.plan()
                assert again is not None
                assert (again.task, again.number) == (group.task, group.number)
        check_bounds(curriculum, given)
    return given


def check_bounds(curriculum: Curriculum, given: list[tuple[str, int]]) -> None:
    assert curriculum.planned == len(given) == len(set(given))
    assert curriculum.synthetic <= Fraction(str(curriculum.settings.synthetic)) * curriculum.planned


@given(ACTIONS, SHARES, st.integers(0, 3))
@settings(deadline=None)
def test_written_tasks_keep_within_their_share_and_no_group_comes_twice(
    actions: list[str], share: float, seed: int
) -> None:
    curriculum = a_curriculum(seed=seed, synthetic=share)
    given = drive(curriculum, actions, saving=False)
    numbers: Counter[str] = Counter()
    for key, number in given:
        assert number == numbers[key]
        numbers[key] += 1


@given(ACTIONS, SHARES)
@settings(deadline=None)
def test_a_restored_curriculum_goes_on_as_an_uninterrupted_one(actions: list[str], share: float) -> None:
    interrupted, straight = a_curriculum(synthetic=share), a_curriculum(synthetic=share)
    assert drive(interrupted, actions, saving=True) == drive(straight, actions, saving=False)
    assert interrupted.state() == straight.state()


async def test_assignments_come_in_whole_groups_with_repeats_in_a_row() -> None:
    curriculum = a_curriculum(2, size=3, groups=5)
    found = [assignment async for assignment in curriculum.assignments()]
    assert len(found) == 15
    for start in range(0, 15, 3):
        group = found[start : start + 3]
        assert len({one.task.key for one in group}) == 1
        assert [one.repeat % 3 for one in group] == [0, 1, 2]
        assert len({one.repeat // 3 for one in group}) == 1


def test_tasks_solved_now_and_then_come_again() -> None:
    tasks = [a_task(number) for number in range(6)]
    worth = tasks[2].key
    curriculum = a_curriculum(synthetic=0.0, explore=0.5)
    given = run(curriculum, 60, lambda task: 2 if task.key == worth else 0)
    late = Counter(group.task.key for group in given[20:])
    assert late[worth] > 30
    assert len(late) > 1  # the others come again by age


def test_a_task_solved_always_is_not_chosen_for_its_value() -> None:
    curriculum = a_curriculum(2, synthetic=0.0, staleness=0.0)
    hard = a_task(1).key
    given = run(curriculum, 30, lambda task: 1 if task.key == hard else 4)
    assert {group.task.key for group in given[2:]} == {hard}


def test_tasks_get_harder_as_the_policy_gets_better() -> None:
    bad, good = a_curriculum(), a_curriculum()
    run(bad, 6, lambda task: 0)
    run(good, 6, lambda task: 4)
    assert (bad.target, good.target) == (0.65, 0.35)


@pytest.mark.parametrize("explore", [1.0, 0.3])
def test_families_come_as_often_as_the_list_has_them(explore: float) -> None:
    """Whether they are explored or chosen for their value, though one is seldom solved and the other half the time."""
    tasks = [a_task(number, "noisy") for number in range(30)] + [a_task(number, "hard") for number in range(90)]
    curriculum = Curriculum(tasks, CurriculumSection(synthetic=0.0, explore=explore, staleness=0.0), size=4, seed=0)
    given = run(curriculum, 100, lambda task: 2 if task.environment == "e/noisy" else 1)
    assert Counter(group.task.environment for group in given)["e/hard"] / 100 == pytest.approx(0.75, abs=0.12)


def test_uniform_gives_every_task_once_before_any_comes_again() -> None:
    curriculum = a_curriculum(6, mode="uniform", synthetic=0.5)
    first, second = (run(curriculum, 6, lambda task: 2) for _ in range(2))
    assert (
        {group.task.key for group in first} == {group.task.key for group in second} == {a_task(n).key for n in range(6)}
    )
    assert [group.task.key for group in first] != [group.task.key for group in second]
    assert curriculum.order() is None


def a_candidate(**settings: int) -> tuple[Curriculum, Task]:
    """A curriculum that has just got a written task, which comes next."""
    section = CurriculumSection(synthetic=1.0, **settings)  # type: ignore[arg-type]
    curriculum = Curriculum([a_task(number) for number in range(6)], section, size=4, seed=0)
    run(curriculum, 3, lambda task: 2)
    order = curriculum.order()
    assert order is not None
    task = written(order.seed, 0)
    curriculum.take(order, task)
    return curriculum, task


def test_a_written_task_is_tried_first_and_is_a_seed_only_once_solved() -> None:
    curriculum, task = a_candidate()
    group = curriculum.plan()
    assert group is not None
    assert (group.task, group.why) == (task, "candidate")
    assert task.key not in seeds_of(curriculum)
    curriculum.observe(a_result(group, 2))
    assert [one.standing for one in curriculum.written] == ["feasible"]
    assert task.key in seeds_of(curriculum)


def seeds_of(curriculum: Curriculum) -> set[str]:
    found = set()
    for _ in range(60):
        curriculum.planned += 8  # groups given allow for more orders
        order = curriculum.order()
        assert order is not None
        found.add(order.seed.key)
        curriculum.refuse(order, {"parse": 1})
    return found


def test_a_written_task_that_nobody_solves_is_given_up() -> None:
    curriculum, task = a_candidate(attempts=2)
    given = run(curriculum, 20, lambda found: 0 if found == task else 2)
    assert [group.why for group in given if group.task == task] == ["candidate", "candidate"]
    assert [one.standing for one in curriculum.written] == ["retired"]
    assert curriculum.statistics(task.key).groups == 0


def test_a_group_whose_episodes_all_failed_says_nothing_of_a_written_task() -> None:
    curriculum, task = a_candidate(attempts=1)
    first = planned_of(curriculum, task)
    curriculum.observe(a_result(first, 0, episodes=0))
    assert [(one.standing, one.tries) for one in curriculum.written] == [("candidate", 0)]
    curriculum.observe(a_result(planned_of(curriculum, task), 0))
    assert [(one.standing, one.tries) for one in curriculum.written] == [("retired", 1)]


def test_a_candidate_whose_episodes_fail_does_not_keep_others_from_their_trial() -> None:
    curriculum, task = a_candidate(attempts=1)
    order = curriculum.order()
    assert order is not None
    other = written(order.seed, 2)
    curriculum.take(order, other)
    curriculum.observe(a_result(planned_of(curriculum, task), 0, episodes=0))
    assert next(group.task for group in run(curriculum, 5, lambda found: 2) if group.task.synthetic) == other


def planned_of(curriculum: Curriculum, task: Task) -> PlannedGroup:
    """The next group of `task`; those that come before it are solved by half."""
    for _ in range(20):
        group = curriculum.plan()
        assert group is not None
        if group.task == task:
            return group
        curriculum.observe(a_result(group, 2))
    raise AssertionError("no group of it came")


def test_figures_say_what_was_chosen_and_what_was_written() -> None:
    curriculum, _ = a_candidate()
    run(curriculum, 1, lambda found: 2)
    order = curriculum.order()
    assert order is not None
    curriculum.refuse(order, {"domain: unknown word": 2, "domain: unknown room": 1, "known": 1})
    figures = curriculum_figures(curriculum)
    assert (figures["groups"], figures["synthetic_share"], figures["chosen_candidate"]) == (4, 0.25, 0.25)
    assert (figures["written_feasible"], figures["written_retired"], figures["written_depth_mean"]) == (1, 0, 1)
    assert (figures["refused_domain"], figures["refused_known"]) == (3, 1)
    assert figures["competence"] == 0.5
    assert figures["value_mean"] == 0.25


def test_variations_of_variations_end_at_the_depth_allowed() -> None:
    curriculum, task = a_candidate(depth=1)
    run(curriculum, 1, lambda found: 2)
    assert curriculum.written[0].standing == "feasible"
    assert task.key not in seeds_of(curriculum)


def test_an_order_shows_other_real_tasks_of_the_family() -> None:
    tasks = [a_task(number, family) for family in ("coin", "twc") for number in range(8)]
    curriculum = Curriculum(tasks, CurriculumSection(examples=3), size=4, seed=0)
    run(curriculum, 8, lambda task: 2)
    order = curriculum.order()
    assert order is not None
    assert len({order.seed.key, *(task.key for task in order.others)}) == 3
    assert {task.environment for task in order.others} == {order.seed.environment}


def test_orders_stop_when_enough_is_waiting() -> None:
    curriculum = a_curriculum(waiting=2)
    assert curriculum.order() is None  # nothing is worth varying yet
    run(curriculum, 3, lambda task: 2)
    orders = [curriculum.order() for _ in range(3)]
    assert [order is None for order in orders] == [False, False, True]


def test_refusals_are_counted_and_orders_go_by_the_groups_given() -> None:
    curriculum = a_curriculum(waiting=2, synthetic=0.5)

    def refuse_all() -> int:
        orders = 0
        while (order := curriculum.order()) is not None:
            curriculum.refuse(order, {"parse": 2, "known": 1})
            orders += 1
        return orders

    run(curriculum, 4, lambda task: 2)
    assert refuse_all() == 4  # waiting * (1 + floor(0.5 * 4 / 2))
    assert curriculum.refused == {"parse": 8, "known": 4}
    run(curriculum, 3, lambda task: 2)
    assert refuse_all() == 0
    run(curriculum, 1, lambda task: 2)
    assert refuse_all() == 2


def test_results_that_were_not_asked_for_or_come_twice_change_nothing() -> None:
    curriculum = a_curriculum()
    group = curriculum.plan()
    assert group is not None
    curriculum.observe(a_result(group, 2))
    before = curriculum.state()
    curriculum.observe(a_result(group, 0))
    assert curriculum.state() == before


def test_clusters_share_what_their_tasks_are_worth() -> None:
    tasks = [a_task(number) for number in range(20)]
    vectors = np.array([[1, 0] if number < 10 else [0, 1] for number in range(20)], dtype=np.float32)
    clusters = TaskClusters.fit(vectors, clusters=2, seed=0)
    section = CurriculumSection(synthetic=0.0, cluster_memory=16)
    curriculum = Curriculum(tasks, section, size=1, seed=0, clusters=clusters, vectors=vectors)
    worth = {task.key for task in tasks[10:]}
    flips = iter(range(1000))
    given = run(curriculum, 200, lambda task: next(flips) % 2 if task.key in worth else 0)
    late = [group.task.key in worth for group in given[50:]]
    assert sum(late) > 0.85 * len(late)
    assert {group.task.key for group in given[50:]} >= worth  # the members take turns
    numbers = Counter(group.task.key for group in given if group.task.key in worth)
    assert max(numbers.values()) - min(numbers.values()) <= 1


@pytest.mark.parametrize(("tasks", "size"), [([], 4), ([a_task(0)], 0), ([a_task(0), written(a_task(0), 0)], 4)])
def test_what_cannot_be_a_curriculum_is_refused(tasks: list[Task], size: int) -> None:
    with pytest.raises(ConfigurationError):
        Curriculum(tasks, CurriculumSection(), size=size, seed=0)


def test_the_state_of_another_curriculum_is_refused() -> None:
    state = a_curriculum().state()
    for other in (a_curriculum(7), a_curriculum(seed=1), a_curriculum(explore=0.1), a_curriculum(size=2)):
        with pytest.raises(ConfigurationError, match="other tasks"):
            other.restore(state)
