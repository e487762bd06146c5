"""The terminal belongs to the display: whatever libraries and child processes print goes to a file.

In: a log file. Out: text files that still reach the terminal. Always: undone on leaving, whatever happened.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where the program itself may still write."""

    out: TextIO
    """The real standard output."""
    err: TextIO
    """The real standard error."""


@contextmanager
def captured(log: Path) -> Iterator[Terminal]:
    """Point file descriptors 1 and 2 at `log`; child processes inherit that."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    files = [
        os.fdopen(os.dup(saved[number]), "w", encoding=stream.encoding or "utf-8", errors="replace", buffering=1)
        for number, stream in ((1, sys.stdout), (2, sys.stderr))
    ]
    try:
        for number in saved:
            os.dup2(sink, number)
        yield Terminal(out=files[0], err=files[1])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, original in saved.items():
            os.dup2(original, number)
            os.close(original)
        os.close(sink)
        for file in files:
            with suppress(OSError):  # what was not written cannot be: nobody reads any more
                file.close()
