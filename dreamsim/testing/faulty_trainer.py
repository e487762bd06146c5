"""A trainer that fails on a schedule.

In: a trainer that works, a `FaultSchedule`. Out: one whose calls raise now and then, before anything has changed.
Always: the n-th call of a method meets the n-th fault of that method's name. A trainer's call blocks a thread, which
nothing can cancel, so that it neither hangs nor is late here.
"""

from __future__ import annotations

import errno
from pathlib import Path

from dreamsim.protocols import Trainer
from dreamsim.records.batch import Batch
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.weights import WeightsUpdate
from dreamsim.testing.faults import Fault, FaultSchedule

TRAINER_FAULTS: tuple[Fault, ...] = ("error", "bug", "disk_full", "read_only")
"""What can happen to a trainer; the last two only where it writes."""


class FaultyTrainer:
    """A trainer that fails now and then."""

    def __init__(self, trainer: Trainer, schedule: FaultSchedule) -> None:
        """`trainer`, with faults."""
        self._trainer = trainer
        self._schedule = schedule

    @property
    def name(self) -> str:
        """As the trainer's."""
        return self._trainer.name

    @property
    def version(self) -> int:
        """As the trainer's."""
        return self._trainer.version

    def step(self, batch: Batch) -> UpdateMetrics:
        """Fail, or learn."""
        self._strike("step", TRAINER_FAULTS[:2])
        return self._trainer.step(batch)

    def publish(self, directory: Path) -> WeightsUpdate:
        """Fail, or write the weights."""
        self._strike("publish", TRAINER_FAULTS)
        return self._trainer.publish(directory)

    def save(self, directory: Path) -> None:
        """Fail, or write a checkpoint."""
        self._strike("save", TRAINER_FAULTS)
        self._trainer.save(directory)

    def load(self, directory: Path) -> None:
        """Go on from a checkpoint; reading does not fail."""
        self._trainer.load(directory)

    def _strike(self, method: str, kinds: tuple[Fault, ...]) -> None:
        fault = self._schedule.due(f"trainer {method}", kinds)
        if fault == "error":
            raise RuntimeError(f"scripted: out of memory in {method}")
        if fault == "bug":
            raise ValueError(f"a scripted bug in {method}")
        if fault == "disk_full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if fault == "read_only":
            raise OSError(errno.EROFS, "Read-only file system")
