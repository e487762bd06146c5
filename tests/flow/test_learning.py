"""The trainer's station, with a trainer that only counts."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from dreamsim.errors import ConfigurationError
from dreamsim.flow.batches import trajectory
from dreamsim.flow.learning import Learned, LearningSettings, learn
from dreamsim.records.batch import Batch
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.sample import TrajectoryGroup
from dreamsim.records.weights import WeightsUpdate, version_number
from dreamsim.runtime.pipes import Pipe
from dreamsim.testing.decisions import decided_episode
from dreamsim.testing.trainer_contracts import check_trainer

ABSENT = dict.fromkeys(("kl_reference", "value_loss", "explained_variance"))
ZEROS: dict[str, Any] = {**dict.fromkeys(UpdateMetrics.__dataclass_fields__, 0), **ABSENT}
METRICS = UpdateMetrics(**ZEROS)


class CountingTrainer:
    """Learns nothing and remembers everything."""

    name = "counting"

    def __init__(self) -> None:
        self.version = 0
        self.calls: list[str] = []

    def step(self, batch: Batch) -> UpdateMetrics:
        self.version += 1
        self.calls.append(f"step {batch.number}")
        return replace(METRICS, batch=batch.number, version=self.version)

    def publish(self, directory: Path) -> WeightsUpdate:
        directory.mkdir(parents=True)
        (directory / "weights").write_text(str(self.version))
        self.calls.append(f"publish {self.version}")
        return WeightsUpdate(version=self.version, path=directory, kind="full")

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "version").write_text(str(self.version))
        self.calls.append(f"save {self.version}")

    def load(self, directory: Path) -> None:
        self.version = int((directory / "version").read_text())


def batch(number: int) -> Batch:
    group = TrajectoryGroup(task_key="t", trajectories=(trajectory(decided_episode(number)),))
    return Batch(number=number, groups=(group,))


async def run(trainer: CountingTrainer, count: int, settings: LearningSettings) -> tuple[list[Learned], list[int]]:
    batches: Pipe[Batch] = Pipe("batches", count, now=anyio.current_time)
    updates: Pipe[WeightsUpdate] = Pipe("updates", count + 1, now=anyio.current_time)
    for number in range(count):
        batches.sender.send_nowait(batch(number))
    batches.sender.close()
    seen: list[Learned] = []
    with updates.receiver:
        await learn(trainer, batches.receiver, updates.sender, settings, report=seen.append)
        return seen, [update.version async for update in updates.receiver]


@pytest.mark.anyio
async def test_every_batch_is_learned_from_and_the_last_weights_are_published(tmp_path: Path) -> None:
    trainer = CountingTrainer()
    settings = LearningSettings(weights=tmp_path / "w", checkpoint=tmp_path / "c", publish_every=2)
    seen, published = await run(trainer, 5, settings)
    assert [one.metrics.batch for one in seen] == list(range(5))
    assert published == [2, 4, 5]
    assert [one.update is not None for one in seen] == [False, True, False, True, False]


@pytest.mark.anyio
async def test_a_checkpoint_comes_before_the_weights_that_follow_from_it(tmp_path: Path) -> None:
    trainer = CountingTrainer()
    await run(trainer, 2, LearningSettings(weights=tmp_path / "w", checkpoint=tmp_path / "c"))
    assert trainer.calls == ["step 0", "save 1", "publish 1", "step 1", "save 2", "publish 2"]


@pytest.mark.anyio
async def test_the_last_state_is_saved_also_between_two_checkpoints(tmp_path: Path) -> None:
    trainer = CountingTrainer()
    settings = LearningSettings(weights=tmp_path / "w", checkpoint=tmp_path / "c", publish_every=3, save_every=2)
    await run(trainer, 3, settings)
    assert trainer.calls == ["step 0", "step 1", "save 2", "step 2", "publish 3", "save 3"]


@pytest.mark.anyio
async def test_a_step_that_has_begun_is_finished_when_the_station_is_cancelled(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(CountingTrainer):
        def step(self, batch: Batch) -> UpdateMetrics:
            begun.set()
            go_on.wait(10)
            return super().step(batch)

    trainer = Slow()
    batches: Pipe[Batch] = Pipe("batches", 1, now=anyio.current_time)
    updates: Pipe[WeightsUpdate] = Pipe("updates", 1, now=anyio.current_time)
    settings = LearningSettings(weights=tmp_path / "w", checkpoint=tmp_path / "c")
    batches.sender.send_nowait(batch(0))
    with batches.sender, updates.receiver:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                partial(learn, report=lambda told: None), trainer, batches.receiver, updates.sender, settings
            )
            await anyio.to_thread.run_sync(begun.wait, 10)
            tasks.cancel_scope.cancel()
            go_on.set()
    assert trainer.calls == ["step 0"]


@pytest.mark.anyio
async def test_old_weights_are_removed(tmp_path: Path) -> None:
    settings = LearningSettings(weights=tmp_path / "w", checkpoint=tmp_path / "c", keep=2)
    await run(CountingTrainer(), 12, settings)
    names = await anyio.to_thread.run_sync(lambda: sorted(path.name for path in (tmp_path / "w").iterdir()))
    assert names == ["v11", "v12"]


def test_settings_that_write_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        LearningSettings(weights=tmp_path, checkpoint=tmp_path, keep=0)


def test_the_contract_holds_for_a_trainer_that_counts_and_not_for_one_that_forgets(tmp_path: Path) -> None:
    check_trainer(CountingTrainer, [batch(0), batch(1)], tmp_path / "good")

    class Forgetful(CountingTrainer):
        def load(self, directory: Path) -> None:
            self.version = 0

    with pytest.raises(AssertionError, match="version is restored"):
        check_trainer(Forgetful, [batch(0), batch(1)], tmp_path / "bad")


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("policy-v12", 12), ("tiny@7", 7), ("", 0), ("v1-beta", 0)])
def test_a_version_is_the_number_that_an_engine_version_ends_with(text: str, number: int) -> None:
    assert version_number(text) == number
