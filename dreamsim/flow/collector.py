"""The collector: admits assignments, has them played and hands every episode to the sink and to the consumer.

In: a `TaskSource`. Out: episodes, in the sink and in the `results` pipe.
Always:
- every admitted assignment ends in exactly one episode: played, failed or cancelled, it is stored, then
  delivered;
- at most `concurrency` episodes are being played or stored, fewer where `limit` was lowered; admission also waits
  while the consumer is behind, so at most `concurrency + buffer` episodes are held, and no finished one waits for it;
- an episode that is cut off to make room (`requeue_youngest`) is played again from its beginning before anything new
  is begun: its id and its seeds are the same, and nothing of the first try is stored or counted as a step;
- what still waits when the run ends is marked as cut off (`flow.archive.was_cut_off`): whoever resumes plays it;
- keeping the books is shielded from cancellation, but not for ever: the sink has `store_seconds` per episode.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from collections.abc import AsyncIterator, Container, Sequence

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from dreamsim.errors import DreamsimError, EngineError, EpisodeCancelledError, StoreError, UsageError
from dreamsim.flow.flights import Flight
from dreamsim.flow.rollout import Rollout
from dreamsim.protocols import Assignment, EpisodeSink, TaskSource
from dreamsim.records.episode import Episode
from dreamsim.runtime.boundary import CUT_OFF, Boundary
from dreamsim.runtime.limits import Gate, Slots
from dreamsim.runtime.pipes import Pipe
from dreamsim.runtime.telemetry import Telemetry

ADMIT_AT_ONCE = 16
"""Episodes admitted before others get a turn: a burst of thousands would stall the loop."""
STORE_SECONDS = 60.0
"""A sink that does not take an episode within this time counts as dead."""
STORE_TRIES = 4
"""Tries to store an episode, in equal shares of that time: a store that fails once may take it the next time."""
STORE_BACKOFF_S = 0.05
LAST_STORE_SECONDS = 5.0
"""The same, once the run is being cancelled."""
MOST_BEGUN = 3
"""An episode that was begun so often is not cut off again, so that each of them ends."""
ON_REQUEST = "cancelled on request"
"""Message of an episode that `cancel_episode` or `cancel_task` ended."""
KILLED = "killed before its first step"
"""Message of an episode whose task was killed."""


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
        gate: Gate | None = None,
    ) -> None:
        """Ready to `run`, once. Assignments whose episode id is in `finished` are skipped; while `gate` is closed
        nothing is begun."""
        self._rollout = rollout
        self._sink = sink
        self._telemetry = telemetry
        self.concurrency = concurrency
        """Most episodes at once, as the run was started."""
        self.adaptive = False
        """Whether somebody moves `limit` below the ceiling."""
        self._ceiling = concurrency
        self._skip = finished
        self._slots = Slots(concurrency)
        self._gate = Gate() if gate is None else gate
        self._places = anyio.Semaphore(concurrency + buffer, fast_acquire=True)
        self._open: dict[str, Flight] = {}
        self._waiting: deque[Flight] = deque()
        self._cancelled_tasks: set[str] = set()
        self._group: TaskGroup | None = None
        self._settled = anyio.Event()
        self._dry = False
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
        self._telemetry.concurrency = self.concurrency
        self._telemetry.limit = self.limit
        self._telemetry.watch(self.results)
        try:
            with self._episodes:
                async with anyio.create_task_group() as group:
                    self._group = group
                    with self._admission:
                        await self._admit_all(source)
                if group.cancel_scope.cancel_called and not self._episodes.cancel_called:
                    self._fail(DreamsimError("a foreign cancellation killed a task and ended the run"))
        finally:
            self._group = None
            await self._keep_lost()
            self._telemetry.unwatch(self.results)
            self.results.sender.close()
            self.finished.set()

    @property
    def limit(self) -> int:
        """Most episodes being played or stored at once, now; between 1 and `ceiling`."""
        return self._slots.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._slots.limit = self._telemetry.limit = max(1, min(limit, self._ceiling))
        self.refill()

    @property
    def ceiling(self) -> int:
        """What the limit may rise to: `concurrency`, or less where that was asked for."""
        return self._ceiling

    @ceiling.setter
    def ceiling(self, ceiling: int) -> None:
        self._ceiling = max(1, min(ceiling, self.concurrency))
        self.limit = self.limit if self.adaptive else self._ceiling

    @property
    def alive(self) -> int:
        """Episodes being played or stored."""
        return self._slots.taken

    @property
    def flights(self) -> Sequence[Flight]:
        """Everything that is owed: what is being played, in the order it was begun, and what waits."""
        return tuple(self._open.values())

    def requeue_youngest(self, count: int) -> int:
        """Cut off the `count` episodes that were begun last, to be played again later; returns how many there were."""
        playing = [flight for flight in self._open.values() if flight.live is not None and not flight.asked]
        chosen = [flight for flight in reversed(playing) if flight.begun < MOST_BEGUN][: max(0, count)]
        for flight in chosen:
            flight.play_again()
        return len(chosen)

    def cancel_task(self, task_key: str) -> int:
        """End all episodes of a task as cancelled, those still to come too; returns how many there are now."""
        self._cancelled_tasks.add(task_key)
        found = [flight for flight in self._open.values() if flight.assignment.task.key == task_key]
        for flight in found:
            flight.end()
        return len(found)

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
            if isinstance(error, EngineError):
                self._telemetry.engine_dead = str(error)
        self.close_admission()

    def _blame(self, caught: Boundary, who: str) -> None:
        """Fail with what was caught, unless it is our own cancellation."""
        if caught.failure is not None and not caught.cancelled:
            if isinstance(caught.error, Exception):
                self._fail(caught.error)
            else:
                self._fail(DreamsimError(f"{who} was {caught.failure.message}"))

    async def _admit_all(self, source: TaskSource) -> None:
        assignments = source.assignments()
        with Boundary() as caught:
            await self._take_all(assignments)
            # What is cut off later is played again: there is something to admit until the last one has ended.
            if self._open:
                await self._settled.wait()
        close = getattr(assignments, "aclose", None)
        if close is not None:
            with Boundary(), anyio.move_on_after(LAST_STORE_SECONDS, shield=True):
                await close()
        # A source that failed ends admission; what runs is still worth finishing.
        self._blame(caught, "the task source")

    async def _take_all(self, assignments: AsyncIterator[Assignment]) -> None:
        """Take assignments out of the source as there is room for them."""
        turns = 0
        while not self._admission.cancel_called:
            while self._waiting or not self._slots.free or self._gate.closed:
                await self._slots.changed()
            await self._place()
            assignment = await anext(assignments, None)
            if assignment is None:
                self._places.release()
                break
            if self._take(assignment):
                self.refill()
            else:
                self._places.release()
            turns += 1
            if turns % ADMIT_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        self._dry = True

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

    def _take(self, assignment: Assignment) -> bool:
        """Owe the episode of `assignment`; False if an earlier run has it."""
        id = self._rollout.settings.episode_id(assignment)
        if id in self._skip:
            self._telemetry.skipped()
            return False
        if id in self._open:
            raise UsageError(
                f"the task source gave task {assignment.task.key} with repeat {assignment.repeat} twice: "
                "both would be the same episode; count `repeat` up for each episode of a task"
            )
        flight = self._open[id] = Flight(id=id, assignment=assignment)
        self._waiting.append(flight)
        return True

    def refill(self) -> None:
        """Begin what waits, as far as there are slots; then others may look for one."""
        while self._waiting and self._slots.free and not self._gate.closed:
            if self._admission.cancel_called and self._waiting[0].begun:
                break  # what was taken out of the source is begun all the same, but nothing a second time
            assert self._group is not None, "nothing waits before the run"
            self._slots.take()
            flight = self._begun(self._waiting.popleft())
            self._group.start_soon(self._run_one, flight, name=f"episode {flight.id}")
        self._slots.tell()

    def _begun(self, flight: Flight) -> Flight:
        flight.live = self._telemetry.admitted(flight.id, flight.assignment.task.key, again=flight.begun > 0)
        flight.begun += 1
        # The one begun last stands last: it is the youngest.
        self._open[flight.id] = self._open.pop(flight.id)
        if flight.assignment.task.key in self._cancelled_tasks:
            flight.end()
        return flight

    async def _run_one(self, flight: Flight) -> None:
        with Boundary() as caught:
            episode = await self._played(flight)
            if episode is not None:
                self._telemetry.played(flight.id)
                await self._keep(episode)
        if caught.failure is not None:  # the books could not be kept: the run cannot go on
            self._blame(caught, f"the task of episode {flight.id}")
            self.cancel()
        elif self._rollout.halt is not None:
            self._fail(self._rollout.halt)
            if self._rollout.cut:
                self.cancel()
        self._slots.give()
        self.refill()

    async def _played(self, flight: Flight) -> Episode | None:
        """The episode; None if it was cut off and is to be played again."""
        assert flight.live is not None, "it was begun"
        if flight.ending:
            return self._rollout.lost(flight.assignment, ON_REQUEST)
        with flight.scope:
            episode = await self._rollout.play(flight.assignment, flight.live)
        # One that came to its end at that moment stands, and so does one that the whole run cut off.
        if episode.error_kind != EpisodeCancelledError.kind or self._episodes.cancel_called:
            return episode
        if flight.asked == "again":
            self._telemetry.requeued(episode)
            flight.reset()
            self._waiting.append(flight)
            return None
        if flight.asked:
            return dataclasses.replace(episode, error_message=f"{ON_REQUEST} in step {flight.live.step}")
        return episode

    async def _keep_lost(self) -> None:
        """Keep the episodes that are not being played any more: the end of the run found them waiting, or their tasks
        were killed before they ran, as a native `Task.cancel` can do."""
        with Boundary() as caught:
            for flight in self.flights:
                if not flight.begun:
                    self._telemetry.admitted(flight.id, flight.assignment.task.key)
                self._telemetry.played(flight.id)
                said = KILLED if flight.live is not None else ON_REQUEST if flight.ending else CUT_OFF
                await self._keep(self._rollout.lost(flight.assignment, said))
        self._blame(caught, "the collector")

    async def _keep(self, episode: Episode) -> None:
        """Store and deliver one episode."""
        del self._open[episode.id]
        if self._dry and not self._open:
            self._settled.set()
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
        problem: Exception | None = None
        for failures in range(STORE_TRIES):  # adding is idempotent
            scope = anyio.CancelScope(shield=True, deadline=anyio.current_time() + self._store_seconds / STORE_TRIES)
            self._storing.add(scope)
            entered = station.enter()
            try:
                with scope:
                    if failures:
                        self._telemetry.counters["store_retried"] += 1
                        await anyio.sleep(STORE_BACKOFF_S * 2**failures)
                    await sink.add(episode)
                    return
            except anyio.get_cancelled_exc_class():
                continue  # a foreign one: our own do not come through the shield
            except Exception as error:  # noqa: BLE001 - raised below when the tries are used up
                problem = error
            finally:
                station.leave(entered)
                self._storing.discard(scope)
        if problem is not None:
            raise problem
        raise StoreError(
            f"the store did not take episode {episode.id} within {self._store_seconds:g} s: "
            "see whether its disk is full or another process holds its lock"
        )
