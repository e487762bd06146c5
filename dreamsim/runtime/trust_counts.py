"""How far the dream could be trusted, in counts: contradictions, disagreements, doubts, saved engine calls.

In: one call per thing that a run-time check found. Out: entries of the telemetry's counters, and `TrustFigures`, which
reads them back from a snapshot.
Always: a rate of nothing is None; a step counts once as first output and at most once as kept, however many rules it
breaks; the counts by rule count every contradiction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dreamsim.records.trust import Contradiction, VerifiedOutcome

FIRST: Final = "consistency_first"
FIRST_CONTRADICTING: Final = "consistency_first_contradicting"
KEPT: Final = "consistency_kept"
KEPT_CONTRADICTING: Final = "consistency_kept_contradicting"
FAILED: Final = "consistency_failed"
FIRST_RULE: Final = "consistency_first_rule:"
KEPT_RULE: Final = "consistency_kept_rule:"
AMENDED: Final = "consistency_amended"
VERIFIED: Final = "verified"
DECIDED: Final = "verified_decided"
DISAGREED: Final = "verified_disagreed"
DISAGREED_HOW: Final = "verified_disagreed:"
GATED: Final = "gate_asked"
DOUBTED: Final = "gate_doubted"
GROUNDED: Final = "gate_grounded"
HITS: Final = "transition_cache_hits"
MISSES: Final = "transition_cache_misses"
SAVED_TOKENS: Final = "transition_cache_saved_tokens"


class TrustCounter:
    """Counts what the run-time checks find, in the counters of the run's telemetry."""

    __slots__ = ("_counters",)

    def __init__(self, counters: Counter[str] | None = None) -> None:
        """Count in `counters`; in some of its own when there are none."""
        self._counters: Counter[str] = Counter() if counters is None else counters

    @property
    def figures(self) -> TrustFigures:
        """What was counted so far."""
        return TrustFigures(self._counters)

    def first(self, contradictions: Sequence[Contradiction]) -> None:
        """The first output of a step that is a transition, and what contradicts in it."""
        self._counters[FIRST] += 1
        self._counters[FIRST_CONTRADICTING] += bool(contradictions)
        for found in contradictions:
            self._counters[FIRST_RULE + found.rule] += 1

    def kept(self, contradictions: Sequence[Contradiction]) -> None:
        """A step that was kept, and what contradicts in it."""
        self._counters[KEPT] += 1
        self._counters[KEPT_CONTRADICTING] += bool(contradictions)
        for found in contradictions:
            self._counters[KEPT_RULE + found.rule] += 1

    def amended(self) -> None:
        """A step whose samples contradicted, and that is as the books say."""
        self._counters[AMENDED] += 1

    def inconsistent(self) -> None:
        """A step without a sample that does not contradict: its episode fails."""
        self._counters[FAILED] += 1

    def verified(self, claimed: VerifiedOutcome, told: VerifiedOutcome | None) -> None:
        """A verifier was asked of a step whose outcome was `claimed`; `told` is None when it could not tell."""
        self._counters[VERIFIED] += 1
        if told is None:
            return
        self._counters[DECIDED] += 1
        if told != claimed:
            self._counters[DISAGREED] += 1
            self._counters[f"{DISAGREED_HOW}{claimed}->{told}"] += 1

    def gated(self, *, doubted: bool) -> None:
        """The uncertainty gate looked at a sample; `doubted` if it is above the threshold."""
        self._counters[GATED] += 1
        self._counters[DOUBTED] += doubted

    def grounded(self) -> None:
        """The real environment answered in the experience model's place."""
        self._counters[GROUNDED] += 1

    def cached(self, *, hit: bool, tokens: int) -> None:
        """The transition cache was asked; a hit saved an engine call and the generation of `tokens`."""
        self._counters[HITS if hit else MISSES] += 1
        if hit:
            self._counters[SAVED_TOKENS] += tokens


@dataclass(frozen=True, slots=True)
class TrustFigures:
    """The counts of a snapshot, read as rates."""

    counters: Mapping[str, int]
    """`Snapshot.counters`."""

    @property
    def steps_first(self) -> int:
        """Steps whose first transition was held against the ledger."""
        return self._of(FIRST)

    @property
    def steps_kept(self) -> int:
        """Steps that were kept with a ledger running beside them."""
        return self._of(KEPT)

    @property
    def contradictions_before(self) -> float | None:
        """Contradicting steps per 100 dreamed steps, by the first transition of each: as without the check."""
        return _per(100 * self._of(FIRST_CONTRADICTING), self.steps_first)

    @property
    def contradictions_after(self) -> float | None:
        """Contradicting steps per 100 steps that were kept."""
        return _per(100 * self._of(KEPT_CONTRADICTING), self.steps_kept)

    @property
    def rules_before(self) -> dict[str, int]:
        """Contradictions in first transitions, by rule, the most frequent first."""
        return self._by(FIRST_RULE)

    @property
    def rules_after(self) -> dict[str, int]:
        """Contradictions in steps that were kept, by rule."""
        return self._by(KEPT_RULE)

    @property
    def amended(self) -> int:
        """Of the steps that were kept, those that are as the books say, because the samples contradicted them."""
        return self._of(AMENDED)

    @property
    def inconsistent(self) -> int:
        """Episodes that failed because every sample of a step contradicted."""
        return self._of(FAILED)

    @property
    def decided(self) -> int:
        """Steps of which a verifier could tell the outcome."""
        return self._of(DECIDED)

    @property
    def disagreements(self) -> int:
        """Of these, steps where the experience model had said otherwise."""
        return self._of(DISAGREED)

    @property
    def disagreement_rate(self) -> float | None:
        """`disagreements` as a share of `decided`."""
        return _per(self.disagreements, self.decided)

    @property
    def disagreements_by_kind(self) -> dict[str, int]:
        """Disagreements as `claimed->verified`."""
        return self._by(DISAGREED_HOW)

    @property
    def gated(self) -> int:
        """Samples that the uncertainty gate looked at."""
        return self._of(GATED)

    @property
    def doubted(self) -> int:
        """Of these, above the threshold."""
        return self._of(DOUBTED)

    @property
    def grounded(self) -> int:
        """Steps that the real environment answered."""
        return self._of(GROUNDED)

    @property
    def cache_asked(self) -> int:
        """Requests that went to the transition cache."""
        return self._of(HITS) + self._of(MISSES)

    @property
    def saved_calls(self) -> int:
        """Engine calls that the transition cache saved."""
        return self._of(HITS)

    @property
    def saved_tokens(self) -> int:
        """Tokens that were not generated because of that."""
        return self._of(SAVED_TOKENS)

    @property
    def saved_share(self) -> float | None:
        """`saved_calls` as a share of `cache_asked`."""
        return _per(self.saved_calls, self.cache_asked)

    def _of(self, name: str) -> int:
        return self.counters.get(name, 0)

    def _by(self, prefix: str) -> dict[str, int]:
        found = {name.removeprefix(prefix): n for name, n in self.counters.items() if name.startswith(prefix)}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _per(part: float, whole: int) -> float | None:
    return part / whole if whole else None
