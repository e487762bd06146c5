"""The decision: which task comes next. Pure functions of what is known and of one named draw.

In: a `View` of tasks tried and untried. Out: a `Choice`.
Always: the same view, settings and draw give the same choice.

A choice is one of:
    candidate   a written task that nobody has tried; first, because only a trial shows whether it can be solved
    unseen      with probability `explore`: a cell never tried. First a family is drawn, in proportion to its share of
                the list, then one of its cells, evenly
    stale       with probability `staleness` of what remains: in proportion to how many choices ago it was tried
    value       else: first a family, in proportion to its share of the list, then one of its cells, in proportion to
                score ** sharpness

Replay by score mixed with replay by staleness follows Prioritized Level Replay (arXiv 2010.03934); the score is V of
Eq. 7 (arXiv 2511.03773) times how near the success is to the one aimed at:

    score  = V * band(p),     band(p) = 1 where |p - target| <= width, else exp(-((|p - target| - width) / width) ** 2)
    target = first - (first - last) * competence

Competence is the mean success on tasks that were not chosen for their value. So tasks get harder as the policy gets
better, and a task that is solved nearly always is left for one that is solved seldom.
The list's shares hold a family back whose tasks keep a middling success whatever is learned: V alone would choose it
more and more (docs/log.md).
A *cell* is what has a value: a task, or a cluster of tasks where there are no groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dreamsim.runtime.curriculum_settings import CurriculumSection

Why = Literal["candidate", "unseen", "stale", "value", "uniform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A cell that has a result and may be chosen."""

    cell: str
    """Its name."""
    value: float
    """V of its latest episodes."""
    success: float
    """Share of its latest episodes that solved the task."""
    age: int
    """Choices since it was last chosen, at least 1."""
    family: str = ""
    """Its family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a choice depends on."""

    tried: Sequence[Tried]
    """Cells with results."""
    untried: Mapping[str, Sequence[str]]
    """Family -> cells never chosen; no family is empty."""
    target: float
    """Success aimed at."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Family -> its share of the list of real tasks, above 0; families that are missing count as 1."""
    candidate: str | None = None
    """The written task that has waited longest for its trial, if one may be chosen now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What comes next."""

    cell: str
    """The cell."""
    why: Why
    """What it was chosen for."""


def synthetic_allowed(share: float, *, synthetic: int, total: int) -> bool:
    """Whether one more group of a written task keeps `synthetic <= share * total`, exactly, for the share as written.

    Since it then holds before and after the group, it holds after each of the group's episodes too.
    """
    return synthetic + 1 <= Fraction(str(share)) * (total + 1)


def target_success(competence: float, settings: CurriculumSection) -> float:
    """The success aimed at: from `target_first` where nothing is solved to `target_last` where everything is."""
    return settings.target_first - (settings.target_first - settings.target_last) * competence


def band(success: float, target: float, width: float) -> float:
    """How much a success counts: 1 within `width` of `target`, falling as a bell beyond."""
    beyond = max(0.0, abs(success - target) - width)
    return math.exp(-((beyond / width) ** 2))


def score(value: float, success: float, target: float, width: float) -> float:
    """V, as far as the success is near to the one aimed at."""
    return value * band(success, target, width)


def choose(view: View, settings: CurriculumSection, draw: np.random.Generator) -> Choice | None:
    """The next cell; None where there is none to choose from."""
    if view.candidate is not None:
        return Choice(cell=view.candidate, why="candidate")
    explore, by_age = draw.random(2)
    if view.untried and (explore < settings.explore or not view.tried):
        return Choice(cell=_untried(view, draw), why="unseen")
    if not view.tried:
        return None
    scores = np.array([score(one.value, one.success, view.target, settings.band) for one in view.tried])
    if by_age < settings.staleness or not scores.any():
        ages = np.array([one.age for one in view.tried], dtype=np.float64)
        return Choice(cell=view.tried[_draw(ages, draw)].cell, why="stale")
    weights = np.where(scores > 0, np.power(scores / scores.max(), settings.sharpness), 0.0)
    weights = shared_out(weights, [one.family for one in view.tried], view.shares)
    return Choice(cell=view.tried[_draw(weights, draw)].cell, why="value")


def shared_out(
    weights: NDArray[np.float64], families: Sequence[str], shares: Mapping[str, float]
) -> NDArray[np.float64]:
    """`weights` (shape [n]) scaled so that those of each of `families` (n names) sum to its share."""
    sums: dict[str, float] = {}
    for family, weight in zip(families, weights, strict=True):
        sums[family] = sums.get(family, 0.0) + float(weight)
    scaled: NDArray[np.float64] = weights * np.array([shares.get(one, 1.0) / (sums[one] or 1.0) for one in families])
    return scaled


def draw_shared(
    weighed: Sequence[tuple[str, str, float]], shares: Mapping[str, float], draw: np.random.Generator
) -> str | None:
    """One of (name, family, weight above 0): a family by its share, then by weight. None where there is nothing."""
    if not weighed:
        return None
    weights = np.array([weight for _, _, weight in weighed])
    return weighed[_draw(shared_out(weights, [family for _, family, _ in weighed], shares), draw)][0]


def _untried(view: View, draw: np.random.Generator) -> str:
    families = list(view.untried)
    weights = np.array([view.shares.get(family, 1.0) for family in families])
    cells = view.untried[families[_draw(weights, draw)]]
    return cells[int(draw.integers(len(cells)))]


def _draw(weights: NDArray[np.float64], draw: np.random.Generator) -> int:
    """An index, drawn in proportion to `weights`, of which one is above 0."""
    return int(draw.choice(len(weights), p=weights / weights.sum()))
