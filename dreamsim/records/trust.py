"""What is known of how far one dreamed transition can be trusted.

In: what a ledger, a verifier and the uncertainty gate found. Out: records that are stored with the transition.
Always: they say what was found, not what was done about it; what was done shows in `samples`, in the outcome and in
the episode's error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VerifiedOutcome = Literal["running", "success", "failure"]
"""As `StepOutcome`, which stands above this file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """One way in which a transition contradicts what the episode has shown before."""

    rule: str
    """Short stable name of the rule that is broken, such as `one_place`; counted by this name."""
    message: str
    """For a person: which lines contradict each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier says of a step."""

    verifier: str
    """Name and version of who says it."""
    outcome: VerifiedOutcome | None
    """What the step led to; None when the verifier cannot tell."""
    reason: str = ""
    """Why, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFeatures:
    """What the uncertainty gate looks at; a part that was not measured is None."""

    agreement: float | None = None
    """Share, in [0, 1], of further samples whose parsed outcome (state, reward, outcome) is that of the transition."""
    mean_logprob: float | None = None
    """Mean log-probability of the answer's tokens, at most 0."""
    lowest_logprob: float | None = None
    """Log-probability of the answer's least likely token, at most 0."""
    similarity: float | None = None
    """Cosine similarity, in [-1, 1], of state and action with those of the nearest retrieved experience."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the run-time checks found of one dreamed transition."""

    contradictions: tuple[Contradiction, ...] = ()
    """What contradicts in the transition that was kept; none unless contradictions are only flagged."""
    rejected: tuple[Contradiction, ...] = ()
    """What contradicted in outputs that were sampled again, or in a claim that the verifier's word replaced."""
    verdict: Verdict | None = None
    """The verifier's word, where one was asked."""
    claimed: VerifiedOutcome | None = None
    """What the experience model claimed, where the verifier's word took its place."""
    uncertainty: float | None = None
    """Calibrated chance, in [0, 1], that the transition is wrong; None without a gate."""
    features: GateFeatures | None = None
    """What the gate looked at; of a grounded step, in the sample that reality took the place of."""
    amended: bool = False
    """Whether the books' word stands in the experience model's place, because its samples contradicted them."""
    grounded: bool = False
    """Whether the real environment answered in the experience model's place, because the gate asked it."""
    cached: bool = False
    """Whether the transition cache answered, and no engine was asked. Alone among the fields it depends on what ran at
    the same time."""

    def disagrees(self, outcome: VerifiedOutcome) -> bool:
        """Whether verifier and experience model disagree on a transition with this `outcome`."""
        told = None if self.verdict is None else self.verdict.outcome
        return told is not None and told != (outcome if self.claimed is None else self.claimed)
