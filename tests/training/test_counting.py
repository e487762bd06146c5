"""What is counted as done in the real environment: all of it, also what nobody learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from dreamsim.flow.alarms import Alarm
from dreamsim.flow.mixing import ShareSchedule
from dreamsim.records.episode import episode_id
from dreamsim.records.training import Line
from dreamsim.store.store import open_store
from dreamsim.training.loop import Training
from tests.training.worlds import SETTINGS, Holding, RememberingTrainer, parts, train

pytestmark = pytest.mark.anyio
REAL = replace(SETTINGS, real_share=ShareSchedule.parse(["1"]), group_deadline_s=1.0, evaluate_every=100)


async def first_episode(directory: Path) -> str:
    """The id of the first episode that a training of `REAL` plays."""
    async with open_store(directory / "store.sqlite", encoder=None) as store:
        task = await parts(store, RememberingTrainer()).tasks.choose("real")
    return episode_id(REAL.run, task.key, 0)


async def with_a_late_episode(directory: Path, *, opened_at: int, steps: int = 4) -> list[Line]:
    """Train; one episode of the first round begins only after update `opened_at`."""
    held = Holding(await first_episode(directory / "other"))

    async def report(line: Line, alarms: Sequence[Alarm]) -> None:
        if line["update"] == opened_at:
            held.opened.set()
            await anyio.wait_all_tasks_blocked()

    async with open_store(directory / "store.sqlite", encoder=None) as store:
        made = replace(parts(store, RememberingTrainer()), environments={"real": held})
        settings = replace(REAL, steps=steps)
        return await Training(made, settings, directory=directory, report=report).run()


async def stored_steps(directory: Path) -> int:
    async with open_store(directory / "store.sqlite", encoder=None, read_only=True) as store:
        return (await store.counts(REAL.run)).only(source="real").steps


async def test_a_real_episode_that_comes_after_its_group_was_learned_from_is_counted(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    history = await with_a_late_episode(tmp_path, opened_at=1)
    assert history[-1]["total_episodes"] == 4 * 2 * 3
    assert history[-1]["total_real_transitions"] == await stored_steps(tmp_path)


async def test_a_real_episode_that_came_after_the_last_update_is_counted_by_who_goes_on(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    await with_a_late_episode(tmp_path, opened_at=2, steps=2)
    history, _ = await train(tmp_path, replace(REAL, steps=3))
    assert history[-1]["total_episodes"] == 3 * 2 * 3
    assert history[-1]["total_real_transitions"] == await stored_steps(tmp_path)
