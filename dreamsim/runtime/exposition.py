"""A run's numbers as Prometheus reads them.

In: a `Snapshot`, the same that the display shows. Out: text, format 0.0.4. Always: names begin with `dreamsim_` and end
with their unit, counters with `_total`; a counter never falls (steps of episodes that are played again were steps);
what is None is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from dreamsim.runtime.snapshot import Snapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MIB: Final = 2**20
REQUEUED: Final = ("requeued", "requeued_steps")
"""Counters that have metrics of their own."""

Samples = list[tuple[Mapping[str, str], float]]
Metric = tuple[str, Literal["gauge", "counter"], str, Samples]


def render_metrics(snapshot: Snapshot) -> str:
    """The page `/metrics`."""
    lines: list[str] = []
    for name, kind, text, samples in _metrics(snapshot):
        if samples:
            lines += [f"# HELP dreamsim_{name} {text}", f"# TYPE dreamsim_{name} {kind}"]
            lines += [f"dreamsim_{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _metrics(now: Snapshot) -> Iterator[Metric]:
    yield from _episodes(now)
    yield from _work(now)
    yield from _engines(now)
    yield from _house(now)


def _episodes(now: Snapshot) -> Iterator[Metric]:
    again = now.counters.get("requeued", 0)
    yield "episodes_alive", "gauge", "Episodes being played.", _one(now.alive)
    yield "episodes_limit", "gauge", "Most episodes alive now.", _one(now.limit)
    yield "episodes_ceiling", "gauge", "Most episodes alive that the user allows.", _one(now.concurrency)
    yield "episodes_storing", "gauge", "Episodes that are over and wait for the store.", _one(now.storing)
    yield "episodes_stalled", "gauge", "Episodes that have not moved for run.stall_s.", _one(now.stalled)
    yield "episodes_begun_total", "counter", "Episodes begun, those begun again too.", _one(now.admitted + again)
    yield "episodes_requeued_total", "counter", "Episodes cut off to be played again later.", _one(again)
    yield "episodes_skipped_total", "counter", "Episodes that an earlier run had finished.", _one(now.skipped)
    yield "episodes_finished_total", "counter", "Finished episodes by outcome.", _by("outcome", now.outcomes)
    yield "episodes_failed_total", "counter", "Finished episodes with an error, by its kind.", _by("kind", now.failures)
    yield "episodes_of_source_total", "counter", "Finished episodes by source.", _by("source", now.sources)


def _work(now: Snapshot) -> Iterator[Metric]:
    lost = now.counters.get("requeued_steps", 0)
    yield "steps_total", "counter", "Steps taken, those of requeued episodes too.", _one(now.steps + lost)
    yield "steps_requeued_total", "counter", "Steps of episodes that were cut off.", _one(lost)
    requests = {role: count.requests for role, count in now.tokens.items()}
    yield "requests_total", "counter", "Answered requests by role.", _by("role", requests)
    tokens: Samples = []
    for role, count in now.tokens.items():
        for kind in ("prompt", "cached", "generated"):
            tokens.append(({"role": role, "kind": kind}, getattr(count, kind)))
    yield (
        "tokens_total",
        "counter",
        "Tokens; `cached` are prompt tokens computed before.",
        tokens,
    )
    seconds = {name: use.seconds for name, use in now.stations.items()}
    yield "station_seconds_total", "counter", "Time that episodes spent at a station.", _by("station", seconds)
    visits = {name: use.visits for name, use in now.stations.items()}
    yield "station_visits_total", "counter", "Times that an episode came to a station.", _by("station", visits)
    inside = {name: use.inside for name, use in now.stations.items()}
    yield "station_episodes", "gauge", "Episodes at a station.", _by("station", inside)
    events = {name: count for name, count in now.counters.items() if name not in REQUEUED}
    yield "events_total", "counter", "Whatever else the parts counted.", _by("event", events)


def _engines(now: Snapshot) -> Iterator[Metric]:
    loads = {str(number): load for number, load in enumerate(now.loads)}
    running = {engine: load.running for engine, load in loads.items()}
    yield "engine_running_requests", "gauge", "Requests that an engine computes.", _by("engine", running)
    waiting = {engine: load.waiting for engine, load in loads.items()}
    yield "engine_waiting_requests", "gauge", "Requests that wait in an engine.", _by("engine", waiting)
    uses = {engine: load.cache_use for engine, load in loads.items() if load.cache_use is not None}
    yield (
        "engine_cache_use_ratio",
        "gauge",
        "Share of the key-value cache in use.",
        _by("engine", uses),
    )
    preemptions = {engine: load.preemptions for engine, load in loads.items()}
    text = "Times that a running request lost what was computed for it."
    yield "engine_preemptions_total", "counter", text, _by("engine", preemptions)


def _house(now: Snapshot) -> Iterator[Metric]:
    yield "run_seconds_total", "counter", "Since the first episode began.", _one(now.elapsed_s)
    yield "run_paused", "gauge", "1 while the run is paused.", _one(now.paused)
    yield "run_still_seconds", "gauge", "Since when nothing has moved although episodes are alive.", _one(now.still_s)
    lags = {"0.5": now.lag.p50_s, "0.99": now.lag.p99_s, "1": now.lag.max_s}
    yield (
        "loop_lag_seconds",
        "gauge",
        "Lateness of the event loop; 1: since the start.",
        _by("quantile", lags),
    )
    yield "resident_memory_bytes", "gauge", "Memory of this process.", _one(now.rss_mib * MIB)
    yield "resident_memory_peak_bytes", "gauge", "Most of it so far.", _one(now.rss_peak_mib * MIB)
    pipes = {pipe.name: pipe for pipe in now.pipes}
    depths = {name: pipe.depth for name, pipe in pipes.items()}
    yield "pipe_items", "gauge", "Items in a pipe.", _by("pipe", depths)
    capacities = {name: pipe.capacity for name, pipe in pipes.items()}
    yield "pipe_capacity_items", "gauge", "Most items that a pipe holds.", _by("pipe", capacities)
    blocked = {name: pipe.blocked_s for name, pipe in pipes.items()}
    yield "pipe_blocked_seconds_total", "counter", "Time that senders waited for room.", _by("pipe", blocked)


def _one(value: float) -> Samples:
    return [({}, value)]


def _by(label: str, values: Mapping[str, float]) -> Samples:
    return [({label: name}, value) for name, value in values.items()]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return format(value, ".15g")
