"""What a run looks like at one moment: the numbers that the display and the final summary show.

In: `Telemetry.snapshot()`. Out: immutable records and the figures derived from them.
Always: real and dreamed are counted apart; a share of nothing is None, never a made-up number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamsim.records.load import EngineLoad
from dreamsim.runtime.pipes import PipeStatistics

NESTED: Mapping[str, str] = {"experience": "environment", "retrieval": "environment"}
"""Stations inside another one: their time is also the outer station's."""

PAUSED = "paused"
"""Where an episode is that waits because the run is paused: it is nobody's fault, and no station."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """Tokens of one role."""

    requests: int = 0
    """Requests answered."""
    prompt: int = 0
    """Prompt tokens."""
    generated: int = 0
    """Generated tokens."""
    cached: int = 0
    """Prompt tokens served from the prefix cache."""

    @property
    def cached_share(self) -> float | None:
        """Prompt tokens served from the prefix cache, as a share of all prompt tokens."""
        return self.cached / self.prompt if self.prompt else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationUse:
    """One station, where episodes spend their time."""

    seconds: float
    """Time spent there so far, summed over episodes, those that are there now included."""
    own_seconds: float
    """The same without the stations inside it."""
    visits: int
    """Times an episode entered it."""
    inside: int
    """Episodes there now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLag:
    """How late the event loop is: the overshoot of short sleeps."""

    p50_s: float = 0.0
    """Median, seconds."""
    p99_s: float = 0.0
    """99th percentile, seconds."""
    max_s: float = 0.0
    """Largest, seconds."""
    samples: int = 0
    """Number of samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckEpisode:
    """An episode that has not moved for long."""

    episode_id: str
    """Which."""
    task_key: str
    """Its task."""
    step: int
    """The step it is in, from 0."""
    station: str
    """Where it is."""
    what: str
    """What it awaits there, in two words: `experience engine`, `retrieval`; else the station."""
    seconds: float
    """How long it has been there."""
    awaiting: str
    """The last coroutines of its chain of awaits, with file and line; empty when that cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What happened per second between two snapshots."""

    seconds: float
    """Between the two."""
    steps_per_s: float
    """Steps taken per second."""
    episodes_per_s: float
    """Episodes finished per second."""
    prompt_tokens_per_s: float
    """Prompt tokens of all roles per second."""
    generated_tokens_per_s: float
    """Generated tokens of all roles per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A run at one moment."""

    elapsed_s: float = 0.0
    """Since the first episode was admitted, seconds."""
    concurrency: int = 0
    """Most episodes allowed at once."""
    limit: int = 0
    """Most episodes alive now: below `concurrency` while engines are under pressure or after `dreamsim ctl limit`."""
    loads: tuple[EngineLoad, ...] = ()
    """The engines that tell how busy they are, at the last look."""
    paused: bool = False
    """Whether the run is paused."""
    engine_dead: str | None = None
    """What the engine said that died, if one did."""
    still_s: float = 0.0
    """Since when no episode has taken a step or ended although some are alive, seconds."""
    admitted: int = 0
    """Episodes admitted so far."""
    skipped: int = 0
    """Episodes skipped because an earlier run of the same name had finished them."""
    alive: int = 0
    """Episodes being played now."""
    alive_peak: int = 0
    """Most episodes played at the same moment."""
    storing: int = 0
    """Episodes that are over and wait for the store."""
    done: int = 0
    """Episodes finished and, where there is a store, handed to it."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Finished episodes by `EpisodeOutcome`."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Finished episodes with outcome `error`, by error kind."""
    sources: Mapping[str, int] = field(default_factory=dict)
    """Finished episodes by source: `real`, `dreamed`."""
    steps: int = 0
    """Transitions so far, those of live episodes included."""
    steps_by_source: Mapping[str, int] = field(default_factory=dict)
    """The same by source."""
    tokens: Mapping[str, TokenCount] = field(default_factory=dict)
    """Tokens by role: `policy`, `experience`, ..."""
    stations: Mapping[str, StationUse] = field(default_factory=dict)
    """Stations by name: `policy`, `environment`, `experience`, `retrieval`, `store`."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """Whatever else the parts counted, by name."""
    pipes: tuple[PipeStatistics, ...] = ()
    """The run's pipes."""
    lag: LoopLag = field(default_factory=LoopLag)
    """How late the event loop is."""
    rss_mib: float = 0.0
    """Resident memory of this process, MiB."""
    rss_peak_mib: float = 0.0
    """Largest resident memory sampled, MiB."""
    stuck: tuple[StuckEpisode, ...] = ()
    """Episodes that have not moved for long, the longest first; a few of them."""
    stalled: int = 0
    """How many there are of these."""

    @property
    def successes(self) -> int:
        """Episodes that solved their task."""
        return self.outcomes.get("success", 0)

    @property
    def success_share(self) -> float | None:
        """Successes as a share of the episodes that did not end in an error."""
        judged = self.done - self.outcomes.get("error", 0)
        return self.successes / judged if judged > 0 else None

    @property
    def steps_per_s(self) -> float:
        """Steps per second since the first admission."""
        return self.steps / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def since(self, earlier: Snapshot) -> Rates:
        """Rates between `earlier` and this snapshot."""
        seconds = max(self.elapsed_s - earlier.elapsed_s, 1e-9)

        def generated(snapshot: Snapshot) -> int:
            return sum(count.generated for count in snapshot.tokens.values())

        def prompt(snapshot: Snapshot) -> int:
            return sum(count.prompt for count in snapshot.tokens.values())

        return Rates(
            seconds=seconds,
            steps_per_s=(self.steps - earlier.steps) / seconds,
            episodes_per_s=(self.done - earlier.done) / seconds,
            prompt_tokens_per_s=(prompt(self) - prompt(earlier)) / seconds,
            generated_tokens_per_s=(generated(self) - generated(earlier)) / seconds,
        )

    def bottleneck(self) -> str | None:
        """The station where episodes spent most of their time, or None before any was visited."""
        visited = {name: use.own_seconds for name, use in self.stations.items() if use.visits}
        return max(visited, key=lambda name: visited[name]) if visited else None

    def station_shares(self) -> dict[str, float]:
        """Share of all time spent at stations, by station, the largest first; they sum to 1."""
        total = sum(use.own_seconds for use in self.stations.values())
        if total <= 0:
            return {}
        shares = {name: use.own_seconds / total for name, use in self.stations.items()}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))
