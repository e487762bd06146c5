"""Contract check for trainers.

In: a way to make a trainer, and batches for it. Out: nothing, or an AssertionError that says which clause is broken.
Always: what the check writes is under the directory it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dreamsim.protocols import Trainer
from dreamsim.records.batch import Batch


def check_trainer(make: Callable[[], Trainer], batches: Sequence[Batch], directory: Path) -> None:
    """Check a `Trainer`: versions count up, publishing changes nothing, and an interruption changes nothing.

    Args:
        make: a new trainer with the same model, settings and seed every time.
        batches: two at least.
        directory: empty, for checkpoints.
    """
    assert len(batches) > 1, "give two batches at least: one before the interruption and one after it"
    whole = make()
    assert whole.name, "a trainer has a name, for provenance"
    assert whole.version == 0, "a new trainer has version 0"
    seen = []
    for index, batch in enumerate(batches):
        metrics = whole.step(batch)
        assert metrics.version == whole.version == index + 1, "every step makes the next version"
        assert metrics.batch == batch.number, "metrics name their batch"
        seen.append(replace(metrics, seconds=0.0))

    first = make()
    first.step(batches[0])
    update = first.publish(directory / "weights")
    assert update.version == 1, "what is published carries its version"
    assert any(update.path.iterdir()), "published weights are there when publish returns"
    first.save(directory / "state")
    again = make()
    again.load(directory / "state")
    assert again.version == 1, "the version is restored"
    for expected, batch in zip(seen[1:], batches[1:], strict=True):
        found = replace(again.step(batch), seconds=0.0)
        assert found == expected, f"interrupted and resumed gave {found}, not interrupted {expected}"
