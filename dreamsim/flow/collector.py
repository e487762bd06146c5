"""The collector: admits assignments, has them played and hands every episode to the sink and to the consumer.

In: a `TaskSource`. Out: episodes, in the sink and in the `results` pipe.
Always:
- every admitted assignment ends in exactly one episode: played, failed or cancelled, it is stored, then
  delivered;
- at most `concurrency` episodes are being played or stored; admission also waits while the consumer is
  behind, so at most `concurrency + buffer` episodes are held, and no finished one waits for the consumer;
- keeping the books is shielded from cancellation, but not for ever: the sink has `store_seconds` per episode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from dreamsim.errors import DreamsimError, StoreError, UsageError
from dreamsim.flow.rollout import Rollout
from dreamsim.protocols import Assignment, EpisodeSink, TaskSource
from dreamsim.records.episode import Episode
from dreamsim.runtime.boundary import Boundary
from dreamsim.runtime.pipes import Pipe
from dreamsim.runtime.telemetry import LiveEpisode, Telemetry

ADMIT_AT_ONCE = 16
"""Episodes admitted before others get a turn: a burst of thousands would stall the loop."""
STORE_SECONDS = 60.0
"""A sink that does not take an episode within this time counts as dead."""
LAST_STORE_SECONDS = 5.0
"""The same, once the run is being cancelled."""


class Collector:
    """Runs the episodes of one task source."""

    def __init__(
        self,
        *,
        rollout: Rollout,
        sink: EpisodeSink | None,
        telemetry: Telemetry,
        concurrency: int,
        buffer: int,
        finished: Container[str] = (),
    ) -> None:
        """Ready to `run`, once. Assignments whose episode id is in `finished` are skipped."""
        self._rollout = rollout
        self._sink = sink
        self._telemetry = telemetry
        self._concurrency = concurrency
        self._skip = finished
        self._slots = anyio.Semaphore(concurrency, fast_acquire=True)
        self._places = anyio.Semaphore(concurrency + buffer, fast_acquire=True)
        self._open: dict[str, Assignment] = {}
        self._admission = anyio.CancelScope()
        self._episodes = anyio.CancelScope()
        self._storing: set[anyio.CancelScope] = set()
        self._store_seconds = STORE_SECONDS
        self.results: Pipe[Episode] = Pipe("results", concurrency + buffer, now=telemetry.clock.monotonic)
        """Finished episodes; ends when all are delivered. Call `delivered` for each one taken."""
        self.finished = anyio.Event()
        """Set when `run` is over."""
        self.error: Exception | None = None
        """What ended the run early, if anything did: the sink, the source or a dead engine."""
        self._told = False

    async def run(self, source: TaskSource) -> None:
        """Run every assignment of `source`. Never raises for what goes wrong: see `error`."""
        self._telemetry.concurrency = self._concurrency
        self._telemetry.watch(self.results)
        try:
            with self._episodes:
                async with anyio.create_task_group() as group:
                    with self._admission:
                        await self._admit_all(source, group)
                if group.cancel_scope.cancel_called and not self._episodes.cancel_called:
                    self._fail(DreamsimError("a foreign cancellation killed a task and ended the run"))
        finally:
            await self._keep_lost()
            self._telemetry.unwatch(self.results)
            self.results.sender.close()
            self.finished.set()

    @property
    def over(self) -> bool:
        """Whether `run` has ended and every episode was taken, or the receiver was closed."""
        return self.finished.is_set() and self.results.spent

    def delivered(self) -> None:
        """The consumer took one episode out of `results`: there is room for one more."""
        self._places.release()

    def tell(self) -> None:
        """Raise `error`, if there is one, the first time this is asked."""
        if self.error is not None and not self._told:
            self._told = True
            raise self.error

    def close_admission(self) -> None:
        """Admit nothing more; what runs goes on."""
        self._admission.cancel()

    def cancel(self) -> None:
        """Admit nothing more and cancel what runs; each cancelled episode is still stored."""
        self._admission.cancel()
        self._store_seconds = LAST_STORE_SECONDS
        latest = anyio.current_time() + LAST_STORE_SECONDS
        for scope in self._storing:
            scope.deadline = min(scope.deadline, latest)
        self._episodes.cancel()

    async def stop(self, *, drain_seconds: float) -> None:
        """Admit nothing more, give what runs `drain_seconds`, then cancel it. Returns when all is stored."""
        self.close_admission()
        with anyio.move_on_after(drain_seconds):
            await self.finished.wait()
        if not self.finished.is_set():
            self.cancel()
            await self.finished.wait()

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
        self.close_admission()

    def _blame(self, caught: Boundary, who: str) -> None:
        """Fail with what was caught, unless it is our own cancellation."""
        if caught.failure is not None and not caught.cancelled:
            if isinstance(caught.error, Exception):
                self._fail(caught.error)
            else:
                self._fail(DreamsimError(f"{who} was {caught.failure.message}"))

    async def _admit_all(self, source: TaskSource, group: TaskGroup) -> None:
        assignments = source.assignments()
        turns = 0
        with Boundary() as caught:
            while not self._admission.cancel_called:
                await self._slots.acquire()
                await self._place()
                assignment = await anext(assignments, None)
                if assignment is None:
                    break
                if not self._admit(assignment, group):
                    self._slots.release()
                    self._places.release()
                turns += 1
                if turns % ADMIT_AT_ONCE == 0:
                    await anyio.lowlevel.checkpoint()
        close = getattr(assignments, "aclose", None)
        if close is not None:
            with Boundary(), anyio.move_on_after(LAST_STORE_SECONDS, shield=True):
                await close()
        # A source that failed ends admission; what runs is still worth finishing.
        self._blame(caught, "the task source")

    async def _place(self) -> None:
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            clock = self._telemetry.clock
            begun = clock.monotonic()
            try:
                await self._places.acquire()
            finally:
                self.results.blocked_s += clock.monotonic() - begun

    def _admit(self, assignment: Assignment, group: TaskGroup) -> bool:
        id = self._rollout.settings.episode_id(assignment)
        if id in self._skip:
            self._telemetry.skipped()
            return False
        if id in self._open:
            raise UsageError(
                f"the task source gave task {assignment.task.key} with repeat {assignment.repeat} twice: "
                "both would be the same episode; count `repeat` up for each episode of a task"
            )
        self._open[id] = assignment
        live = self._telemetry.admitted(id, assignment.task.key)
        group.start_soon(self._run_one, assignment, live, name=f"episode {id}")
        return True

    async def _run_one(self, assignment: Assignment, live: LiveEpisode) -> None:
        with Boundary() as caught:
            episode = await self._rollout.play(assignment, live)
            self._telemetry.played(live.id)
            await self._keep(episode)
        if caught.failure is not None:  # the books could not be kept: the run cannot go on
            self._blame(caught, f"the task of episode {live.id}")
            self.cancel()
        elif self._rollout.dead_engine is not None:
            self._fail(self._rollout.dead_engine)
        self._slots.release()

    async def _keep_lost(self) -> None:
        """Keep the episodes whose tasks were killed before they ran, as a native `Task.cancel` can do."""
        with Boundary() as caught:
            for id, assignment in tuple(self._open.items()):
                self._telemetry.played(id)
                await self._keep(self._rollout.lost(assignment))
        self._blame(caught, "the collector")

    async def _keep(self, episode: Episode) -> None:
        """Store and deliver one episode."""
        del self._open[episode.id]
        if self._sink is not None:
            try:
                await self._store(self._sink, episode)
            except BaseException:
                self._telemetry.unstored()
                raise
        self._telemetry.finished(episode)
        # The receiver is closed when the consumer has left; the episode is stored all the same.
        with contextlib.suppress(anyio.BrokenResourceError):
            self.results.sender.send_nowait(episode)

    async def _store(self, sink: EpisodeSink, episode: Episode) -> None:
        station = self._telemetry.station("store")
        # Twice, because a foreign cancellation may hit the first try; adding is idempotent.
        for _ in range(2):
            scope = anyio.CancelScope(shield=True, deadline=anyio.current_time() + self._store_seconds)
            self._storing.add(scope)
            entered = station.enter()
            try:
                with scope:
                    await sink.add(episode)
                    return
            except anyio.get_cancelled_exc_class():
                continue
            finally:
                station.leave(entered)
                self._storing.discard(scope)
            break
        raise StoreError(
            f"the store did not take episode {episode.id} within {self._store_seconds:g} s: "
            "see whether its disk is full or another process holds its lock"
        )
