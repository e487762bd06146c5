"""Files that are there whole or not at all, also when the process or the machine dies while they are written.

In: a path and what is to stand in it. Out: the file, replaced in one rename. Always: the content is on disk before the
rename, and the rename is on disk before the call returns; an error leaves what was there before and nothing beside it;
what a kill leaves beside it is hidden, begins with `.part-`, keeps its suffix, and is replaced by the next write.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def part_of(path: Path) -> Path:
    """Where `path` is written until it is whole."""
    return path.with_name(f".part-{path.name}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the context is left without an error. Blocks.

    Raises:
        OSError: it cannot be written.
    """
    work = part_of(path)
    try:
        yield work
        sync(work)
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_whole(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` at once or not at all; makes the directory. Blocks.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as work:
        work.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Have a file's content, or a directory's names, on disk. Blocks."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(directory: Path) -> None:
    """Have everything below `directory` on disk, and its names. Blocks."""
    for place, _, files in os.walk(directory):
        for name in files:
            sync(Path(place) / name)
        sync(Path(place))
