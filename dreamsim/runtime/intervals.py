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
    p, shrink = successes / trials, 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Share(value=p, low=low, high=high, trials=trials)
