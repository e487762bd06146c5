"""Directories that are complete or not there.

In: a path. Out: a directory under that name. Always: what it holds is on disk before it gets that name; a reader sees
the whole of what was written last, or, after a kill between two renames, the whole of what was there before (`complete`
finds it).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamsim.runtime.whole_files import sync, sync_tree


@contextmanager
def placed(directory: Path) -> Iterator[Path]:
    """A new directory to write into; it replaces `directory` when the context is left without an error."""
    work = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    sync_tree(work)
    before = _before(directory)
    if directory.exists():
        shutil.rmtree(before, ignore_errors=True)
        directory.rename(before)
    work.rename(directory)
    sync(directory.parent)
    shutil.rmtree(before, ignore_errors=True)


def complete(directory: Path) -> Path:
    """`directory`, or what it held before if a kill came while it was replaced."""
    before = _before(directory)
    return before if not directory.exists() and before.exists() else directory


def _before(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.before")
