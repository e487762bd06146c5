"""Confidence intervals of shares.

In: counts. Out: an interval. Always: inside [0, 1]; a share of nothing is anything from 0 to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of a sample, with the interval its true value lies in."""

    value: float | None
    """Successes over trials; None without trials."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    trials: int
    """Sample size."""


def wilson(successes: int, trials: int, *, z: float = Z95) -> Share:
    """Wilson's score interval (1927): centre (p + z²/2n) / (1 + z²/n), half width z/(1 + z²/n) √(p(1-p)/n + z²/4n²).

    Raises:
        ValueError: more successes than trials, or fewer than none.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    if trials == 0:
        return Share(value=None, low=0.0, high=1.0, trials=0)
    p = successes / trials
    low, high = score_interval(p, trials, z=z)
    return Share(value=p, low=low, high=high, trials=trials)


def score_interval(p: float, n: float, *, z: float = Z95) -> tuple[float, float]:
    """Lower and upper end of Wilson's interval for a share `p` of `n` trials; `n` may be an effective sample size."""
    shrink = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if p == 0 else max(0.0, centre - half)
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return low, high
