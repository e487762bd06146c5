"""From a judge's scores to figures: means by criterion, agreement with the ledger, quality scores of episodes.

In: `JudgedStep`s. Out: a `JudgeReport`; named scores in [0, 1] for each episode.
Always: intervals are by episode, whose steps are not independent; what the ledger did not look at does not count for
agreement; a judge's score is the judge's opinion, and is nowhere mixed with what was verified.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreamsim.evaluation.intervals import NOTHING, Estimate, bootstrap, clustered, share
from dreamsim.experience.judge import CRITERIA, HIGHEST, Scores
from dreamsim.protocols import StateLedger
from dreamsim.records.episode import Episode


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedStep:
    """What a judge gave one step, and what the ledger found in it."""

    episode_id: str
    """Its episode."""
    step: int
    """Index of the step, from 0."""
    scores: Scores
    """The judge's scores."""
    contradictions: int | None = None
    """Contradictions that the ledger found; None where no ledger looked."""

    @property
    def faulted(self) -> bool:
        """Whether the judge finds the step less than consistent throughout."""
        return self.scores.consistency < HIGHEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How a judge's consistency score and the ledger's contradictions go together, step by step.

    The judge finds fault where consistency is below 2, the ledger where it finds a contradiction.
    """

    both: int
    """Steps in which both find fault."""
    judge_only: int
    """Steps in which only the judge does: its false alarms, or what the ledger cannot see."""
    ledger_only: int
    """Steps in which only the ledger does: what the judge overlooks."""
    neither: int
    """Steps in which neither does."""
    equal: Estimate
    """Share of steps on which they agree."""
    kappa: Estimate
    """Cohen's kappa: agreement beyond what chance gives; no value where one of them never varies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """The figures of one judge."""

    steps: int
    """Steps judged."""
    episodes: int
    """Their episodes."""
    means: Mapping[str, Estimate]
    """Criterion -> mean score, 0 to 2."""
    agreement: Agreement | None
    """With the ledger; None where no ledger looked."""


def judge_report(steps: Sequence[JudgedStep], *, seed: int = 0) -> JudgeReport:
    """The figures of `steps`; `seed` is that of the bootstrap."""
    means = {
        name: clustered([(step.episode_id, float(step.scores.by_name[name])) for step in steps], seed=seed)
        for name in CRITERIA
    }
    return JudgeReport(
        steps=len(steps),
        episodes=len({step.episode_id for step in steps}),
        means=means,
        agreement=agreement(steps, seed=seed),
    )


def agreement(steps: Iterable[JudgedStep], *, seed: int = 0) -> Agreement | None:
    """How judge and ledger agree on the steps that both looked at; None where there are none."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for step in steps:
        if step.contradictions is not None:
            counts[step.episode_id][2 * (not step.faulted) + (step.contradictions == 0)] += 1
    if not counts:
        return None
    # By columns: both find fault, only the judge, only the ledger, neither.
    table = np.array(list(counts.values()), dtype=np.float64)
    both, judge_only, ledger_only, neither = (int(count) for count in table.sum(axis=0))
    varies = min(both + judge_only, ledger_only + neither, both + ledger_only, judge_only + neither) > 0
    return Agreement(
        both=both,
        judge_only=judge_only,
        ledger_only=ledger_only,
        neither=neither,
        equal=share([row[0] + row[3] for row in counts.values()], [sum(row) for row in counts.values()]),
        kappa=bootstrap(table, cohen_kappa, seed=seed) if varies else NOTHING,
    )


def cohen_kappa(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa (p_o - p_e) / (1 - p_e) of rows (both, first only, second only, neither), shape [b, 4] to [b].

    p_o is the share of agreement, p_e that expected of two raters with the same margins who do not look (Cohen 1960).
    NaN where p_e is 1, as when both always say the same one thing, and of nothing.
    """
    total = counts.sum(axis=1)
    safe = np.where(total > 0, total, 1.0)
    first = (counts[:, 0] + counts[:, 1]) / safe
    second = (counts[:, 0] + counts[:, 2]) / safe
    observed = (counts[:, 0] + counts[:, 3]) / safe
    expected = first * second + (1 - first) * (1 - second)
    defined = (total > 0) & (expected < 1)
    values: NDArray[np.float64] = np.divide(
        observed - expected, 1 - expected, out=np.full(len(counts), np.nan), where=defined
    )
    return values


def contradictions_of(episode: Episode, ledger: StateLedger) -> tuple[int, ...]:
    """For each step of an episode, how many contradictions the ledger finds in it."""
    books = ledger.open(episode.task)
    found: list[int] = []
    for transition in episode.transitions:
        found.append(len(books.contradictions(transition)))
        books.see(transition)
    return tuple(found)


def episode_quality(steps: Iterable[JudgedStep]) -> dict[str, dict[str, float]]:
    """Episode id -> `judge_<criterion>`: mean score over its judged steps, as a share of the highest."""
    by_episode: dict[str, list[Scores]] = defaultdict(list)
    for step in steps:
        by_episode[step.episode_id].append(step.scores)
    return {
        episode: {
            f"judge_{name}": sum(scores.by_name[name] for scores in given) / (HIGHEST * len(given)) for name in CRITERIA
        }
        for episode, given in by_episode.items()
    }
