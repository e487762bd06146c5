"""Control of a live run: pause it, lower its limit, end an episode or a task.

In: wishes, at any time. Out: what the collectors of the run do. Always: nothing here waits; a wish that names nothing
alive is refused with what would have been accepted; every episode that is ended is still stored, as cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from dreamsim.errors import UsageError
from dreamsim.flow.collector import Collector
from dreamsim.flow.flights import Flight
from dreamsim.runtime.limits import Gate
from dreamsim.runtime.telemetry import Telemetry

T = TypeVar("T")
SHORTEST = 4
"""Characters of an id or a key that are taken for its beginning."""


class RunControl:
    """One run's controls; the simulators of the run attach their collectors."""

    def __init__(self, telemetry: Telemetry | None = None) -> None:
        """Of a run that goes on; `telemetry` is told when it is paused."""
        self._telemetry = telemetry
        self.watchers: list[Callable[[bool], None]] = []
        """Are told when the run is paused (True) and when it goes on (False), at once."""
        self.gate = Gate()
        """Closed while the run is paused."""
        self._collectors: list[Collector] = []

    @property
    def paused(self) -> bool:
        """Whether the run is paused."""
        return self.gate.closed

    @property
    def most(self) -> int:
        """Largest ceiling that may be set: what the run was started with."""
        return max((collector.concurrency for collector in self._collectors), default=0)

    @property
    def ceiling(self) -> int:
        """Most episodes that may be alive now, engines permitting."""
        return max((collector.ceiling for collector in self._collectors), default=0)

    def attach(self, collector: Collector) -> None:
        """`collector` runs now."""
        self._collectors.append(collector)

    def detach(self, collector: Collector) -> None:
        """`collector` has ended."""
        self._collectors.remove(collector)

    def pause(self) -> None:
        """Begin no episode and no step. A step that has begun, its requests to engines too, comes to its end; what is
        over is stored and delivered. An episode's time limit stands still at the gate. Idempotent."""
        if not self.paused:
            self.gate.close()
            for watch in self.watchers:
                watch(True)
        self._tell()

    def resume(self) -> None:
        """Go on. Idempotent."""
        if self.paused:
            self.gate.open()
            for watch in self.watchers:
                watch(False)
        self._tell()
        for collector in self._collectors:
            collector.refill()

    def set_ceiling(self, ceiling: int) -> None:
        """Let at most `ceiling` episodes be alive; those beyond it come to their end.

        Raises:
            UsageError: it is below 1, or above what the run was started with.
        """
        if not 1 <= ceiling <= self.most:
            raise UsageError(f"the limit must be between 1 and {self.most}, the concurrency that the run began with")
        for collector in self._collectors:
            collector.ceiling = ceiling

    def requeue_youngest(self, count: int) -> int:
        """Cut off the `count` episodes that were begun last, to be played again later; returns how many there were."""
        found = 0
        for collector in self._collectors:
            found += collector.requeue_youngest(count - found)
        return found

    def cancel_episode(self, beginning: str) -> str:
        """End the episode whose id begins so, as cancelled; returns its id.

        Raises:
            UsageError: no episode that is alive or waits to be played again begins so, or several do.
        """
        flight = _only(beginning, {flight.id: flight for flight in self._flights()}, "episode")
        flight.end()
        return flight.id

    def cancel_task(self, beginning: str) -> tuple[str, int]:
        """End all episodes of a task as cancelled, those still to come too; returns its key and how many there are now.

        Raises:
            UsageError: no task of which an episode is alive begins so, or several do.
        """
        keys = {flight.assignment.task.key: flight.assignment.task.key for flight in self._flights()}
        key = _only(beginning, keys, "task")
        return key, sum(collector.cancel_task(key) for collector in self._collectors)

    def _tell(self) -> None:
        if self._telemetry is not None:
            self._telemetry.paused = self.paused

    def _flights(self) -> Iterable[Flight]:
        return (flight for collector in self._collectors for flight in collector.flights)


def _only(beginning: str, named: dict[str, T], what: str) -> T:
    if beginning in named:
        return named[beginning]
    found = [name for name in named if name.startswith(beginning)] if len(beginning) >= SHORTEST else []
    if len(found) == 1:
        return named[found[0]]
    if found:
        raise UsageError(f"{len(found)} {what}s that are alive begin with {beginning!r}: give more of it")
    raise UsageError(
        f"no {what} that is alive begins with {beginning!r} (give at least {SHORTEST} characters): see `dump`"
    )


class PausableClock:
    """Monotonic time that stands still while a run is paused: for deadlines that are not to pass meanwhile."""

    __slots__ = ("_now", "_paused", "_since")

    def __init__(self, now: Callable[[], float], control: RunControl) -> None:
        """`now` is monotonic time, seconds."""
        self._now = now
        self._paused = 0.0
        self._since: float | None = now() if control.paused else None
        control.watchers.append(self._told)

    def now(self) -> float:
        """Seconds, those of pauses left out."""
        return (self._now() if self._since is None else self._since) - self._paused

    def _told(self, paused: bool) -> None:
        if paused:
            self._since = self._now()
        elif self._since is not None:
            self._paused += self._now() - self._since
            self._since = None
