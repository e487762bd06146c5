"""Measuring a policy: what is counted, with which interval, and that nothing is played twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.evaluation.success import GameSettings, play_games, policy_report
from dreamsim.records.episode import EPISODE_OUTCOMES
from dreamsim.runtime.intervals import wilson
from dreamsim.store.store import open_store
from dreamsim.testing.decisions import decided_episode, decided_task
from dreamsim.testing.environment import ScriptedEnvironment
from dreamsim.testing.policies import RandomPolicy, ScriptedPolicy
from dreamsim.testing.world import scripted_tasks

pytestmark = pytest.mark.anyio


def test_an_error_is_not_solved_and_is_counted() -> None:
    episodes = [decided_episode(n, task=decided_task(n), outcome=outcome) for n, outcome in enumerate(EPISODE_OUTCOMES)]
    found = policy_report(episodes).overall
    assert (found.success.value, found.success.n) == (0.25, 4)
    assert found.outcomes == {"error unexpected": 1, "failure": 1, "success": 1, "truncated": 1}
    assert found.mean_return.value == 0.25
    assert found.steps == 12


def test_one_episode_of_each_game_has_wilsons_interval() -> None:
    episodes = [decided_episode(n, task=decided_task(n), outcome="success" if n < 30 else "failure") for n in range(40)]
    found, expected = policy_report(episodes).overall.success, wilson(30, 40)
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)


def test_repeats_of_one_game_do_not_make_the_interval_narrower_than_its_games_allow() -> None:
    """Ten games, each always won or always lost: a hundred episodes know no more than ten."""
    episodes = [
        decided_episode(n, task=decided_task(n % 10), repeat=n // 10, outcome="success" if n % 10 < 5 else "failure")
        for n in range(100)
    ]
    found, independent = policy_report(episodes).overall.success, wilson(50, 100)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low > 2 * (independent.high - independent.low)


def test_real_and_dreamed_episodes_are_never_in_one_report() -> None:
    with pytest.raises(ValueError, match="one source"):
        policy_report([decided_episode(0, source="real"), decided_episode(1, source="dreamed")])


async def test_what_is_stored_is_not_played_again_and_counts(tmp_path: Path) -> None:
    tasks = scripted_tasks(4, fold="test")
    environment = ScriptedEnvironment(source="real")
    settings = GameSettings(run="e", episodes=2)
    async with open_store(tmp_path / "s.sqlite", encoder=None) as store:
        first = await play_games(environment, ScriptedPolicy(), tasks[:2], settings, store)
        await store.flush()
        every = await play_games(environment, RandomPolicy(), tasks, settings, store)
    assert len(first) == 4
    assert len(every) == 8
    by_policy = {episode.task.key: episode.policy for episode in every}
    assert [by_policy[task.key] for task in tasks] == ["scripted-policy-1"] * 2 + ["random-policy-1"] * 2
    assert {episode.purpose for episode in every} == {"evaluation"}
