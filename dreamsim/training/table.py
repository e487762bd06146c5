"""What lies between planning and learning: assignments on their way out, episodes on their way back.

In: planned groups, assignments, finished episodes. Out: closed groups with all their episodes.
Always: an episode is on disk before it lies here; a group is taken once; an episode that comes after its group was
closed is not learned from, and is told all the same: with its group, or by `late` once that was taken; one that the end
of the run cut off closes no group.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import anyio

from dreamsim.flow.archive import was_cut_off
from dreamsim.flow.groups import ClosedGroup, GroupAssembler
from dreamsim.flow.planning import PlannedGroup
from dreamsim.protocols import Assignment
from dreamsim.records.episode import Episode
from dreamsim.runtime.pipes import PipeReceiver


@dataclass(slots=True)
class PlayedGroup:
    """The episodes of one group, in any order until it is closed."""

    episodes: list[Episode] = field(default_factory=list)
    """All that came before the group was taken: failed ones too, and those that came after it was closed."""
    group: ClosedGroup | None = None
    """Those that can be learned from; None until all have come."""

    @property
    def closed(self) -> ClosedGroup:
        """`group`, of a group that is closed."""
        assert self.group is not None, "taken before it was closed"
        return self.group

    @property
    def transitions(self) -> int:
        """Steps of all its episodes."""
        return sum(len(episode.transitions) for episode in self.episodes)


class Table:
    """Groups that are being played or wait for their round, and how long nothing was being played."""

    def __init__(self, assembler: GroupAssembler, *, group_size: int, now: Callable[[], float]) -> None:
        """An empty one; `assembler` closes groups of `group_size`, `now` is monotonic time, seconds."""
        self._assembler = assembler
        self._size = group_size
        self._now = now
        self._groups: dict[tuple[str, int], PlayedGroup] = {}
        self._late: list[Episode] = []
        self._playing = 0
        self._idle_since: float | None = now()
        self._idle_s = 0.0
        self._changed = anyio.Event()

    def planned(self, groups: int) -> None:
        """So many groups more are going to be played."""
        self._tick()
        self._playing += groups
        self._idle_since = None

    def arrived(self, episode: Episode) -> None:
        """An episode is over and on disk; or the end of the run cut it off, and it is still owed."""
        if was_cut_off(episode):
            return
        key = (episode.task.key, episode.repeat // self._size)
        if self._assembler.is_closed(key):  # its deadline has passed: it counts, and is not learned from
            self._assembler.add(episode, self._now())
            group = self._groups.get(key)
            (self._late if group is None else group.episodes).append(episode)
            return
        self._groups.setdefault(key, PlayedGroup()).episodes.append(episode)
        closed = self._assembler.add(episode, self._now())
        self._changed.set()  # a first episode brings a deadline with it
        if closed is not None:
            self._close(closed)

    def _close(self, group: ClosedGroup) -> None:
        self._groups[group.task_key, group.number].group = group
        self._playing -= 1
        if self._playing == 0:
            self._idle_since = self._now()
        self._changed.set()

    async def complete(self, planned: Sequence[PlannedGroup]) -> tuple[PlayedGroup, ...]:
        """Wait until all groups of a round are closed, by their deadline at the latest, and take them in order."""
        while not all((found := self._groups.get(one.key)) is not None and found.group for one in planned):
            self._changed = anyio.Event()
            left = self._assembler.next_deadline - self._now()
            with anyio.move_on_after(None if left == math.inf else max(left, 0.0)):
                await self._changed.wait()
            for group in self._assembler.expire(self._now()):
                self._close(group)
        return tuple(self._groups.pop(one.key) for one in planned)

    def late(self) -> list[Episode]:
        """Episodes that came since this was asked last, of groups that had been taken by then."""
        found, self._late = self._late, []
        return found

    def idle(self) -> float:
        """Seconds since this was asked last in which nothing was being played."""
        self._tick()
        found, self._idle_s = self._idle_s, 0.0
        return found

    def _tick(self) -> None:
        if self._idle_since is not None:
            now = self._now()
            self._idle_s += now - self._idle_since
            self._idle_since = now


class Lane:
    """The assignments of one source, as they are dispatched."""

    def __init__(self, receiver: PipeReceiver[Assignment]) -> None:
        """Ends when the pipe does."""
        self._receiver = receiver

    async def assignments(self) -> AsyncIterator[Assignment]:
        """All of them."""
        async for assignment in self._receiver:
            yield assignment
