"""Where episodes are kept and found again.

In: finished episodes. Out: the same, by id. Always: what `add_durable` took is there after a kill; what the end of a
run cut off is not kept by the sinks here, so that whoever goes on with the run plays it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dreamsim.errors import EngineError, EpisodeCancelledError
from dreamsim.protocols import EpisodeSink
from dreamsim.records.episode import Episode
from dreamsim.runtime.boundary import CUT_OFF


class EpisodeArchive(EpisodeSink, Protocol):
    """A sink that can be asked for what it took: what a training goes on from after a kill."""

    async def add_durable(self, episode: Episode) -> None:
        """Store `episode`; returns when it is on disk. Idempotent by `episode.id`."""
        ...

    async def known_ids(self, episode_ids: Sequence[str]) -> frozenset[str]:
        """Those of `episode_ids` that are on disk."""
        ...

    async def episode(self, episode_id: str) -> Episode | None:
        """The episode with this id, as it was stored."""
        ...


def was_cut_off(episode: Episode) -> bool:
    """Whether `episode` ended because its run did: halted, cancelled, or left by its engine. It is still owed."""
    return (episode.error_message or "").startswith(CUT_OFF)


class OwedSink:
    """A sink that leaves out what the end of the run cut off."""

    def __init__(self, sink: EpisodeSink) -> None:
        """Everything else goes to `sink`."""
        self._sink = sink

    async def add(self, episode: Episode) -> None:
        """Store `episode`, unless it is still owed."""
        if not was_cut_off(episode):
            await self._sink.add(episode)


class DurableSink:
    """Has every episode on disk before it is delivered; without those that the end of the training cut off."""

    def __init__(self, archive: EpisodeArchive, stopping: Callable[[], bool]) -> None:
        """`stopping` tells whether the training is being ended."""
        self._archive = archive
        self._stopping = stopping

    async def add(self, episode: Episode) -> None:
        """Store `episode`; returns when it is on disk."""
        stopped = self._stopping() and episode.error_kind in (EpisodeCancelledError.kind, EngineError.kind)
        if not stopped and not was_cut_off(episode):
            await self._archive.add_durable(episode)
