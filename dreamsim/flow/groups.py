"""Groups: finished episodes of one task, put together until they can be compared with each other.

In: finished episodes, in any order. Out: closed groups.
Always:
- the episodes `number * size` to `number * size + size - 1` of a task (by `repeat`) are its group `number`;
- a group is closed exactly once: when all its episodes are there, when its deadline has passed, or when no more come;
- nothing waits for ever: the deadline counts from the first episode of a group;
- what cannot be learned from (an error, an evaluation, steps without the engine's tokens) completes a group but is
  not part of it, and neither is what was decided with much older weights than the rest;
- a group of fewer than `minimum` episodes is closed, and told, but not `viable`.

`GroupAssembler` decides and never waits; `assemble_groups` waits and never decides.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import anyio
import numpy as np

from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode
from dreamsim.records.weights import version_number
from dreamsim.runtime.pipes import PipeReceiver, PipeSender

LeftOut = Literal["error", "evaluation", "no tokens", "late", "too old"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """What a group is."""

    size: int = 8
    """Episodes of a full group; the task source must give each task so many in a row of repeats."""
    minimum: int = 2
    """Episodes a group needs to be learned from."""
    version_span: int | None = None
    """Most versions between the oldest step and the newest of a group; None is any number."""
    deadline_s: float | None = None
    """Time from a group's first episode to its closing, seconds; None waits until all are there."""

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.size:
            raise ConfigurationError(f"minimum {self.minimum} must be from 1 to the group's size {self.size}")
        if self.deadline_s is not None and self.deadline_s <= 0:
            raise ConfigurationError("deadline_s must be positive; leave it out for no deadline")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedGroup:
    """A group to which nothing more will come."""

    task_key: str
    """The task's key."""
    number: int
    """Which of the task's groups."""
    episodes: tuple[Episode, ...]
    """What can be learned from, by `repeat`."""
    viable: bool
    """Whether these are enough."""
    complete: bool
    """Whether all episodes had come; False when the deadline or the end closed it."""


@dataclass(slots=True)
class _Open:
    deadline: float
    episodes: dict[int, Episode | None] = field(default_factory=dict)


class GroupAssembler:
    """Puts groups together. Synchronous: the caller says what time it is."""

    def __init__(self, settings: GroupSettings) -> None:
        self._settings = settings
        self._open: dict[tuple[str, int], _Open] = {}
        self._missing: dict[tuple[str, int], set[int]] = {}
        self.left_out: Counter[LeftOut] = Counter()
        """Episodes that are in no group, by reason."""
        self.closed: Counter[str] = Counter()
        """Groups by how they ended: `complete`, `partial` or `not viable`."""

    def add(self, episode: Episode, now: float) -> ClosedGroup | None:
        """Take one episode; returns its group if that is closed by it. An episode given twice counts once."""
        key = (episode.task.key, episode.repeat // self._settings.size)
        if key in self._missing:
            self._late(key, episode.repeat)
            return None
        group = self._open.get(key)
        if group is None:
            limit = self._settings.deadline_s
            group = self._open[key] = _Open(deadline=math.inf if limit is None else now + limit)
        if episode.repeat not in group.episodes:
            reason = unusable(episode)
            if reason is not None:
                self.left_out[reason] += 1
            group.episodes[episode.repeat] = episode if reason is None else None
        return self._close(key) if len(group.episodes) == self._settings.size else None

    def is_closed(self, key: tuple[str, int]) -> bool:
        """Whether group `key` (task key, number) was closed before all its episodes had come."""
        return key in self._missing

    @property
    def next_deadline(self) -> float:
        """When `expire` has something to do next; infinity when it has not."""
        return min((group.deadline for group in self._open.values()), default=math.inf)

    def expire(self, now: float) -> tuple[ClosedGroup, ...]:
        """Close every group whose deadline has passed."""
        return tuple(self._close(key) for key, group in tuple(self._open.items()) if group.deadline <= now)

    def close_all(self) -> tuple[ClosedGroup, ...]:
        """Close every group: no more episodes come."""
        return tuple(self._close(key) for key in tuple(self._open))

    def _late(self, key: tuple[str, int], repeat: int) -> None:
        missing = self._missing[key]
        if repeat in missing:
            missing.remove(repeat)
            self.left_out["late"] += 1
        if not missing:  # the last has come: the group can be forgotten
            del self._missing[key]

    def _close(self, key: tuple[str, int]) -> ClosedGroup:
        group = self._open.pop(key)
        task_key, number = key
        first = number * self._settings.size
        missing = set(range(first, first + self._settings.size)) - set(group.episodes)
        if missing:
            self._missing[key] = missing
        usable = [episode for _, episode in sorted(group.episodes.items()) if episode is not None]
        kept = self._near(usable)
        self.left_out["too old"] += len(usable) - len(kept)
        viable = len(kept) >= self._settings.minimum
        self.closed["not viable" if not viable else "partial" if missing else "complete"] += 1
        return ClosedGroup(task_key=task_key, number=number, episodes=tuple(kept), viable=viable, complete=not missing)

    def _near(self, episodes: list[Episode]) -> list[Episode]:
        """Those decided within `version_span` of the newest step."""
        span = self._settings.version_span
        if span is None or not episodes:
            return episodes
        newest = max(max(versions(episode)) for episode in episodes)
        return [episode for episode in episodes if min(versions(episode)) >= newest - span]


def versions(episode: Episode) -> tuple[int, ...]:
    """The policy version of every step that a language model decided."""
    completions = (step.decision.completion for step in episode.transitions if step.decision is not None)
    return tuple(version_number(completion.version) for completion in completions if completion is not None)


def unusable(episode: Episode) -> LeftOut | None:
    """Why a trainer cannot learn from `episode`; None when it can."""
    if episode.purpose == "evaluation":
        return "evaluation"
    if episode.outcome == "error" or not episode.transitions:
        return "error"
    for step in episode.transitions:
        completion = None if step.decision is None else step.decision.completion
        if completion is None or step.decision is None or not len(step.decision.prompt_token_ids):
            return "no tokens"
        if not len(completion.token_ids) or not np.isfinite(completion.logprobs).all():
            return "no tokens"
    return None


async def assemble_groups(
    episodes: PipeReceiver[Episode],
    groups: PipeSender[ClosedGroup],
    assembler: GroupAssembler,
    *,
    now: Callable[[], float] = anyio.current_time,
) -> None:
    """Receive episodes until no more come and send every group as it closes; then close `groups`.

    Args:
        episodes: finished episodes.
        groups: takes closed groups, viable or not: the curriculum wants to know of both.
        assembler: decides.
        now: the time that deadlines are counted in; must pass as anyio's does.
    """
    with episodes, groups:
        more = True
        while more:
            arrived: Episode | None = None
            wait = assembler.next_deadline - now()
            with anyio.move_on_after(None if wait == math.inf else max(wait, 0)):
                try:
                    arrived = await episodes.receive()
                except anyio.EndOfStream:
                    more = False
            closed = None if arrived is None else assembler.add(arrived, now())
            if closed is not None:
                await groups.send(closed)
            for group in assembler.expire(now()) if more else assembler.close_all():
                await groups.send(group)
