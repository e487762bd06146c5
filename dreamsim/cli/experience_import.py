"""Real experiences into a run's store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from dreamsim.cli.tasks import read_lines
from dreamsim.records.codec import episode_from_json
from dreamsim.records.episode import Episode
from dreamsim.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was imported."""

    episodes: int
    steps: int


def _read(path: Path) -> list[Episode]:
    return [episode_from_json(json.loads(line)) for _, line in read_lines(path)]


async def import_experiences(store: Store, path: Path) -> Imported:
    """Import."""
    episodes = await to_thread.run_sync(_read, path)
    for episode in episodes:
        await store.add(episode)
    await store.flush()
    return Imported(episodes=len(episodes), steps=sum(len(e.transitions) for e in episodes))
