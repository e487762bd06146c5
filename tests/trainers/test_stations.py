"""From finished episodes to weights: all stations of the trainer's side, joined by pipes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from dreamsim.flow.batches import BatchBuilder, BatchSettings, make_batches
from dreamsim.flow.groups import ClosedGroup, GroupAssembler, GroupSettings, assemble_groups
from dreamsim.flow.learning import Learned, LearningSettings, learn
from dreamsim.records.batch import Batch
from dreamsim.records.episode import Episode
from dreamsim.records.weights import WeightsUpdate
from dreamsim.runtime.pipes import Pipe
from dreamsim.testing.decisions import decided_episode, decided_task

pytest.importorskip("torch")

from dreamsim_trainers.grpo import GrpoSettings, GrpoTrainer
from dreamsim_trainers.optimisation import OptimiserSettings
from tests.trainers.tiny import VOCABULARY, tiny

SETTINGS = GrpoSettings(optimiser=OptimiserSettings(learning_rate=1e-3, mixed_precision="no", cpu=True))


def finished(tasks: int) -> list[Episode]:
    """Two episodes of each task, one won and one lost; every third task also has one that failed with an error."""
    made = []
    for number in range(tasks):
        draw = partial(decided_episode, number, task=decided_task(number), vocabulary=VOCABULARY)
        made += [draw(repeat=0, outcome="success"), draw(repeat=1, outcome="failure")]
        made += [draw(repeat=2, outcome="error") if number % 3 == 0 else draw(repeat=2, outcome="truncated")]
    return made


@pytest.mark.anyio
async def test_finished_episodes_become_new_weights(tmp_path: Path) -> None:
    now = anyio.current_time
    episodes: Pipe[Episode] = Pipe("episodes", 1, now=now)
    groups: Pipe[ClosedGroup] = Pipe("groups", 1, now=now)
    batches: Pipe[Batch] = Pipe("batches", 1, now=now)
    updates: Pipe[WeightsUpdate] = Pipe("updates", 1, now=now)
    trainer = await anyio.to_thread.run_sync(lambda: GrpoTrainer(tiny(), SETTINGS))
    settings = LearningSettings(weights=tmp_path / "weights", checkpoint=tmp_path / "state")
    assembler = GroupAssembler(GroupSettings(size=3, minimum=2, version_span=0))
    builder = BatchBuilder(BatchSettings(groups=2))
    seen: list[Learned] = []

    async def feed() -> None:
        with episodes.sender:
            for episode in finished(5):
                await episodes.sender.send(episode)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed)
        tasks.start_soon(assemble_groups, episodes.receiver, groups.sender, assembler)
        tasks.start_soon(partial(make_batches, send_rest=True), groups.receiver, batches.sender, builder)
        tasks.start_soon(partial(learn, report=seen.append), trainer, batches.receiver, updates.sender, settings)
        with updates.receiver:
            published = [update async for update in updates.receiver]
    assert [update.version for update in published] == [1, 2, 3]
    assert [one.metrics.episodes for one in seen] == [5, 5, 3]
    assert assembler.left_out["error"] == 2
    assert [path.name for path in sorted((tmp_path / "weights").iterdir())] == ["v1", "v2", "v3"]

    resumed = await anyio.to_thread.run_sync(lambda: GrpoTrainer(tiny(), SETTINGS))
    await anyio.to_thread.run_sync(resumed.load, tmp_path / "state")
    assert resumed.version == 3
    again = [replace(one, seconds=0.0) for one in [one.step(_batch()) for one in (trainer, resumed)]]
    assert again[0] == again[1]


def _batch() -> Batch:
    builder = BatchBuilder(BatchSettings(groups=1))
    assembler = GroupAssembler(GroupSettings(size=3))
    closed = [assembler.add(episode, 0.0) for episode in finished(2)[3:]]
    assert closed[-1] is not None
    batch = builder.add(closed[-1])
    assert batch is not None
    return batch
