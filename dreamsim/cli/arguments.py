"""What the verbs' arguments have in common.

In: argparse results. Out: paths that are there. Always: a wrong argument raises a `UsageError`, so that all of them
look alike.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from dreamsim.cli.run_directory import CONFIG, ROOT, STORE, store_path
from dreamsim.errors import UsageError
from dreamsim.runtime.settings_sources import CommandLine, load_settings


class Parser(argparse.ArgumentParser):
    """argparse, with errors that are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(f"{self.prog}: {message}; see --help")


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """`--store` and `--run`, which name a store."""
    parser.add_argument("--store", metavar="FILE", help="a store's file")
    parser.add_argument(
        "--run", metavar="DIRECTORY", help="a run's directory (default without --store: the latest under runs/)"
    )


def store_of(store: str | None, run: str | None) -> Path:
    """The store that `--store` or `--run` names, or that of the latest run.

    Raises:
        UsageError: there is none.
    """
    if store is not None:
        path = Path(store).absolute()
        if not path.is_file():
            raise UsageError(f"no store at {path}")
        return path
    directory = (Path(run) if run is not None else latest_run()).absolute()
    config = directory / CONFIG
    if not config.is_file():
        path = directory / STORE
    else:
        command = CommandLine(values={}, files=(config,), switches=frozenset())
        path = store_path(load_settings(command, {}), directory)
    if not path.is_file():
        raise UsageError(f"{directory} holds no run with a store: name one with --run or --store")
    return path


def latest_run() -> Path:
    """The run under runs/ that was begun last.

    Raises:
        UsageError: there is none.
    """
    runs = [path.parent for path in ROOT.glob(f"*/{CONFIG}")]
    if not runs:
        raise UsageError(f"there are no runs under {ROOT}/ here: name one with --run or --store")
    return max(runs, key=lambda path: (path / CONFIG).stat().st_mtime)
