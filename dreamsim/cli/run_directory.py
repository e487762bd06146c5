"""The directory of a run: everything about it in one place, never written over.

In: settings. Out: a `RunDirectory` with its `config.toml`, and paths of the store, the log and the summary.
Always: a directory that holds a run already is refused unless it is resumed; resuming reads the configuration it
was begun with, and refuses changes to what its episodes depend on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dreamsim.cli.help_text import render_toml, value_of
from dreamsim.errors import ConfigurationError, UsageError
from dreamsim.runtime.clock import Clock, RealClock
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import CommandLine, known_settings, load_settings
from dreamsim.runtime.whole_files import part_of, write_whole

CONFIG = "config.toml"
SUMMARY = "summary.json"
STORE = "store.sqlite"
ROOT = Path("runs")

FIXED = (
    *("run.seed", "run.max_steps", "run.purpose", "store.path", "store.encoder", "store.experiences"),
    *("tasks.", "train.", "curriculum."),
)
"""Settings that a resumed run may not change, by beginning."""
FREE = (
    *("train.steps", "train.decay", "train.threads", "train.save_every", "train.log", "train.in_flight"),
    *("train.micro_tokens", "train.gradient_checkpointing"),
)
"""Settings among them that it may: how far, and with how much memory and time, not what is learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDirectory:
    """Where a run keeps everything."""

    path: Path
    """The directory; its name is the run's name in the store."""
    store: Path
    """The store: in the directory, unless a shared one was named."""
    resumed: bool
    """Whether the run had begun before."""

    @property
    def run(self) -> str:
        """The run's name: what episode ids depend on."""
        return self.path.name

    @property
    def log(self) -> Path:
        """Structured log, one JSON object a line."""
        return self.path / "logs" / "run.jsonl"

    @property
    def summary(self) -> Path:
        """Closing figures."""
        return self.path / SUMMARY

    def write_summary(self, figures: Mapping[str, object]) -> None:
        """Write the summary at once or not at all."""
        write_whole(self.summary, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")


def settings_of(command: CommandLine, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings a command asks for; a resumed run begins from those it was begun with.

    Raises:
        ConfigurationError: a wrong value, or a change that a resumed run may not make.
    """
    settings = load_settings(command, environ)
    if settings.run.resume is None:
        return settings
    path = settings.run.resume
    config = path / CONFIG
    if not config.is_file():
        raise ConfigurationError(f"--run.resume {path}: no run to go on with: there is no {config}")
    before = load_settings(CommandLine(values={}, files=(config,), switches=frozenset()), {})
    settings = load_settings(command, environ, first=(config,))
    changed = [name for name in _fixed_names() if value_of(before, name) != value_of(settings, name)]
    if changed:
        name = changed[0]
        raise ConfigurationError(
            f"--run.resume {path}: {name} was {value_of(before, name)!r} and cannot become "
            f"{value_of(settings, name)!r}: leave it out, or begin a new run"
        )
    return settings


def _fixed_names() -> tuple[str, ...]:
    return tuple(name for name in known_settings() if name.startswith(FIXED) and name not in FREE)


def planned_path(settings: Settings, clock: Clock | None = None) -> Path:
    """The directory a run with these settings would use."""
    if settings.run.resume is not None:
        return settings.run.resume.resolve()
    if settings.run.directory is not None:
        return settings.run.directory.resolve()
    now = datetime.fromtimestamp((clock or RealClock()).unix()).astimezone()
    first = ROOT / f"{now:%Y%m%d-%H%M%S}-{settings.run.name}"
    path, number = first, 2
    while path.exists():
        path, number = Path(f"{first}-{number}"), number + 1
    return path.resolve()


def check_free(path: Path, *, resumed: bool) -> None:
    """Refuse a directory that holds something already.

    Raises:
        UsageError: it does; the message says how to go on with it.
    """
    if resumed or not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{path} is a file: name a directory with --run.directory")
    if (path / CONFIG).exists():
        raise UsageError(f"{path} holds a run already: go on with --run.resume {path}, or name another directory")
    if any(there.name != part_of(path / CONFIG).name for there in path.iterdir()):  # that is left by a kill
        raise UsageError(f"{path} is not empty: name a new directory with --run.directory")


def prepare(settings: Settings, clock: Clock | None = None) -> RunDirectory:
    """Make the run's directory and write its configuration.

    Raises:
        UsageError: the directory is taken or cannot be made.
    """
    path = planned_path(settings, clock)
    resumed = settings.run.resume is not None
    check_free(path, resumed=resumed)
    try:
        # First of all: a directory with a configuration can be resumed, whatever happens next.
        write_whole(path / CONFIG, render_toml(_without_paths(settings)))
        (path / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose --run.directory") from error
    return RunDirectory(path=path, store=store_path(settings, path), resumed=resumed)


def store_path(settings: Settings, path: Path) -> Path:
    """The store of the run in the directory `path`."""
    return settings.store.path.resolve() if settings.store.path is not None else path / STORE


def shown_path(path: Path) -> str:
    """`path` as it is shown: relative where it lies below the present directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _without_paths(settings: Settings) -> Settings:
    """What is written down: a directory may be moved, so it does not name itself."""
    return settings.model_copy(
        update={"run": settings.run.model_copy(update={"resume": None, "directory": None, "stop_after_s": None})}
    )
