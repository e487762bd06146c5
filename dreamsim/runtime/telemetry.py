"""Telemetry: counts what happens in a run, cheaply, for whoever wants to look.

In: calls from the rollout loop and the parts it drives. Out: `snapshot()`.
Always: recording never waits, never fails and costs about a microsecond; nothing here grows with the number
of finished episodes; one event loop's tasks record, so there are no locks.
"""

from __future__ import annotations

from collections import Counter, deque
from types import TracebackType

from dreamsim.errors import EpisodeTimeoutError
from dreamsim.records.episode import Episode, Source
from dreamsim.records.lengths import length_class
from dreamsim.records.load import EngineLoad
from dreamsim.runtime.clock import Clock, RealClock
from dreamsim.runtime.memory import resident_mib
from dreamsim.runtime.pipes import Pipe
from dreamsim.runtime.snapshot import NESTED, LoopLag, Snapshot, StationUse, StuckEpisode, TokenCount

LAG_SAMPLES = 4096


class Station:
    """A place where episodes spend time. `with station: ...`, or `enter` and `leave` in a hot loop."""

    __slots__ = ("_clock", "_entered", "inside", "seconds", "visits")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entered = 0.0
        self.seconds = 0.0
        self.visits = 0
        self.inside = 0

    def enter(self) -> float:
        """An episode comes in; give the returned time back to `leave`."""
        now = self._clock.monotonic()
        self.visits += 1
        self.inside += 1
        self._entered += now
        return now

    def leave(self, entered: float) -> None:
        """The episode that came in at `entered` goes."""
        self.inside -= 1
        self._entered -= entered
        self.seconds += self._clock.monotonic() - entered

    def seconds_until(self, now: float) -> float:
        """Time spent here by all episodes so far, those that are still here included."""
        if not self.inside:
            self._entered = 0.0  # sheds what rounding has left in the sum
        return self.seconds + self.inside * now - self._entered

    def visit(self) -> Visit:
        """`with station.visit(): ...` is one visit."""
        return Visit(self)


class Visit:
    """One visit of a station, as a context."""

    __slots__ = ("_entered", "_station")

    def __init__(self, station: Station) -> None:
        self._station = station
        self._entered = 0.0

    def __enter__(self) -> None:
        self._entered = self._station.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._station.leave(self._entered)


class LiveEpisode:
    """Where one live episode is; written by the rollout, read by the watchdog."""

    __slots__ = ("id", "since", "station", "step", "task_key")

    def __init__(self, *, id: str, task_key: str, since: float) -> None:
        self.id = id
        self.task_key = task_key
        self.since = since
        self.station = "admission"
        self.step = 0


class Telemetry:
    """All counters of one run."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Counters at zero; durations by `clock`."""
        self.clock: Clock = RealClock() if clock is None else clock
        self.concurrency = 0
        """Most episodes allowed at once; the collector sets it."""
        self.limit = 0
        """Most episodes alive now; the collector sets it."""
        self.loads: tuple[EngineLoad, ...] = ()
        """How busy the engines are that tell; set by whoever looks."""
        self.paused = False
        """Whether the run is paused; its control sets it."""
        self.engine_dead: str | None = None
        """What a dead engine said; the collector sets it."""
        self.counters: Counter[str] = Counter()
        """Anything a part wants counted: `telemetry.counters["resampled"] += 1`."""
        self.stuck: tuple[StuckEpisode, ...] = ()
        """Set by the watchdog."""
        self.stalled = 0
        """How many do not move; set by the watchdog."""
        self._moved = (0, 0.0)
        self.live: dict[str, LiveEpisode] = {}
        """Episodes being played, by id."""
        self._stations: dict[str, Station] = {}
        self._tokens: dict[str, list[int]] = {}
        self._pipes: list[Pipe[Episode]] = []
        self._lags: deque[float] = deque(maxlen=LAG_SAMPLES)
        self._lag_count = 0
        self._lag_max = 0.0
        self._rss_peak = 0.0
        self._begun: float | None = None
        self._admitted = 0
        self._skipped = 0
        self._alive_peak = 0
        self._storing = 0
        self._outcomes: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._steps: Counter[str] = Counter()

    def station(self, name: str) -> Station:
        """The station called `name`; the same object every time."""
        found = self._stations.get(name)
        if found is None:
            found = self._stations[name] = Station(self.clock)
        return found

    def tokens(self, role: str, *, prompt: int, generated: int, cached: int = 0) -> None:
        """One answered request of `role`."""
        counts = self._tokens.get(role)
        if counts is None:
            counts = self._tokens[role] = [0, 0, 0, 0]
        counts[0] += 1
        counts[1] += prompt
        counts[2] += generated
        counts[3] += cached

    def admitted(self, episode_id: str, task_key: str, *, again: bool = False) -> LiveEpisode:
        """An episode begins, or begins `again`; returns where to note its whereabouts."""
        now = self.clock.monotonic()
        if self._begun is None:
            self._begun = now
        live = LiveEpisode(id=episode_id, task_key=task_key, since=now)
        self.live[episode_id] = live
        self._admitted += not again
        self._alive_peak = max(self._alive_peak, len(self.live))
        return live

    def skipped(self) -> None:
        """An assignment was finished in an earlier run."""
        self._skipped += 1

    def stepped(self, source: Source) -> None:
        """A transition happened."""
        self._steps[source] += 1

    def played(self, episode_id: str) -> None:
        """The episode is over and goes to the store."""
        self.live.pop(episode_id, None)
        self._storing += 1

    def requeued(self, episode: Episode) -> None:
        """The episode was cut off to make room and will be played again: what it did is not counted as steps."""
        self.live.pop(episode.id, None)
        self.counters["requeued"] += 1
        self.counters["requeued_steps"] += len(episode.transitions)
        self._steps[episode.source] -= len(episode.transitions)

    def finished(self, episode: Episode) -> None:
        """The episode is stored, or there is no store."""
        self._storing -= 1
        self._outcomes[episode.outcome] += 1
        self._sources[episode.source] += 1
        if episode.error_kind is not None:
            self._failures[episode.error_kind] += 1
        if episode.error_kind == EpisodeTimeoutError.kind:
            self.counters[f"timeouts at {length_class(len(episode.transitions))} steps"] += 1

    def unstored(self) -> None:
        """The store did not take the episode."""
        self._storing -= 1

    def watch(self, pipe: Pipe[Episode]) -> None:
        """Show `pipe` in snapshots, until `unwatch`."""
        self._pipes.append(pipe)

    def unwatch(self, pipe: Pipe[Episode]) -> None:
        """Show `pipe` no more."""
        self._pipes.remove(pipe)

    def sampled(self, lag_s: float) -> None:
        """The event loop was `lag_s` late; memory is looked at on the same occasion."""
        self._lags.append(lag_s)
        self._lag_count += 1
        self._lag_max = max(self._lag_max, lag_s)
        self._rss_peak = max(self._rss_peak, resident_mib())

    def look(self) -> None:
        """Notice whether anything has moved since the last look; the watchdog calls this."""
        moves = sum(self._steps.values()) + self.counters["requeued_steps"] + sum(self._outcomes.values())
        moves += self._admitted + self.counters["requeued"]
        if moves != self._moved[0] or self.paused or not self.live:
            self._moved = (moves, self.clock.monotonic())

    def snapshot(self) -> Snapshot:
        """Everything as it is now."""
        now = self.clock.monotonic()
        self.look()
        rss = resident_mib()
        return Snapshot(
            elapsed_s=0.0 if self._begun is None else now - self._begun,
            concurrency=self.concurrency,
            limit=self.limit,
            loads=self.loads,
            paused=self.paused,
            engine_dead=self.engine_dead,
            still_s=max(0.0, now - self._moved[1]) if self.live else 0.0,
            admitted=self._admitted,
            skipped=self._skipped,
            alive=len(self.live),
            alive_peak=self._alive_peak,
            storing=self._storing,
            done=sum(self._outcomes.values()),
            outcomes=dict(self._outcomes),
            failures=dict(self._failures),
            sources=dict(self._sources),
            steps=sum(self._steps.values()),
            steps_by_source=dict(self._steps),
            tokens={
                role: TokenCount(requests=counts[0], prompt=counts[1], generated=counts[2], cached=counts[3])
                for role, counts in self._tokens.items()
            },
            stations=self._station_uses(now),
            counters=dict(self.counters),
            pipes=tuple(pipe.statistics() for pipe in self._pipes),
            lag=self._lag(),
            rss_mib=rss,
            rss_peak_mib=max(rss, self._rss_peak),
            stuck=self.stuck,
            stalled=self.stalled,
        )

    def _station_uses(self, now: float) -> dict[str, StationUse]:
        seconds = {name: station.seconds_until(now) for name, station in self._stations.items()}
        own = dict(seconds)
        for inner, outer in NESTED.items():
            if inner in seconds and outer in seconds:
                own[outer] = max(0.0, own[outer] - seconds[inner])
        return {
            name: StationUse(seconds=seconds[name], own_seconds=own[name], visits=station.visits, inside=station.inside)
            for name, station in self._stations.items()
        }

    def _lag(self) -> LoopLag:
        if not self._lags:
            return LoopLag()
        ordered = sorted(self._lags)
        return LoopLag(
            p50_s=ordered[len(ordered) // 2],
            p99_s=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
            max_s=self._lag_max,
            samples=self._lag_count,
        )
