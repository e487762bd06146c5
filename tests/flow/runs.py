"""What the tests of the rollout loop share: a source that remembers, and records without their times."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TypeVar

import anyio

from dreamsim.flow.source import in_turn
from dreamsim.protocols import Assignment
from dreamsim.records.episode import Episode, episode_id
from dreamsim.records.task import Task
from dreamsim.testing.virtual_time import VirtualTimeLoop

T = TypeVar("T")
RUN = "test"


class RememberedTasks:
    """Gives assignments and remembers which were taken."""

    def __init__(self, tasks: Sequence[Task], *, episodes: int) -> None:
        self._all = tuple(in_turn(tasks, episodes, "training"))
        self.given: list[Assignment] = []

    async def assignments(self) -> AsyncIterator[Assignment]:
        for assignment in self._all:
            self.given.append(assignment)
            yield assignment

    @property
    def given_ids(self) -> list[str]:
        return [episode_id(RUN, one.task.key, one.repeat) for one in self.given]


def in_virtual_time(main: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run `main` on a loop of its own, whose time jumps."""
    return anyio.run(main, backend_options={"loop_factory": VirtualTimeLoop})


def record(episode: Episode) -> object:
    """All of an episode but its times."""
    steps = [(t.action, t.state.lines, t.reward, t.outcome, t.admissible) for t in episode.transitions]
    ended = (episode.outcome, episode.error_kind, episode.error_message)
    return (episode.id, episode.repeat, episode.task.key, ended, steps)
