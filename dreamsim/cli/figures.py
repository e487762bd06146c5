"""What the display says about a moment of the run, as plain text.

In: two snapshots and how many episodes there are to be. Out: short texts. Always: pure; a share of nothing is
shown as a dash, never as a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dreamsim.runtime.snapshot import Rates, Snapshot
from dreamsim.runtime.trust_counts import TrustFigures

DASH = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A run at one moment, with what is needed to judge its progress."""

    now: Snapshot
    """The present."""
    before: Snapshot
    """The snapshot shown before, for rates."""
    total: int
    """Episodes to run, those finished by an earlier run included."""
    max_steps: int
    """Longest an episode can be, steps."""
    store_lag_s: float = 0.0
    """Age of the oldest episode that waits for the store, seconds."""

    @property
    def rates(self) -> Rates:
        """Rates between the two snapshots."""
        return self.now.since(self.before)

    @property
    def trust(self) -> TrustFigures:
        """What the run-time checks counted so far."""
        return TrustFigures(self.now.counters)

    @property
    def finished(self) -> int:
        """Episodes over, those of an earlier run included."""
        return self.now.done + self.now.skipped

    @property
    def expected_length(self) -> float:
        """Expected steps per episode: all steps over all ends seen (live episodes are censored), at most max_steps."""
        if self.now.done == 0:
            return float(self.max_steps)
        return min(float(self.max_steps), max(1.0, self.now.steps / self.now.done))

    @property
    def share(self) -> float:
        """Share of the work that is done: finished episodes whole, live ones by their steps."""
        to_do = max(1, self.total - self.now.skipped)
        by_steps = self.now.steps / (to_do * self.expected_length)
        return min(1.0, max(by_steps, self.now.done / to_do)) if self.now.done < to_do else 1.0

    @property
    def eta_s(self) -> float | None:
        """Seconds to go, or None while that cannot be told."""
        share = self.share
        return self.now.elapsed_s * (1 - share) / share if share > 0.01 and self.now.elapsed_s > 0 else None


def progress(moment: Moment) -> str:
    """`512 of 2,048 episodes`."""
    return f"{moment.finished:,} of {moment.total:,} episodes"


def flight(moment: Moment) -> str:
    """Episodes alive now and at most."""
    return f"{moment.now.alive:,} in flight (peak {moment.now.alive_peak:,})"


def success(moment: Moment) -> str:
    """Share of successes among finished episodes that did not fail."""
    return f"success {percent(moment.now.success_share)}"


def failures(moment: Moment) -> str:
    """Failed episodes by type."""
    return counted(moment.now.failures, nothing="no failures", of="failed")


def speed(moment: Moment) -> str:
    """Steps and tokens per second."""
    rates = moment.rates
    tokens = rates.prompt_tokens_per_s + rates.generated_tokens_per_s
    return f"{rates.steps_per_s:,.0f} steps/s, {tokens:,.0f} tokens/s ({rates.generated_tokens_per_s:,.0f} generated)"


def cache(moment: Moment) -> str:
    """Prompt tokens served from the prefix cache."""
    prompt = sum(count.prompt for count in moment.now.tokens.values())
    cached = sum(count.cached for count in moment.now.tokens.values())
    return f"prefix-cache hits {percent(cached / prompt if prompt else None)}"


def store(moment: Moment) -> str:
    """Age of what waits for the store, and how much does."""
    return f"store lag {moment.store_lag_s:.2f} s ({moment.now.storing:,} waiting)"


def loop(moment: Moment) -> str:
    """Event loop lag and memory."""
    return f"loop lag p99 {moment.now.lag.p99_s * 1000:,.0f} ms, memory {moment.now.rss_mib:,.0f} MiB"


def stations(moment: Moment) -> str:
    """Where episodes spend their time, the bottleneck first."""
    shares = moment.now.station_shares()
    if not shares:
        return f"bottleneck {DASH}"
    rest = ", ".join(f"{name} {percent(share)}" for name, share in list(shares.items())[:4])
    return f"bottleneck {moment.now.bottleneck()}: {rest}"


def trust(figures: TrustFigures) -> str:
    """How far the dream was to be trusted, and what the transition cache saved; empty where nothing was checked."""
    parts: list[str] = []
    before, after = figures.contradictions_before, figures.contradictions_after
    if before is not None:
        kept = DASH if after is None else f"{after:.2f}"
        amended = f", {figures.amended:,} of them amended" if figures.amended else ""
        parts.append(f"contradicting steps {before:.2f} of 100 before the check{amended}, {kept} after")
    if figures.decided:
        parts.append(f"verifier disagrees on {percent(figures.disagreement_rate)} of {figures.decided:,} steps")
    if figures.gated:
        answered = f", reality answered {figures.grounded:,}" if figures.grounded else ""
        parts.append(f"gate doubts {figures.doubted:,} of {figures.gated:,}{answered}")
    if figures.cache_asked:
        parts.append(f"cache saved {figures.saved_calls:,} engine calls ({percent(figures.saved_share)})")
    return "; ".join(parts)


def counted(counts: Mapping[str, int], *, nothing: str, of: str) -> str:
    """`3 failed (parse 2, engine 1)`."""
    total = sum(counts.values())
    if not total:
        return nothing
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f"{total:,} {of} ({kinds})"


def percent(share: float | None) -> str:
    """`31.2 %`, or a dash."""
    return DASH if share is None else f"{share * 100:.1f} %"


def clock_time(seconds: float | None) -> str:
    """`4:05` or `1:04:05`; a dash for None."""
    if seconds is None:
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
