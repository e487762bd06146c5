"""Named seeds: randomness that does not depend on who drew first.

In: a root seed and the names of what is to be seeded. Out: an integer seed, or a numpy generator from it.
Always: the same root and names give the same seed in every process and in every order of asking.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(root: int, *names: str | int) -> int:
    """The seed named `names` under `root`: 63 bits, never negative.

    Names are kept apart (`"ab", "c"` and `"a", "bc"` differ), and so are 1 and "1".
    """
    digest = hashlib.blake2b(repr((root, *names)).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(root: int, *names: str | int) -> np.random.Generator:
    """A numpy generator from the named seed."""
    return np.random.Generator(np.random.PCG64(seed_of(root, *names)))
