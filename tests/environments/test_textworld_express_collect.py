from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode
from dreamsim.testing import MemorySink
from dreamsim_adapters.environments.collecting import CollectReport
from dreamsim_adapters.environments.textworld_express.collect import CollectSettings, collect
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.games import GameSpec
from dreamsim_adapters.environments.textworld_express.pool import WorkerPool

SETTINGS = CollectSettings(tasks=6, seed=5)
REPEATABLE = (GameSpec(game="twc"), GameSpec(game="cookingworld"))
"""Games whose gold paths are the same every time."""


def _told(episode: Episode) -> list[tuple[str, tuple[str, ...]]]:
    return [(transition.action, transition.state.lines) for transition in episode.transitions]


async def test_every_task_is_played_once_by_every_policy(textworld: TextWorldExpressEnvironment) -> None:
    sink = MemorySink()
    report = await collect(SETTINGS, sink, environment=textworld)
    episodes = sink.episodes.values()
    assert {(episode.task.key, episode.repeat) for episode in episodes} == {
        (episode.task.key, repeat) for episode in episodes for repeat in range(5)
    }
    assert len(sink.episodes) == report.total == 30
    assert set(sink.added.values()) == {1}
    assert {episode.policy for episode in episodes} == {"gold-1", "random-1", "mixed-1", "mistaken-1", "restless-1"}


async def test_a_game_that_is_listed_twice_is_played_twice(textworld: TextWorldExpressEnvironment) -> None:
    sink = MemorySink()
    twice = replace(
        SETTINGS, mix=(GameSpec(game="twc"), GameSpec(game="coin"), GameSpec(game="twc")), policies=("gold",)
    )
    await collect(twice, sink, environment=textworld)
    games = [episode.task.environment.rpartition("/")[2] for episode in sink.episodes.values()]
    assert (games.count("twc"), games.count("coin")) == (4, 2)
    assert set(sink.added.values()) == {1}


async def test_episodes_are_real_experience_with_reasoning(textworld: TextWorldExpressEnvironment) -> None:
    sink = MemorySink()
    report = await collect(SETTINGS, sink, environment=textworld)
    for episode in sink.episodes.values():
        assert (episode.source, episode.purpose, episode.error_kind) == ("real", "experience", None)
        assert all(transition.reasoning for transition in episode.transitions)
    assert report.steps == sum(len(episode.transitions) for episode in sink.episodes.values())
    assert report.steps_per_second > 0


async def test_what_is_there_already_is_not_played_again(textworld: TextWorldExpressEnvironment) -> None:
    whole, part, rest = MemorySink(), MemorySink(), MemorySink()
    settings = replace(SETTINGS, mix=REPEATABLE)
    await collect(settings, whole, environment=textworld)
    await collect(replace(settings, tasks=3), part, environment=textworld)
    report = await collect(settings, rest, environment=textworld, finished=part.episodes)
    assert report.skipped == len(part.episodes) == 15
    both = part.episodes | rest.episodes
    assert {id: _told(episode) for id, episode in both.items()} == {
        id: _told(episode) for id, episode in whole.episodes.items()
    }


async def test_a_lost_worker_costs_no_episode() -> None:
    sink, killed = MemorySink(), list[int]()
    async with WorkerPool(workers=1) as pool:
        environment = TextWorldExpressEnvironment(pool=pool)

        def kill_once(report: CollectReport) -> None:
            if not killed:
                killed.append(pool.pids[0])
                os.kill(pool.pids[0], signal.SIGKILL)

        report = await collect(SETTINGS, sink, environment=environment, progress=kill_once)
    assert killed
    assert report.workers_lost == 1
    assert len(sink.episodes) == 30
    assert not report.errors


async def test_success_is_told_by_policy_and_environment(textworld: TextWorldExpressEnvironment) -> None:
    report = await collect(replace(SETTINGS, policies=("gold",)), MemorySink(), environment=textworld)
    assert report.success("gold", "textworld_express/twc") == 1.0
    assert report.success("random") is None


@pytest.mark.parametrize("wrong", [{"policies": ("gold", "silver")}, {"policies": ()}, {"tasks": 0}, {"repeats": 0}])
def test_settings_that_collect_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        replace(SETTINGS, **wrong)  # type: ignore[arg-type]  # which is what is tested
