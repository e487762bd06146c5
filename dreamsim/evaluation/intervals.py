"""Estimates with 95 % intervals that respect what belongs together.

In: counts per episode, or one value per seed. Out: `Estimate`s.
Always:
- steps of one episode are not independent of each other: what is resampled or counted as a trial is the episode;
- the value lies in its interval; the same counts and seed give the same interval;
- an estimate of nothing has no value, and says so.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreamsim.runtime.intervals import score_interval, wilson
from dreamsim.runtime.seeds import generator

RESAMPLES = 2000
"""Bootstrap samples: the ends of a 95 % interval then rest on 50 samples each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A measured value with its 95 % interval."""

    value: float | None
    """The value; None if nothing was measured."""
    low: float | None
    """Lower end."""
    high: float | None
    """Upper end."""
    n: int
    """Sample size: trials of a share, episodes or seeds of all else."""


NOTHING = Estimate(value=None, low=None, high=None, n=0)


def proportion(successes: int, trials: int) -> Estimate:
    """A share of independent trials, with Wilson's score interval.

    Raises:
        ValueError: more successes than trials, or fewer than none.
    """
    found = wilson(successes, trials)
    return NOTHING if found.value is None else Estimate(value=found.value, low=found.low, high=found.high, n=trials)


def share(successes: Sequence[int], trials: Sequence[int]) -> Estimate:
    """A share of trials that come in clusters (the steps of an episode): one entry of both sequences per cluster.

    Wilson's score interval at the effective sample size n / d. The design effect d is the variance of the ratio
    estimate, m/(m-1) Σ (kᵢ - p nᵢ)² / n² over m clusters (Cochran 1977, eq. 6.13 without the finite population), over
    the binomial p (1 - p) / n, and at least 1.

    Raises:
        ValueError: more successes than trials in a cluster, or sequences of unequal length.
    """
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if k.shape != n.shape or (k < 0).any() or (k > n).any():
        raise ValueError("successes and trials must be of the same length, and no cluster can have more successes")
    k, n = k[n > 0], n[n > 0]
    if not len(n):
        return NOTHING
    total, clusters = float(n.sum()), len(n)
    p = float(k.sum()) / total
    effect = 1.0
    if 0 < p < 1 and clusters > 1:
        variance = clusters / (clusters - 1) * float(((k - p * n) ** 2).sum()) / total**2
        effect = max(1.0, variance / (p * (1 - p) / total))
        effect = min(effect, total)  # never fewer than one trial
    low, high = score_interval(p, total / effect)
    return Estimate(value=p, low=min(low, p), high=max(high, p), n=int(total))


Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From sums of counts, shape [b, m], to values, shape [b]; NaN where there is none."""


def bootstrap(counts: NDArray[np.float64], statistic: Statistic, *, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """A function of sums over episodes, with the percentile interval of resampling whole episodes.

    Args:
        counts: shape [episodes, m].
        statistic: applied to the sum over all episodes, and to those over each resample.
    """
    episodes = len(counts)
    if not episodes:
        return NOTHING
    value = float(statistic(counts.sum(axis=0, keepdims=True))[0])
    if math.isnan(value):
        return Estimate(value=None, low=None, high=None, n=episodes)
    draw = generator(seed, "bootstrap")
    times = draw.multinomial(episodes, np.full(episodes, 1 / episodes), size=resamples)  # [b, episodes]
    values = statistic(times @ counts)
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(value=value, low=value, high=value, n=episodes)
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value), n=episodes)


def f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of rows (TP, FP, FN); NaN where there was nothing to find and nothing was found."""
    true, false, missed = counts[:, 0], counts[:, 1], counts[:, 2]
    whole = 2 * true + false + missed
    values: NDArray[np.float64] = np.divide(2 * true, whole, out=np.full(len(counts), np.nan), where=whole > 0)
    return values


def precision(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """TP / (TP + FP) of rows (TP, FP, FN); NaN where nothing was found."""
    return mean(np.stack([counts[:, 0], counts[:, 0] + counts[:, 1]], axis=1))


def recall(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """TP / (TP + FN) of rows (TP, FP, FN); NaN where there was nothing to find."""
    return mean(np.stack([counts[:, 0], counts[:, 0] + counts[:, 2]], axis=1))


def mean(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of rows (sum, number); NaN of nothing."""
    total, number = counts[:, 0], counts[:, 1]
    values: NDArray[np.float64] = np.divide(total, number, out=np.full(len(counts), np.nan), where=number > 0)
    return values


def clustered(values: Iterable[tuple[str, float]], *, seed: int) -> Estimate:
    """The mean of values that come with the name of their cluster (an episode): bootstrap by cluster."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for cluster, value in values:
        sums[cluster][0] += value
        sums[cluster][1] += 1
    return bootstrap(np.array(list(sums.values())), mean, seed=seed) if sums else NOTHING


def clustered_quantiles(
    values: Sequence[tuple[str, float]], levels: Sequence[float], *, seed: int, resamples: int = RESAMPLES
) -> dict[float, Estimate]:
    """Quantiles (the least value with at least that share of all at or below it), bootstrap by cluster."""
    if not values:
        return dict.fromkeys(levels, NOTHING)
    names = {name: number for number, name in enumerate(dict.fromkeys(name for name, _ in values))}
    order = sorted(range(len(values)), key=lambda index: values[index][1])
    sizes = np.array([values[index][1] for index in order])
    cluster = np.array([names[values[index][0]] for index in order])
    asked = np.array(levels)
    draw = generator(seed, "bootstrap")
    found = np.empty((resamples, len(asked)))
    for row in range(resamples):
        weights = draw.multinomial(len(names), np.full(len(names), 1 / len(names)))[cluster]
        found[row] = _quantiles(sizes, weights, asked)
    whole = _quantiles(sizes, np.ones(len(sizes), dtype=np.int64), asked)
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return {
        level: Estimate(
            value=float(value), low=min(float(least), float(value)), high=max(float(most), float(value)), n=len(names)
        )
        for level, value, least, most in zip(levels, whole, low, high, strict=True)
    }


def _quantiles(
    values: NDArray[np.float64], weights: NDArray[np.int64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of sorted values that occur `weights` times."""
    up_to = np.cumsum(weights)
    wanted = np.maximum(1, np.ceil(levels * up_to[-1] - 1e-9))
    found: NDArray[np.float64] = values[np.searchsorted(up_to, wanted)]
    return found


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value per seed, with Student's t interval; without a second seed there is no interval."""
    n = len(values)
    if not n:
        return NOTHING
    centre = math.fsum(values) / n
    if n == 1:
        return Estimate(value=centre, low=None, high=None, n=1)
    deviation = math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (n - 1))
    half = student_quantile(n - 1) * deviation / math.sqrt(n)
    return Estimate(value=centre, low=centre - half, high=centre + half, n=n)


def student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t.

    Raises:
        ValueError: less than one degree of freedom.
    """
    from scipy.stats import t

    if degrees < 1:
        raise ValueError("Student's t needs at least one degree of freedom")
    return float(t.ppf(0.975, degrees))
