"""Where metrics go beside `metrics.jsonl`: TensorBoard, Weights & Biases, trackio.

In: names, lines of metrics. Out: what those programs show. Always: none is imported unless asked for; a resumed
training goes on in the same curves; what a tracker cannot do never ends a training.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from dreamsim.records.training import Line

PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "tensorboard": ("torch", "tensorboard"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}
"""What each of them needs."""
PROJECT: Final = "dreamsim"

log = structlog.get_logger()


class Tracker(Protocol):
    """Takes lines of metrics."""

    def write(self, line: Line) -> None:
        """Show one line. Blocks."""
        ...


def missing(names: Sequence[str]) -> dict[str, str]:
    """Trackers that cannot be used -> the package they lack."""
    return {name: package for name in names for package in PACKAGES[name] if importlib.util.find_spec(package) is None}


@contextmanager
def open_trackers(names: Sequence[str], directory: Path, settings: Mapping[str, Any]) -> Iterator[Tracker]:
    """All of `names`, as one. Blocks: imports them.

    Args:
        names: keys of `PACKAGES`.
        directory: of the training; its name is the run's.
        settings: shown beside the curves, where that can be done.
    """
    opening = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
    with ExitStack() as opened:
        yield _Several([opened.enter_context(opening[name](directory, settings)) for name in names])


def tag(key: str) -> str:
    """The name of a number's curve: a group and the key."""
    for group in ("evaluation", "total", "best", "groups"):
        if key.startswith(group + "_"):
            return f"{group}/{key.removeprefix(group + '_')}"
    return f"seconds/{key.removesuffix('_s')}" if key.endswith("_s") else f"update/{key}"


class _Several:
    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def write(self, line: Line) -> None:
        for tracker in self._trackers:
            try:
                tracker.write(line)
            except Exception as error:  # noqa: BLE001 - a curve is not worth a training
                log.warning("tracker.failed", tracker=type(tracker).__name__, error=str(error))


def _numbers(line: Line) -> dict[str, float]:
    return {tag(key): float(value) for key, value in line.items() if value is not None and key != "update"}


class _TensorBoard:
    """Begins at its first line: what a killed training had drawn beyond that is taken back."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make = make
        self._writer: Any = None

    def write(self, line: Line) -> None:
        update = int(line["update"] or 0)
        if self._writer is None:
            self._writer = self._make(update)
        for name, value in _numbers(line).items():
            self._writer.add_scalar(name, value, update)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def _tensorboard(directory: Path, settings: Mapping[str, Any]) -> Iterator[Tracker]:
    from torch.utils.tensorboard import SummaryWriter

    made = _TensorBoard(lambda update: SummaryWriter(str(directory / "tensorboard"), purge_step=update))
    try:
        yield made
    finally:
        made.close()


class _Run:
    """W&B and trackio, which log alike."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def write(self, line: Line) -> None:
        self._library.log(_numbers(line), step=int(line["update"] or 0))


@contextmanager
def _wandb(directory: Path, settings: Mapping[str, Any]) -> Iterator[Tracker]:
    import wandb  # type: ignore[import-not-found, unused-ignore]  # optional: not in every environment

    # Its ids are of a whole project: two directories of one name are two runs.
    id = f"{directory.name}-{hashlib.blake2b(str(directory).encode(), digest_size=4).hexdigest()}"
    run: Any = wandb.init(
        project=PROJECT, name=directory.name, id=id, resume="allow", dir=str(directory), config=dict(settings)
    )
    try:
        yield _Run(run)
    finally:
        run.finish()


@contextmanager
def _trackio(directory: Path, settings: Mapping[str, Any]) -> Iterator[Tracker]:
    import trackio  # type: ignore[import-not-found, unused-ignore]  # optional: not in every environment

    trackio.init(project=PROJECT, name=directory.name, config=dict(settings), resume="allow")
    try:
        yield _Run(trackio)
    finally:
        trackio.finish()
