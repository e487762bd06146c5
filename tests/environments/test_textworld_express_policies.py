from __future__ import annotations

import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError, PolicyError
from dreamsim.records.state import RESULT, State
from dreamsim.records.task import Task
from dreamsim.testing import check_policy
from dreamsim_adapters.environments.offline_policies import GoldPolicy, MixedPolicy, any_action
from dreamsim_adapters.environments.textworld_express.careless import CarelessPolicy, Habits
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.games import DEFAULT_MIX, GameSpec
from dreamsim_adapters.environments.textworld_express.mistakes import mistake
from dreamsim_adapters.environments.textworld_express.policies import (
    POLICIES,
    detours,
    offline_policy,
    without_looks,
)

STATE = State.of(
    ["at: kitchen", "fridge: closed", "egg: in counter raw", "counter: here", "knife: held", "north: pantry"]
)
NAMES = ("pear", "sofa", "egg")


async def _gold(task: Task) -> tuple[str, ...]:
    return ("take egg", "look around", "open fridge")


@pytest.mark.parametrize("name", POLICIES)
async def test_they_are_policies(textworld: TextWorldExpressEnvironment, name: str) -> None:
    tasks = await textworld.tasks([GameSpec(game="cookingworld")], count=3)
    await check_policy(offline_policy(name, textworld), tasks)


def test_an_unknown_policy_is_refused(textworld: TextWorldExpressEnvironment) -> None:
    with pytest.raises(ConfigurationError, match="there are gold, random, mixed, mistaken"):
        offline_policy("silver", textworld)


async def test_the_gold_policy_says_when_its_path_is_played_out(textworld: TextWorldExpressEnvironment) -> None:
    [task] = await textworld.tasks(count=1)
    actor = GoldPolicy(_gold, kept=partial(without_looks, keep=0.0)).actor(task, episode_id="x", seed=0)
    assert [(await actor.act(STATE, ())).action for _ in range(2)] == ["take egg", "open fridge"]
    with pytest.raises(PolicyError, match="played out"):
        await actor.act(STATE, ())


async def test_detours_are_taken_back_before_the_path_goes_on(textworld: TextWorldExpressEnvironment) -> None:
    spec = GameSpec.parse("twc:numLocations=2,numItemsToPutAway=1")
    tame = MixedPolicy(textworld.gold_path, detours, share=0.5, kept=without_looks)
    solved = 0
    for task in await textworld.tasks([spec], count=10):
        actor = tame.actor(task, episode_id="x", seed=task.seed)
        async with textworld.session(task, episode_id="x", seed=0) as session:
            for _ in range(60):
                decision = await actor.act(session.state, session.admissible)
                transition = await session.step(decision.action)
                if transition.done:
                    solved += transition.outcome == "success"
                    break
    assert solved >= 9, "only a wild detour, one in ten, may lead away for good"


async def test_mistakes_fail_and_the_path_still_solves_the_task(textworld: TextWorldExpressEnvironment) -> None:
    failed = steps = solved = 0
    policy = offline_policy("mistaken", textworld)
    for task in await textworld.tasks(DEFAULT_MIX, count=12):
        actor = policy.actor(task, episode_id="x", seed=task.seed)
        async with textworld.session(task, episode_id="x", seed=0) as session:
            for _ in range(60):
                decision = await actor.act(session.state, session.admissible)
                transition = await session.step(decision.action)
                steps += 1
                failed += transition.state.elements.get(RESULT) == "failed"
                if transition.done:
                    solved += transition.outcome == "success"
                    break
    assert 0.35 < failed / steps < 0.65
    assert solved >= 10


async def test_the_restless_fail_now_and_then_and_do_things_again(textworld: TextWorldExpressEnvironment) -> None:
    failed = steps = again = 0
    policy = offline_policy("restless", textworld)
    for task in await textworld.tasks(DEFAULT_MIX, count=9):
        actor = policy.actor(task, episode_id="x", seed=task.seed)
        done: list[str] = []
        async with textworld.session(task, episode_id="x", seed=0) as session:
            for _ in range(30):
                decision = await actor.act(session.state, session.admissible)
                transition = await session.step(decision.action)
                again += decision.action in done
                done.append(decision.action)
                steps += 1
                failed += transition.state.elements.get(RESULT) == "failed"
                if transition.done:
                    break
    assert 0.15 < failed / steps < 0.4
    assert again / steps > 0.3


@given(st.integers(0, 10_000), st.sampled_from(["take egg", "open fridge", "move north", ""]))
def test_a_mistake_is_never_an_action_that_can_be_taken(seed: int, last: str) -> None:
    admissible = ("take egg", "open fridge", "move north", "put knife in counter", "look around")
    action = mistake(random.Random(seed), STATE, admissible, NAMES, last=last, seen=("coin", "egg", "fridge"))
    assert action.strip()
    assert action not in admissible


@given(st.integers(0, 10_000))
def test_a_mistake_can_be_made_where_there_is_nothing(seed: int) -> None:
    assert mistake(random.Random(seed), State.of([]), (), ()).strip()


@given(st.integers(0, 10_000), st.lists(st.sampled_from(["take a", "take b", "examine a", "open c"])))
def test_a_random_action_is_one_that_can_be_taken(seed: int, admissible: list[str]) -> None:
    assert any_action(random.Random(seed), admissible) in (admissible or ["look around"])


NEVER = Habits(cook=0, cut=0, put=0, walk=0, dawdle=0)


@pytest.mark.parametrize(
    ("habits", "path", "admissible", "instead"),
    [
        (NEVER, "slice egg", ["slice egg", "look around"], {"slice egg"}),
        (Habits(cut=1, dawdle=0), "slice egg", [], {"dice egg", "chop egg"}),
        (
            Habits(cook=1, dawdle=0),
            "cook egg in oven",
            ["cook egg in oven", "cook egg in stove", "cook egg in toaster"],
            {"cook egg in stove", "cook egg in toaster"},
        ),
        (Habits(cook=1, dawdle=0), "cook egg in oven", ["cook egg in oven"], {"cook egg in oven"}),
        (
            Habits(put=1, dawdle=0),
            "put egg in fridge",
            ["put egg in fridge", "put egg in counter"],
            {"put egg in counter"},
        ),
        (Habits(walk=1, dawdle=0), "move east", ["move east", "move west"], {"move west"}),
        (Habits(dawdle=1), "slice egg", ["slice egg", "look around"], {"look around"}),
    ],
)
async def test_a_careless_worker_has_its_habits(
    habits: Habits, path: str, admissible: list[str], instead: set[str]
) -> None:
    async def gold(task: Task) -> tuple[str, ...]:
        return (path,)

    task = Task(environment="textworld_express/cookingworld", instruction="", first_state=STATE, fold="train")
    policy = CarelessPolicy(gold, habits=habits)
    done = set()
    for seed in range(40):
        done.add((await policy.actor(task, episode_id="x", seed=seed).act(STATE, admissible)).action)
    assert done == instead


async def test_whoever_walked_off_comes_back_and_goes_on() -> None:
    async def gold(task: Task) -> tuple[str, ...]:
        return ("move east",)

    task = Task(environment="textworld_express/coin", instruction="", first_state=STATE, fold="train")
    actor = CarelessPolicy(gold, habits=Habits(walk=0.5, dawdle=0)).actor(task, episode_id="x", seed=0)
    taken: list[str] = []
    while "move east" not in taken:
        taken.append((await actor.act(STATE, ["move east", "move north"])).action)
    assert taken[:-1] == ["move north", "move south"] * (len(taken) // 2)
