"""The files of a training: its state, its metrics, the trainer's checkpoint, the weights that are kept.

In: the state as JSON, a trainer. Out: files in one directory; after a kill, the state that was complete last.
Always:
- state and trainer's checkpoint belong together: the state names its checkpoint, and is replaced in one rename after
  the checkpoint is complete; what it does not name is removed only then;
- metrics hold one line for every update that the state knows, and none for others once the training goes on.

    state.json          what is planned, counted and chosen so far; names the checkpoint
    checkpoints/v<n>/   the trainer: weights, optimizer, counters, random state
    weights/v<n>/       what engines load; the last few
    best/               weights with the best evaluation so far
    last/               weights when all updates were made
    metrics.jsonl       one line for every update (docs/training.md)
    alarms.jsonl        one line for every alarm that began to ring
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Trainer
from dreamsim.records.strict_json import parse_json
from dreamsim.records.training import Line

FORMAT = 1
"""Of `state.json`."""
_CHECKPOINT: Final = re.compile(r"v\d+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFiles:
    """Where a training keeps everything but its episodes. Every method blocks."""

    directory: Path
    """The training's directory."""

    @property
    def state(self) -> Path:
        """The state."""
        return self.directory / "state.json"

    @property
    def metrics(self) -> Path:
        """One line for every update."""
        return self.directory / "metrics.jsonl"

    @property
    def alarms(self) -> Path:
        """One line for every alarm that began to ring."""
        return self.directory / "alarms.jsonl"

    @property
    def best(self) -> Path:
        """Weights with the best evaluation."""
        return self.directory / "best"

    @property
    def last(self) -> Path:
        """Weights when all updates were made."""
        return self.directory / "last"

    def weights(self, version: int) -> Path:
        """Published weights."""
        return self.directory / "weights" / f"v{version}"

    def save(self, state: Mapping[str, Any], trainer: Trainer) -> None:
        """Write the trainer's checkpoint and the state, together or not at all."""
        name = f"v{trainer.version}"
        checkpoints = self.directory / "checkpoints"
        trainer.save(checkpoints / name)
        replace_file(self.state, json.dumps({"format": FORMAT, "checkpoint": name, **state}) + "\n")
        _keep_only(checkpoints, {name})

    def load(self, trainer: Trainer) -> Mapping[str, Any] | None:
        """The state that was written last, with the trainer brought back to it; None if there is none.

        Raises:
            ConfigurationError: it was written by another version of this package, or the trainer refuses it.
        """
        if not self.state.is_file():
            return None
        try:
            state: dict[str, Any] = parse_json(self.state.read_bytes())
            written, checkpoint = state["format"], state["checkpoint"]
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigurationError(f"{self.state} is no state of a training: {error}") from error
        if written != FORMAT:
            raise ConfigurationError(f"{self.state} has format {written!r:.40}, and this version reads {FORMAT}")
        if not isinstance(checkpoint, str) or not _CHECKPOINT.fullmatch(checkpoint):  # it becomes a path
            raise ConfigurationError(f"{self.state} names no checkpoint: {checkpoint!r:.40}")
        trainer.load(self.directory / "checkpoints" / checkpoint)
        return state

    def forget_weights(self, *, keep: set[int]) -> None:
        """Remove published weights but those of these versions."""
        _keep_only(self.directory / "weights", {f"v{version}" for version in keep})

    def add_line(self, line: Line) -> None:
        """Write one line of metrics."""
        _append(self.metrics, line)

    def add_alarm(self, told: Mapping[str, Any]) -> None:
        """Write one line of alarms, with the `update` that it began to ring after."""
        _append(self.alarms, told)

    def lines(self, *, up_to: int) -> list[Line]:
        """The metrics of updates up to `up_to`; later ones, which a kill has left without their state, are removed."""
        _cut(self.alarms, up_to=up_to)
        return list(_cut(self.metrics, up_to=up_to))


def _append(path: Path, told: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


def _cut(path: Path, *, up_to: int) -> Sequence[Line]:
    """Lines of updates up to `up_to`; the others are removed."""
    if not path.is_file():
        return []
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # cut off by a kill: nothing whole comes after it
            break
        if line["update"] <= up_to:
            kept.append(line)
    replace_file(path, "".join(json.dumps(line) + "\n" for line in kept))
    return kept


def replace_file(path: Path, text: str) -> None:
    """Write a file at once or not at all."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with work.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    work.replace(path)


def _keep_only(directory: Path, names: set[str]) -> None:
    if directory.is_dir():
        for path in directory.iterdir():
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)
