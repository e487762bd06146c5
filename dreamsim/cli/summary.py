"""The end of a run: what is in the store, what that means for the exit code, and where everything is.

In: the store's counts, the last snapshot, why the run ended. Out: figures for `summary.json`, a text for the
terminal, the exit code.
Always: counts and exit code come from the store alone; real and dreamed episodes are shown apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dreamsim.cli import exits, figures
from dreamsim.cli.run_directory import RunDirectory, shown_path
from dreamsim.records.episode import SOURCES
from dreamsim.records.lengths import LengthCount
from dreamsim.runtime.failure_settings import allowance_text, allowed_failures
from dreamsim.runtime.intervals import Share, wilson
from dreamsim.runtime.snapshot import Snapshot
from dreamsim.runtime.trust_counts import TrustFigures
from dreamsim.store.queries import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended."""

    counts: Counts
    """What the store holds of this run."""
    snapshot: Snapshot
    """The telemetry's last."""
    expected: int
    """Episodes that were to be run, those of earlier sittings included."""
    max_failures: float
    """Failed episodes that still count as done: a share of those stored, or as an int their number."""
    interrupted: bool
    """Whether someone stopped it."""
    dropped: int
    """Episodes in flight at the interruption, not stored: resuming runs them again."""
    error: str | None
    """What ended the run early, if anything did."""
    lengths: tuple[LengthCount, ...] = ()
    """What the store holds of this run, by length: which episodes used up their time."""
    set_up_s: float
    """From the command to the first episode, seconds."""
    wall_s: float
    """From the command to here, seconds."""

    @property
    def missing(self) -> int:
        """Episodes that are not in the store."""
        return max(0, self.expected - self.counts.episodes)

    @property
    def failed(self) -> int:
        """Failed episodes."""
        return self.counts.by_outcome.get("error", 0)

    @property
    def too_many_failed(self) -> bool:
        """Whether more failed than the run allows."""
        return self.failed > allowed_failures(self.max_failures, self.counts.episodes)

    @property
    def exit_code(self) -> int:
        """0 all there and few failed, 1 not, 130 interrupted before all were there."""
        if self.missing and self.interrupted:
            return exits.INTERRUPTED
        if self.missing or self.error is not None or self.too_many_failed:
            return exits.FAILED
        return exits.DONE

    @property
    def reason(self) -> str:
        """Why this exit code."""
        if self.missing and self.interrupted:
            return f"interrupted with {self.missing:,} episodes to go ({self.dropped:,} of them were in flight)"
        if self.error is not None:
            return self.error
        if self.missing:
            return f"{self.missing:,} episodes are not in the store"
        if self.too_many_failed:
            share = self.failed / max(1, self.counts.episodes)
            allowed = allowance_text(self.max_failures)
            return f"{self.failed:,} episodes failed ({share:.1%}); {allowed} may (run.max_failures)"
        return "every episode is accounted for"


def success(counts: Counts) -> Share:
    """Solved episodes as a share of those that did not end in an error."""
    outcomes = counts.by_outcome
    return wilson(outcomes.get("success", 0), counts.episodes - outcomes.get("error", 0))


def summary_figures(ending: Ending, directory: RunDirectory) -> dict[str, Any]:
    """What `summary.json` says."""
    snapshot = ending.snapshot
    return {
        "run": directory.run,
        "exit_code": ending.exit_code,
        "reason": ending.reason,
        "episodes_expected": ending.expected,
        "episodes_stored": ending.counts.episodes,
        "episodes_missing": ending.missing,
        "sources": {source: _source_figures(ending.counts.only(source=source)) for source in SOURCES},
        "failures": ending.counts.by_error_kind,
        "retried": snapshot.counters.get("retried", 0),
        "lengths": [{"steps": one.steps, "episodes": one.episodes, "timeouts": one.timeouts} for one in ending.lengths],
        "alive_peak": snapshot.alive_peak,
        "set_up_s": round(ending.set_up_s, 3),
        "run_s": round(snapshot.elapsed_s, 3),
        "wall_s": round(ending.wall_s, 3),
        "steps_per_s": round(snapshot.steps_per_s, 2),
        "tokens": {
            role: {
                "requests": count.requests,
                "prompt": count.prompt,
                "generated": count.generated,
                "cached": count.cached,
                "cached_share": count.cached_share,
            }
            for role, count in snapshot.tokens.items()
        },
        "trust": _trust_figures(TrustFigures(snapshot.counters)),
        "station_shares": snapshot.station_shares(),
        "loop_lag_p99_s": snapshot.lag.p99_s,
        "rss_peak_mib": round(snapshot.rss_peak_mib, 1),
        "store": str(directory.store),
        "log": str(directory.log),
    }


def _source_figures(counts: Counts) -> Mapping[str, Any]:
    share = success(counts)
    return {
        "episodes": counts.episodes,
        "steps": counts.steps,
        "outcomes": counts.by_outcome,
        "success": {"value": share.value, "low": share.low, "high": share.high, "n": share.trials},
    }


def _trust_figures(trust: TrustFigures) -> Mapping[str, Any]:
    """What the run-time checks found in this sitting; null is a rate of nothing."""
    return {
        "contradicting_steps_per_100_before": trust.contradictions_before,
        "contradicting_steps_per_100_after": trust.contradictions_after,
        "steps_before": trust.steps_first,
        "steps_after": trust.steps_kept,
        "contradictions_by_rule_before": trust.rules_before,
        "contradictions_by_rule_after": trust.rules_after,
        "steps_amended": trust.amended,
        "episodes_failed_by_contradictions": trust.inconsistent,
        "verified_steps": trust.decided,
        "disagreements": trust.disagreements,
        "disagreement_rate": trust.disagreement_rate,
        "disagreements_by_kind": trust.disagreements_by_kind,
        "gate": {"asked": trust.gated, "doubted": trust.doubted, "answered_by_reality": trust.grounded},
        "transition_cache": {
            "asked": trust.cache_asked,
            "saved_engine_calls": trust.saved_calls,
            "saved_share": trust.saved_share,
            "saved_tokens": trust.saved_tokens,
        },
    }


def render_summary(ending: Ending, directory: RunDirectory) -> str:
    """What the terminal shows at the end."""
    snapshot, counts = ending.snapshot, ending.counts
    lines = ["", f"{counts.episodes:,} of {ending.expected:,} episodes stored; {ending.reason}."]
    for source in SOURCES:
        of_source = counts.only(source=source)
        if of_source.episodes:
            lines.append(f"  {source:<9}{_outcomes(of_source)}")
    if counts.by_error_kind:
        lines.append("  failed   " + figures.counted(counts.by_error_kind, nothing="", of="episodes"))
    if any(one.timeouts for one in ending.lengths):
        shares = ", ".join(f"{one.timeouts:,} of {one.episodes:,} with {one.steps}" for one in ending.lengths)
        lines.append(f"  timeouts by length in steps: {shares}")
    tokens = sum(count.prompt + count.generated for count in snapshot.tokens.values())
    prompt = sum(count.prompt for count in snapshot.tokens.values())
    cached = sum(count.cached for count in snapshot.tokens.values())
    seconds = max(snapshot.elapsed_s, 1e-9)
    lines.append(
        f"  speed    {figures.clock_time(snapshot.elapsed_s)} for {snapshot.steps:,} steps: "
        f"{snapshot.steps_per_s:,.1f} steps/s, {tokens / seconds:,.0f} tokens/s, "
        f"prefix-cache hits {figures.percent(cached / prompt if prompt else None)}; "
        f"set-up {figures.clock_time(ending.set_up_s)}"
    )
    lines.append(
        f"  at once  {snapshot.alive_peak:,} episodes alive at the peak, "
        f"{snapshot.rss_peak_mib:,.0f} MiB in this process, loop lag p99 {snapshot.lag.p99_s * 1000:,.0f} ms"
    )
    if trusted := figures.trust(TrustFigures(snapshot.counters)):
        lines.append(f"  trust    {trusted}")
    shares = ", ".join(f"{name} {figures.percent(share)}" for name, share in snapshot.station_shares().items())
    if shares:
        lines.append(f"  time in  {shares}")
    lines += ["", f"  store    {directory.store}", f"  log      {directory.log}", f"  summary  {directory.summary}"]
    shown = shown_path(directory.path)
    lines.append(f"  look     dreamsim episodes --run {shown}")
    if ending.missing:
        lines.append(f"  go on    python -m dreamsim.run --run.resume {shown}")
    return "\n".join(lines)


def _outcomes(counts: Counts) -> str:
    outcomes = counts.by_outcome
    share = success(counts)
    text = f"{counts.episodes:,} episodes, {counts.steps:,} steps"
    if share.value is not None:
        text += f"; success {share.value:.1%} (95 %: {share.low:.1%} to {share.high:.1%})"
    named = [
        f"{outcomes[name]:,} {word}"
        for name, word in (("failure", "lost"), ("truncated", "ran out of steps"), ("error", "failed"))
        if outcomes.get(name)
    ]
    return text + (f"; {', '.join(named)}" if named else "")
