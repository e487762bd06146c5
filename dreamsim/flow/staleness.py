"""Pacing: how far rollouts may run ahead of the trainer, decided where episodes are admitted.

In: a `TaskSource`, and news of groups, batches and weights. Out: the same assignments, each when its time has come.
Always, with B groups to a batch and lag n (n = `max_lag`):
- a group is admitted only while groups admitted - groups left out < (v + n + 1) B, where v counts the versions that
  engines have been given (the bound of AReaL, arXiv 2505.24298 Eq. 3, in groups). Lag 0 is strict alternation: the B
  groups of a batch, then its weights, then the next B; lag n lets rollouts be n batches further;
- never a standstill: when the trainer has nothing to learn from and no group is being played, one is admitted;
- a batch's staleness is known when it is put together, because batch k is learned from by version k: a group that
  would be more than n versions behind there is left out (it is stored already), counted, and replaced by a new one;
- whoever waits is told when the trainer is gone.

`admission` decides and never waits; `Pace` keeps count; `PacedTasks` waits and never decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

import anyio

from dreamsim.errors import ConfigurationError, UsageError
from dreamsim.flow.groups import ClosedGroup, versions
from dreamsim.flow.learning import Learned
from dreamsim.protocols import Assignment, TaskSource

Admission = Literal["ahead", "starving", "held", "done"]
"""`ahead`: admitted within the bound; `starving`: admitted although the bound is reached, because nothing else would
ever happen; `held`: to wait; `done`: the run needs no more groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceSettings:
    """How far rollouts may be ahead."""

    max_lag: int = 0
    """Most versions between the weights that decided a step and the weights that learn from it. 0 is on-policy."""
    batch_groups: int = 16
    """Groups of a batch, as in `BatchSettings`."""
    publish_every: int = 1
    """Trainer's steps from one publication to the next, as in `LearningSettings`."""
    steps: int | None = None
    """Trainer's steps of the whole run; no group is admitted beyond what they need. None is any number."""

    def __post_init__(self) -> None:
        if self.batch_groups < 1 or self.publish_every < 1:
            raise ConfigurationError("batch_groups and publish_every must be at least 1")
        if self.max_lag < 0:
            raise ConfigurationError("max_lag must not be negative: weights cannot learn from what comes after them")
        if self.max_lag < self.publish_every - 1:
            raise ConfigurationError(
                f"with publish_every = {self.publish_every} engines are up to {self.publish_every - 1} versions behind "
                f"the trainer, and max_lag = {self.max_lag} would leave out what they play: raise max_lag to "
                f"{self.publish_every - 1} or publish every version"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceState:
    """What has happened so far, in counts; versions count from where the run began."""

    admitted: int = 0
    """Groups begun."""
    ended: int = 0
    """Of these, groups that closed: nothing more of them is being played."""
    left_out: int = 0
    """Of these, groups that no batch will hold."""
    batches: int = 0
    """Batches put together."""
    learned: int = 0
    """Batches learned from."""
    published: int = 0
    """Version that was published last, on its way to the engines or there."""
    delivered: int = 0
    """Version that engines answer with."""

    @property
    def playing(self) -> int:
        """Groups being played."""
        return self.admitted - self.ended

    @property
    def starving(self) -> bool:
        """Whether the trainer waits, and nothing is under way that could feed it."""
        return self.playing <= 0 and self.learned >= self.batches and self.delivered >= self.published


def admission(state: PaceState, settings: PaceSettings) -> Admission:
    """Whether one more group may begin."""
    if settings.steps is not None and state.batches >= settings.steps:
        return "done"
    counted = state.admitted - state.left_out
    bound = (state.delivered + settings.max_lag + 1) * settings.batch_groups
    if settings.steps is not None:
        bound = min(bound, settings.steps * settings.batch_groups)
    if counted < bound:
        return "ahead"
    return "starving" if state.starving else "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceStatistics:
    """Who waited for whom, since the first assignment was asked for."""

    admitted: int
    """Groups begun."""
    playing: int
    """Groups being played now."""
    too_stale: int
    """Groups not learned from because they were too old."""
    starved: int
    """Groups admitted beyond the bound because the trainer starved; more than a few mean that groups get lost."""
    version: int
    """Version that engines answer with."""
    elapsed_s: float
    """Wall time."""
    held_s: float
    """Time that admission was held back, seconds."""
    engine_waited_s: float
    """Of `elapsed_s`, time that engines waited for the trainer: admission held and no group playing, or weights being
    loaded."""
    trainer_waited_s: float
    """Time that the trainer waited for batches."""
    trainer_worked_s: float
    """Time that it learned, saved and published."""

    @property
    def engine_wait_share(self) -> float:
        """engine_waited_s / elapsed_s."""
        return self.engine_waited_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def trainer_wait_share(self) -> float:
        """trainer_waited_s / elapsed_s."""
        return self.trainer_waited_s / self.elapsed_s if self.elapsed_s else 0.0


class Pace:
    """Keeps count for one run. All on one event loop; every method but `turn` returns at once."""

    def __init__(
        self, settings: PaceSettings, *, version: int = 0, now: Callable[[], float] = anyio.current_time
    ) -> None:
        """`version` is the trainer's when the run begins or is resumed; `now` is monotonic time, seconds."""
        self.settings = settings
        self._first = version
        self._now = now
        self._changed = anyio.Event()
        self._over = False
        self._admitted = self._ended = self._left_out = self._batches = self._learned = 0
        self._published = self._delivered = 0
        self._too_stale = self._starved = 0
        self._holding = self._loading = False
        self._begun: float | None = None
        self._last = 0.0
        self._held_s = self._engine_waited_s = self._trainer_waited_s = self._trainer_worked_s = 0.0

    @property
    def state(self) -> PaceState:
        """The counts now."""
        return PaceState(
            admitted=self._admitted,
            ended=self._ended,
            left_out=self._left_out,
            batches=self._batches,
            learned=self._learned,
            published=self._published,
            delivered=self._delivered,
        )

    async def turn(self) -> bool:
        """Wait until one more group may begin, and count it as begun; False if none ever may again."""
        self._tick()
        while not self._over:
            decided = admission(self.state, self.settings)
            if decided == "done":
                return False
            if decided != "held":
                self._admitted += 1
                self._starved += decided == "starving"
                return True
            self._changed = anyio.Event()
            self._holding = True
            try:
                await self._changed.wait()
            finally:
                self._tick()
                self._holding = False
        return False

    def resumed(self, groups: int) -> None:
        """So many groups that a resumed run will not play again come to the batches from the store."""
        self._admitted += groups
        self._tell()

    def group_ended(self, *, left_out: bool = False, too_stale: bool = False, batch: bool = False) -> None:
        """A group closed.

        Args:
            left_out: no batch will hold it.
            too_stale: for that reason.
            batch: it filled a batch, which is on its way to the trainer.
        """
        self._too_stale += too_stale
        self._tell(ended=1, left_out=int(left_out), batches=int(batch))

    def learned(self, step: Learned) -> None:
        """The trainer made a step."""
        self._trainer_waited_s += step.waited_s
        self._trainer_worked_s += step.worked_s
        if step.update is not None:
            self._published = step.update.version - self._first
        self._tell(learned=1)

    def loading(self) -> None:
        """Engines begin to load weights; `delivered` ends it."""
        self._tell()
        self._loading = True

    def delivered(self, version: int) -> None:
        """All engines that serve the policy answer with `version`."""
        self._tell()
        self._loading = False
        self._delivered = version - self._first

    def close(self) -> None:
        """Nothing more will be learned: admit nothing more. Idempotent."""
        self._over = True
        self._tell()

    def too_stale(self, group: ClosedGroup, batch_number: int) -> bool:
        """Whether `group` is more than `max_lag` versions behind in the batch of this number."""
        decided = [version for episode in group.episodes for version in versions(episode)]
        return bool(decided) and batch_number - min(decided) > self.settings.max_lag

    def statistics(self) -> PaceStatistics:
        """Who waited for whom so far."""
        self._tick()
        return PaceStatistics(
            admitted=self._admitted,
            playing=self.state.playing,
            too_stale=self._too_stale,
            starved=self._starved,
            version=self._first + self._delivered,
            elapsed_s=0.0 if self._begun is None else self._last - self._begun,
            held_s=self._held_s,
            engine_waited_s=self._engine_waited_s,
            trainer_waited_s=self._trainer_waited_s,
            trainer_worked_s=self._trainer_worked_s,
        )

    def _tell(self, *, ended: int = 0, left_out: int = 0, batches: int = 0, learned: int = 0) -> None:
        self._tick()
        self._ended += ended
        self._left_out += left_out
        self._batches += batches
        self._learned += learned
        self._changed.set()

    def _tick(self) -> None:
        """Count the time since the last event for who has waited in it."""
        now = self._now()
        if self._begun is None:
            self._begun = self._last = now
        passed, self._last = now - self._last, now
        self._held_s += passed * self._holding
        self._engine_waited_s += passed * (self._loading or (self._holding and self.state.playing <= 0))


class PacedTasks:
    """A `TaskSource` that gives the assignments of another one, each group when its turn has come."""

    def __init__(
        self, tasks: TaskSource, pace: Pace, *, group_size: int, passed: Callable[[Assignment], bool] | None = None
    ) -> None:
        """Assignments of `tasks`, paced.

        Args:
            tasks: gives the episodes of a group one after the other.
            pace: says when.
            group_size: episodes of a group, as in `GroupSettings`.
            passed: assignments that are given without being counted: those that will not be played, because a resumed
                run has them already. Assignments that are not for training are never counted.
        """
        self._tasks = tasks
        self._pace = pace
        self._group_size = group_size
        self._passed = passed

    async def assignments(self) -> AsyncIterator[Assignment]:
        """The assignments; ends when the source does, when the run needs no more, or when the trainer is gone.

        Raises:
            UsageError: a group begins before the one before it has all its episodes, so that it could never close.
        """
        group: tuple[str, int] | None = None
        missing, counted = 0, False
        async for assignment in self._tasks.assignments():
            if assignment.purpose != "training":
                yield assignment
                continue
            key = (assignment.task.key, assignment.repeat // self._group_size)
            if key != group:
                if missing:
                    raise UsageError(
                        f"a group of task {assignment.task.key} begins while the one before lacks {missing} episodes: "
                        f"pacing needs the {self._group_size} episodes of a group one after the other "
                        "(`flow.source.GroupedTasks` gives them so)"
                    )
                group, missing, counted = key, self._group_size, False
            missing -= 1
            if not counted and not (self._passed is not None and self._passed(assignment)):
                if not await self._pace.turn():
                    return
                counted = True
            yield assignment
