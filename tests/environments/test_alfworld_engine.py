"""ALFWorld's real engine. Skipped without the extra and the games (`ALFWORLD_DATA`, laid out in the new dialect).

Logs whose actions are played again, where they are given:
- `DREAMSIM_ALFWORLD_EXPERT`: episodes as `examples/convert_alfworld_expert.py` reads them, new dialect;
- `DREAMSIM_ALFWORLD_REACT` with `DREAMSIM_ALFWORLD_OLD_DATA`: `{"name", "result", "traj"}` a line, as KnowAgent writes
  them, and the same games laid out in the old dialect.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dreamsim.errors import ConfigurationError, EnvironmentFailure
from dreamsim.records.task import Task
from dreamsim.testing import check_environment, scripted_task
from dreamsim_adapters.environments.alfworld.environment import AlfworldEnvironment
from dreamsim_adapters.environments.alfworld.games import DATA_VARIABLE, SPLITS, game_file
from dreamsim_adapters.environments.alfworld.ledger import AlfworldLedger
from dreamsim_adapters.environments.alfworld.mapping import AlfworldMapping, transcript
from dreamsim_adapters.environments.alfworld.policies import POLICIES, offline_policy
from dreamsim_adapters.environments.alfworld.pool import WorkerPool

for package in ("alfworld", "textworld", "fast_downward"):
    pytest.importorskip(package, reason="pip install 'dreamsim-rl[alfworld]'")
if DATA_VARIABLE not in os.environ:
    pytest.skip(f"{DATA_VARIABLE} names no games", allow_module_level=True)

DATA = Path(os.environ[DATA_VARIABLE])
REPLAYED = int(os.environ.get("DREAMSIM_ALFWORLD_REPLAYS", "2"))
"""Episodes of each log."""


@pytest.fixture(scope="module")
async def alfworld(anyio_backend: str) -> AsyncIterator[AlfworldEnvironment]:
    async with WorkerPool(workers=1) as pool:
        yield AlfworldEnvironment(data=DATA, pool=pool)


@pytest.fixture(scope="module")
async def task(alfworld: AlfworldEnvironment) -> Task:
    fold = next(fold for fold, split in SPLITS.items() if (DATA / "json_2.1.1" / split).is_dir())
    [task] = await alfworld.tasks(fold=fold, count=1)
    return task


def _log(variable: str) -> Iterator[dict[str, Any]]:
    if variable not in os.environ:
        pytest.skip(f"{variable} names no log")
    with lzma.open(os.environ[variable], "rt") as lines:
        yield from map(json.loads, lines)


def _old_files() -> dict[str, Path]:
    """`task/trial` -> its game file in the old dialect."""
    old = Path(os.environ.get("DREAMSIM_ALFWORLD_OLD_DATA", "no such folder"))
    return {str(file.parent.relative_to(file.parents[2])): file for file in old.glob("json_2.1.1/*/*/*/game.tw-pddl")}


async def test_it_is_an_environment(alfworld: AlfworldEnvironment, task: Task) -> None:
    path = await alfworld.solution(task)
    await check_environment(alfworld, [task], lambda _: path)


async def test_the_planner_solves_it(alfworld: AlfworldEnvironment, task: Task) -> None:
    books, outcomes = AlfworldLedger().open(task), []
    async with alfworld.session(task, episode_id="x", seed=0) as session:
        for action in await alfworld.solution(task):
            transition = await session.step(action)
            assert books.contradictions(transition) == ()
            assert books.outcome(transition) == transition.outcome
            books.see(transition)
            outcomes.append(transition.outcome)
    assert outcomes[-1] == "success"


@pytest.mark.parametrize("name", POLICIES)
async def test_every_offline_policy_plays(alfworld: AlfworldEnvironment, task: Task, name: str) -> None:
    actor = offline_policy(name, alfworld).actor(task, episode_id="x", seed=1)
    async with alfworld.session(task, episode_id="x", seed=0) as session:
        for _ in range(3):
            assert (await session.step((await actor.act(session.state, session.admissible)).action)).reward in (0, 1)


async def test_an_episode_goes_on_when_its_worker_is_killed(alfworld: AlfworldEnvironment, task: Task) -> None:
    path, lost = await alfworld.solution(task), alfworld.pool.lost
    async with alfworld.session(task, episode_id="x", seed=0) as session:
        await session.step(path[0])
        os.kill(alfworld.pool.pids[0], signal.SIGKILL)
        last = [await session.step(action) for action in path[1:]][-1]
    assert last.outcome == "success"
    assert alfworld.pool.lost == lost + 1


async def test_a_task_of_other_games_is_refused(alfworld: AlfworldEnvironment) -> None:
    with pytest.raises(EnvironmentFailure, match="names no game"):
        async with alfworld.session(scripted_task(0), episode_id="x", seed=0):
            pass
    with pytest.raises(ConfigurationError, match="are asked for"):
        await alfworld.tasks(fold="train", first=10**6, count=1)


async def test_the_experts_actions_give_the_texts_of_its_log(alfworld: AlfworldEnvironment) -> None:
    known = [log for log in _log("DREAMSIM_ALFWORLD_EXPERT") if game_file(DATA, log["id"]).is_file()]
    assert known
    for log in known[:REPLAYED]:
        async with alfworld.pool.game(game_file(DATA, log["id"])) as game:
            for step in log["steps"]:
                assert list(game.shown.admissible) == step["admissible"]
                assert (await game.step(step["action"])).feedback == step["observation"]
            assert game.shown.won == log["won"]


async def test_the_actions_of_older_logs_give_their_texts(alfworld: AlfworldEnvironment) -> None:
    files = _old_files()
    known = [log for log in _log("DREAMSIM_ALFWORLD_REACT") if log["name"] in files]
    assert known
    for log in known[:REPLAYED]:
        _, *turns = re.split(r"\n> ?", log["traj"])
        async with alfworld.pool.game(files[log["name"]]) as game:
            opening, steps = game.shown.feedback, []
            assert game.dialect == "old"
            for action, _, said in (turn.partition("\n") for turn in turns):
                if not re.match("think|actionpath", action, re.IGNORECASE) and said.strip():
                    shown = await game.step(action)
                    steps.append((action, shown.feedback))
                    assert re.sub(r"^You arrive at loc \d+\. ", "", shown.feedback).strip() == said.strip()
            assert game.shown.won == (log["result"] is True)
        told = AlfworldMapping().state(log["traj"])
        assert told.same_as(AlfworldMapping().state(transcript(opening, steps)))
