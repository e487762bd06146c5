"""How good an episode is, and which episodes may be retrieved and learned from.

In: an episode's transitions, or what a store says of an episode. Out: named scores in [0, 1]; whether a filter lets
the episode pass, and if not, why. Always:
- what really happened needs no verifier: of a real episode only its scores are looked at;
- an episode is as good as its worst score, and one without scores counts as 1: that nobody looked is what
  `verified_only` is for;
- the first objection is the one that is counted, in the order of `REASONS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode, EpisodeOutcome, Source, Transition

Reason = Literal["generation", "failed", "contradiction", "unverified", "quality"]
REASONS: tuple[Reason, ...] = get_args(Reason)


def trust_scores(transitions: Sequence[Transition]) -> dict[str, float]:
    """The scores that follow from what the run-time checks found; none where nothing was checked.

    Returns:
        `consistency`: share of checked steps without a contradiction, those that were sampled again included.
        `certainty`: 1 - mean calibrated uncertainty, over the steps that the gate looked at.
        `agreement`: share of steps with a verdict on which verifier and experience model agreed.
    """
    checked = [step.trust for step in transitions if step.trust is not None]
    scores: dict[str, float] = {}
    if checked:
        clean = sum(not (trust.contradictions or trust.rejected) for trust in checked)
        scores["consistency"] = clean / len(checked)
    uncertain = [trust.uncertainty for trust in checked if trust.uncertainty is not None]
    if uncertain:
        scores["certainty"] = min(1.0, max(0.0, 1 - math.fsum(uncertain) / len(uncertain)))
    judged = [step for step in transitions if verdict_of(step) is not None]
    if judged:
        scores["agreement"] = sum(verdict_of(step) == _claimed(step) for step in judged) / len(judged)
    return scores


def verdict_of(step: Transition) -> str | None:
    """What a verifier said the step led to; None when nobody was asked or nobody could tell."""
    return None if step.trust is None or step.trust.verdict is None else step.trust.verdict.outcome


def _claimed(step: Transition) -> str:
    return step.outcome if step.trust is None or step.trust.claimed is None else step.trust.claimed


def kept_contradictions(transitions: Sequence[Transition]) -> int:
    """Contradictions in the transitions that were kept."""
    return sum(len(step.trust.contradictions) for step in transitions if step.trust is not None)


def is_verified(transitions: Sequence[Transition]) -> bool:
    """Whether a verifier confirmed how the episode ended, and contradicts no step as it was kept.

    A last step that the real environment answered (`Trust.grounded`) needs no verifier.
    """
    if not transitions:
        return False
    last = transitions[-1]
    grounded = last.trust is not None and last.trust.grounded
    if not grounded and verdict_of(last) != last.outcome:
        return False
    return all(verdict_of(step) in (None, step.outcome) for step in transitions)


def overall(quality: Mapping[str, float]) -> float:
    """One figure for all scores: the worst of them, in [0, 1]; 1 when there are none."""
    return min(quality.values(), default=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a filter looks at."""

    source: Source
    """Real or dreamed."""
    generation: int
    """As `Episode.generation`."""
    outcome: EpisodeOutcome
    """How it ended."""
    quality: float
    """`overall` of its scores, in [0, 1]."""
    contradictions: int
    """Contradictions in its kept transitions."""
    verified: bool
    """`is_verified` of its transitions."""

    @classmethod
    def of(cls, episode: Episode) -> Provenance:
        """The provenance of an episode."""
        return cls(
            source=episode.source,
            generation=episode.generation,
            outcome=episode.outcome,
            quality=overall(episode.quality),
            contradictions=kept_contradictions(episode.transitions),
            verified=is_verified(episode.transitions),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityFilter:
    """Which episodes may be retrieved and learned from. The default lets no unproven dream pass."""

    min_quality: float = 0.5
    """The worst score must be at least this, in [0, 1]; of real episodes too."""
    max_generation: int | None = 1
    """Dreams of models that learned from or were shown dreams have generation 2 and more; None is any."""
    finished_only: bool = True
    """No dream that ended in an error, such as one that contradicted itself."""
    contradiction_free: bool = True
    """No dream that holds a contradiction which was only flagged."""
    verified_only: bool = True
    """No dream whose end a verifier did not confirm; without a verifier, no dream."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_quality <= 1:
            raise ConfigurationError(f"min_quality is {self.min_quality}: scores are shares, from 0 to 1")
        if self.max_generation is not None and self.max_generation < 0:
            raise ConfigurationError("max_generation must be at least 0, which is real episodes alone")

    def objection(self, episode: Provenance) -> Reason | None:
        """Why the episode does not pass; None when it does."""
        if episode.source == "dreamed":
            if self.max_generation is not None and episode.generation > self.max_generation:
                return "generation"
            if self.finished_only and episode.outcome == "error":
                return "failed"
            if self.contradiction_free and episode.contradictions:
                return "contradiction"
            if self.verified_only and not episode.verified:
                return "unverified"
        return "quality" if episode.quality < self.min_quality else None


DEFAULT_FILTER = QualityFilter()
"""The conservative one."""

EVERYTHING = QualityFilter(
    min_quality=0.0, max_generation=None, finished_only=False, contradiction_free=False, verified_only=False
)
"""Lets all episodes pass."""
