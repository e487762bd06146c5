"""How much memory this process holds, and how often it looks for more to free.

In: the kernel's own count. Out: MiB; what is free goes back to the system. Always: never waits on a disk: /proc is
answered by the kernel.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MIB = 1024 * 1024
COLLECT_EVERY = (10_000, 20, 20)
"""Thresholds of Python's collector while thousands of episodes are alive. By its own (700, 10, 10) the steps' records,
which live as long as their episodes, are walked through some ten times: 13 % of the processor time of a step, and whole
walks that hold the event loop for half a second where 16,384 episodes are alive. Episodes leave no cycles to be found;
a few hundred objects of 2,048 did."""


def resident_mib() -> float:
    """Resident memory of this process now, MiB; where the system does not tell, its largest so far."""
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / _MIB if sys.platform == "darwin" else peak / 1024
    try:
        pages = int(os.pread(file, 256, 0).split()[1])
    finally:
        os.close(file)
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


@contextmanager
def rare_collections() -> Iterator[None]:
    """Inside, Python's collector leaves alone what is there now and looks for cycles rarely (`COLLECT_EVERY`).

    For a process of one's own: the collector is the whole process'. Begins with one collection, which blocks for
    some hundred milliseconds.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def return_free_memory() -> bool:
    """Give what this process has freed back to the system; returns whether that could be asked for.

    glibc keeps what a thread has freed for that thread, and a trainer's steps run in one thread after another: eight
    steps of a model of 13 MB left 3.1 GB with the process, and this gave back all but 0.7. Blocks for milliseconds.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not glibc
        return False
    trim(0)
    return True
