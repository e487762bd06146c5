"""The trainer's station: batches in, new weights out.

In: a pipe of batches. Out: a pipe of weights, a report of every step.
Always:
- the trainer's calls block and so run in a thread, one at a time; the event loop stays free;
- a step that has begun is finished, also when the station is cancelled: weights are never left half changed;
- where a step is due for both, its checkpoint is written before its weights are announced: with `save_every=1` a
  resumed trainer knows every version that an engine ever had; with more, it makes the last few anew;
- when no more batches come, the last weights are saved and published, and both pipes are closed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Trainer
from dreamsim.records.batch import Batch
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.weights import WeightsUpdate
from dreamsim.runtime.memory import return_free_memory
from dreamsim.runtime.pipes import PipeReceiver, PipeSender


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningSettings:
    """When weights and checkpoints are written."""

    weights: Path
    """Directory for published weights: one folder `v<version>` each."""
    checkpoint: Path
    """Directory of the trainer's state."""
    publish_every: int = 1
    """Steps from one publication to the next."""
    save_every: int = 1
    """Steps from one checkpoint to the next; one costs three times the trained weights in float32 on disk."""
    keep: int = 3
    """Published versions kept on disk; an engine must load one before so many newer ones are there."""

    def __post_init__(self) -> None:
        if min(self.publish_every, self.save_every, self.keep) < 1:
            raise ConfigurationError("publish_every, save_every and keep must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """One step of the station."""

    metrics: UpdateMetrics
    """What the trainer did."""
    update: WeightsUpdate | None
    """The weights that were published after it, if any."""
    waited_s: float
    """Time the trainer waited for the batch, seconds."""
    worked_s: float
    """Time it learned, saved and published, seconds."""


async def learn(
    trainer: Trainer,
    batches: PipeReceiver[Batch],
    updates: PipeSender[WeightsUpdate],
    settings: LearningSettings,
    *,
    report: Callable[[Learned], None],
    now: Callable[[], float] = anyio.current_time,
) -> None:
    """Learn from every batch until no more come.

    Args:
        trainer: learns.
        batches: ends the station when its senders are closed.
        updates: takes published weights; a full pipe holds the trainer up, which bounds how far engines fall behind.
        settings: when to write.
        report: is told of every step, on the event loop.
        now: monotonic time, seconds.
    """
    published = trainer.version
    with batches, updates:
        while True:
            begun = now()
            batch = await anext(batches, None)
            if batch is None:
                break
            came = now()
            metrics = await anyio.to_thread.run_sync(learned_from, trainer, batch)
            due = trainer.version - published >= settings.publish_every
            if trainer.version % settings.save_every == 0:
                await anyio.to_thread.run_sync(trainer.save, settings.checkpoint)
            update = await _publish(trainer, settings) if due else None
            report(Learned(metrics=metrics, update=update, waited_s=came - begun, worked_s=now() - came))
            if update is not None:
                published = update.version
                await updates.send(update)
        if trainer.version % settings.save_every:
            await anyio.to_thread.run_sync(trainer.save, settings.checkpoint)
        if trainer.version > published:
            await updates.send(await _publish(trainer, settings))


async def _publish(trainer: Trainer, settings: LearningSettings) -> WeightsUpdate:
    return await anyio.to_thread.run_sync(_publish_and_prune, trainer, settings)


def _publish_and_prune(trainer: Trainer, settings: LearningSettings) -> WeightsUpdate:
    update = trainer.publish(settings.weights / f"v{trainer.version}")
    kept = sorted((int(path.name[1:]), path) for path in settings.weights.glob("v*") if path.name[1:].isdigit())
    for _, path in kept[: -settings.keep]:
        shutil.rmtree(path, ignore_errors=True)
    return update


def learned_from(trainer: Trainer, batch: Batch) -> UpdateMetrics:
    """One step of the trainer; what it needed only for that is given back. Blocks: for a thread."""
    metrics = trainer.step(batch)
    return_free_memory()
    return metrics
