"""How much memory a process holds, and giving it back."""

from __future__ import annotations

import gc
import platform
import threading

import pytest

from dreamsim.runtime.memory import COLLECT_EVERY, rare_collections, resident_mib, return_free_memory

BLOCKS, BYTES = 4_000, 20_000
"""80 MB in pieces too small to be mapped on their own, so that freeing them leaves them with the process."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what a thread has freed")
def test_what_a_thread_freed_goes_back_to_the_system() -> None:
    kept: list[bytearray] = []

    def fill() -> None:
        held = [bytearray(b"x" * BYTES) for _ in range(BLOCKS)]
        kept.append(held.pop())  # at the end of the heap, so that nothing goes back by itself

    before = resident_mib()
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
    held = resident_mib() - before
    assert return_free_memory()
    left = resident_mib() - before
    assert held > 40
    assert left < held / 2


def test_collections_are_rare_inside_and_as_before_afterwards() -> None:
    before = gc.get_threshold()
    with rare_collections():
        assert gc.get_threshold() == COLLECT_EVERY
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
