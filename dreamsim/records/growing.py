"""Token ids that only grow: one array instead of a list of pieces and a new array for every prompt.

In: pieces, one after the other. Out: what there is so far, as a view.
Always: what was handed out never changes: later pieces are written behind it, or into a larger array; views cannot be
written to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class GrowingIds:
    """Token ids, shape [n], and where the pieces end that they were made of."""

    __slots__ = ("_growth", "_ids", "_length")

    def __init__(self, pieces: Sequence[NDArray[np.int32]], *, growth: float = 1.25) -> None:
        """Begin with `pieces`. An array that is full is followed by one `growth` times as large as is needed; where
        views are kept, so are the arrays behind them, and all of them together hold growth**2 / (growth - 1) times the
        ids that there are, at most."""
        self._growth = growth
        self._ids: NDArray[np.int32] = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int32)
        self._length = len(self._ids)

    def __len__(self) -> int:
        """Ids so far."""
        return self._length

    def append(self, *pieces: NDArray[np.int32]) -> None:
        """Write `pieces` behind what there is."""
        begin = self._length
        self._length = end = begin + sum(map(len, pieces))
        if end > len(self._ids):
            larger = np.empty(int(self._growth * end), dtype=np.int32)
            larger[:begin] = self._ids[:begin]
            self._ids = larger
        ids = self._ids
        for piece in pieces:
            end = begin + len(piece)
            ids[begin:end] = piece
            begin = end

    def view(self, begin: int = 0, end: int | None = None) -> NDArray[np.int32]:
        """Ids from `begin` to `end`, to the last one if left out; not to be written to."""
        ids = self._ids[begin : self._length if end is None else end]
        ids.flags.writeable = False
        return ids
