from __future__ import annotations

import pytest

from dreamsim.errors import ConfigurationError, EnvironmentFailure
from dreamsim.protocols import StateMapping
from dreamsim.records.episode import Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.testing import check_environment, check_state_mapping, scripted_task
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.games import DEFAULT_MIX, GAMES, GameSpec
from dreamsim_adapters.environments.textworld_express.mapping import TextWorldExpressMapping
from dreamsim_adapters.environments.textworld_express.policies import offline_policy

SEEDS = 3
DEFAULTS = [GameSpec(game=game) for game in GAMES]


class _Recording:
    """A mapping that keeps what it was given."""

    def __init__(self, mapping: StateMapping) -> None:
        self._mapping = mapping
        self.seen: list[str] = []

    def state(self, raw: str) -> State:
        self.seen.append(raw)
        return self._mapping.state(raw)


async def _play(environment: TextWorldExpressEnvironment, task: Task, policy: str) -> list[Transition]:
    found: list[Transition] = []
    actor = offline_policy(policy, environment).actor(task, episode_id="x", seed=3)
    async with environment.session(task, episode_id="x", seed=3) as session:
        while len(found) < 50 and not (found and found[-1].done):
            decision = await actor.act(session.state, session.admissible)
            found.append(await session.step(decision.action))
    return found


async def test_it_is_an_environment(textworld: TextWorldExpressEnvironment) -> None:
    tasks = await textworld.tasks(DEFAULTS, fold="dev", count=8)
    paths = {task.key: await textworld.gold_path(task) for task in tasks}
    await check_environment(textworld, tasks, lambda task: paths[task.key])


@pytest.mark.parametrize("game", GAMES)
async def test_the_gold_path_solves_every_game(textworld: TextWorldExpressEnvironment, game: str) -> None:
    for task in await textworld.tasks([GameSpec(game=game)], fold="test", count=SEEDS):
        transitions = await _play(textworld, task, "gold")
        assert transitions[-1].outcome == "success"
        assert [transition.reward for transition in transitions] == [0.0] * (len(transitions) - 1) + [1.0]


@pytest.mark.parametrize("fold", ["train", "dev", "test"])
async def test_the_package_knows_the_seeds_of_every_fold(textworld: TextWorldExpressEnvironment, fold: str) -> None:
    assert len({task.key for task in await textworld.tasks(fold=fold, count=6, first=998)}) == 6


async def test_tasks_carry_what_sets_them_up_again(textworld: TextWorldExpressEnvironment) -> None:
    [task] = await textworld.tasks([GameSpec.parse("twc:numLocations=2")], fold="dev", count=1, first=4)
    assert (task.environment, task.fold, task.seed) == ("textworld_express/twc", "dev", 10_004)
    assert task.parameters == GameSpec.parse("twc:numLocations=2").parameters
    assert task.first_state.scene is not None


async def test_the_same_seeds_give_the_same_tasks(textworld: TextWorldExpressEnvironment) -> None:
    first = await textworld.tasks(count=9, first=20)
    assert await textworld.tasks(count=9, first=20) == first


async def test_more_tasks_than_seeds_are_refused(textworld: TextWorldExpressEnvironment) -> None:
    with pytest.raises(ConfigurationError, match="need 1001 seeds"):
        await textworld.tasks(count=3_001)


async def test_a_task_of_another_environment_fails_as_an_episode(textworld: TextWorldExpressEnvironment) -> None:
    with pytest.raises(EnvironmentFailure, match="not of textworld_express"):
        async with textworld.session(scripted_task(1), episode_id="x", seed=0):
            pass


async def test_a_task_whose_game_has_changed_fails_as_an_episode(textworld: TextWorldExpressEnvironment) -> None:
    [task] = await textworld.tasks(count=1)
    other = Task(
        environment=task.environment,
        instruction=task.instruction,
        first_state=State.of(["at: moon"]),
        fold=task.fold,
        seed=task.seed,
        parameters=task.parameters,
    )
    with pytest.raises(EnvironmentFailure, match="begins in another state"):
        async with textworld.session(other, episode_id="x", seed=0):
            pass


@pytest.mark.parametrize("action", ["", "\n", "\x00", "\ud800", "take " + "x" * 9_999, "a\"\\'", "é😀"])
async def test_any_text_is_an_action(textworld: TextWorldExpressEnvironment, action: str) -> None:
    [task] = await textworld.tasks(DEFAULT_MIX[:1], count=1)
    async with textworld.session(task, episode_id="x", seed=0) as session:
        transition = await session.step(action)
    assert (transition.outcome, transition.reward) == ("running", 0.0)
    assert transition.state.elements["result"] == "failed"


@pytest.mark.parametrize("policy", ["random", "mistaken"])
async def test_changes_lose_nothing_of_real_states(textworld: TextWorldExpressEnvironment, policy: str) -> None:
    mapping = _Recording(TextWorldExpressMapping())
    recording = TextWorldExpressEnvironment(pool=textworld.pool, mapping=mapping)
    for task in await recording.tasks(DEFAULTS, count=16):
        mapping.seen.clear()
        await _play(recording, task, policy)
        check_state_mapping(TextWorldExpressMapping(), mapping.seen)
