"""One writer per store, held to by the operating system.

In: a store's path. Out: a lock that dies with its process, however that dies. Always: readers need no lock; a store
reached through symbolic links has the lock of the file that they lead to.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dreamsim.errors import StoreError, StoreLockedError


def lock_path(path: Path) -> Path:
    """The lock file of the store at `path`. Blocks: follows links."""
    # Not Path.resolve, which raises RuntimeError for a link to itself.
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + ".lock")


def writing_process(path: Path) -> str | None:
    """The process that writes to the store at `path`, as its lock says; None if nobody does. Changes nothing."""
    try:
        descriptor = os.open(lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"


class WriterLock:
    """The right to write to a store; `release` gives it up."""

    __slots__ = ("_descriptor",)

    def __init__(self, path: Path) -> None:
        """Take the lock of the store at `path`.

        Raises:
            StoreLockedError: another process, or another part of this one, is writing to the store.
            StoreError: the lock file cannot be made.
        """
        try:
            descriptor = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"cannot write beside {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            advice = "stop it, choose another store, or open read-only"
            raise StoreLockedError(f"{path} is being written to by process {holder}: {advice}") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the lock up. Idempotent.

        Unlocking is explicit because a forked child may have inherited the descriptor. The file stays: to
        remove it would let two writers each lock a file of the same name.
        """
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None
