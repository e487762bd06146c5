"""What a store says of itself.

In: nothing. Out: `StoreStatistics`. Always: times and counts are since the store was opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dreamsim.records.quality import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
    """A store at one moment; times and counts are since it was opened."""

    queue_depth: int
    """Episodes waiting for the writer."""
    queue_capacity: int
    """Most that can wait before `add` does."""
    blocked_s: float
    """Time callers of `add` have waited for room, summed."""
    lag_s: float
    """Age of the oldest episode that is not committed."""
    episodes: int
    """Episodes written; those that were there before are not counted."""
    steps: int
    """Steps written."""
    commits: int
    """Transactions."""
    commit_s: float
    """Time in transactions, the wait for the disk included."""
    last_commit_s: float
    """The latest of them."""
    indexed: int
    """Distinct (state, action) texts that can be retrieved."""
    queries: int
    """Queries answered."""
    query_batches: int
    """Batches they were answered in."""
    search_s: float
    """Time in those."""
    filtered: Mapping[Reason, int]
    """Episodes that the quality filter keeps out of retrieval, by reason; evaluation is not counted."""
    index_rebuilt: str | None
    """Why the saved index could not be used; None if it could."""
