"""A sink that keeps episodes in memory.

In: finished episodes. Out: the same, by id and in the order they came.
Always: adding an episode again keeps one, and counts how often it came.
"""

from __future__ import annotations

from collections import Counter

import anyio

from dreamsim.records.episode import Episode


class MemorySink:
    """Keeps what it gets."""

    def __init__(self, *, latency_s: float = 0.0) -> None:
        """Each `add` takes `latency_s` seconds."""
        self._latency_s = latency_s
        self.episodes: dict[str, Episode] = {}
        """Episodes by id, in the order they came."""
        self.added: Counter[str] = Counter()
        """How often each id was added."""

    async def add(self, episode: Episode) -> None:
        """Keep `episode`."""
        if self._latency_s:
            await anyio.sleep(self._latency_s)
        self.episodes[episode.id] = episode
        self.added[episode.id] += 1
