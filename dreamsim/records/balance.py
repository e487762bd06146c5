"""What is preferred among things of which all may be taken: the real, the new and the good.

In: for each item its age, its quality and whether it is real. Out: weights; the items that are taken. Always:
- pure functions of arrays: the same arrays give the same choice;
- `Balance()` changes nothing: all weights are 1 and nothing is demanded;
- a share of real items is met whenever there are enough of them.

The weight of item i is

    w_i = 2^(-a_i / H) * 2^(-t_i / T) * max(q_i, 0.01)^b

with a_i its age in episodes (those stored after it), t_i its age in seconds (by which the newest began later),
q_i its quality in [0, 1], and H, T, b the settings `half_life`, `half_life_s`, `quality_weight`; a factor whose setting
is off is 1. Sampling n of m items takes those with the n greatest keys log(w_i) + g_i, g_i drawn from the standard
Gumbel distribution: that is sampling without replacement, each next item with probability proportional to its weight
(Efraimidis and Spirakis 2006; Kool et al. 2019, arXiv 1903.06059). With one factor p^b this is the proportional
variant of prioritised replay (Schaul et al. 2016, arXiv 1511.05952, eq. 1). Retrieval takes the greatest
(1 + cos_i) / 2 * w_i.

Of n items, at least min(ceil(s * n), real items there are) are real, s being `real_share`: replacing real data by
what models made of it degrades each next model, adding to it does not (Gerstgrasser et al. 2024, arXiv 2404.01413).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConfigurationError

LEAST_QUALITY = 0.01
"""Quality counts as at least this: to leave items out altogether is what a filter is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What is preferred; by default nothing."""

    real_share: float = 0.0
    """At least this share is real, as far as there are real items; in [0, 1]."""
    half_life: float | None = None
    """After so many further episodes an item counts half; None is off."""
    half_life_s: float | None = None
    """After so many seconds, by the times at which episodes began; None is off."""
    quality_weight: float = 0.0
    """Exponent of quality; 0 is off, 1 proportional."""
    candidates: int = 32
    """In retrieval: how many of the most similar of each kind of episode are weighed."""

    def __post_init__(self) -> None:
        if not 0 <= self.real_share <= 1:
            raise ConfigurationError(f"real_share is {self.real_share}: it is a share, from 0 to 1")
        for name, value in (("half_life", self.half_life), ("half_life_s", self.half_life_s)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigurationError(f"{name} is {value}: it must be positive and finite; leave it out for none")
        if not 0 <= self.quality_weight < math.inf:
            raise ConfigurationError(f"quality_weight is {self.quality_weight}: it must be 0 or a positive number")
        if self.candidates < 1:
            raise ConfigurationError("candidates must be at least 1: nothing else could be returned")

    @property
    def weighs(self) -> bool:
        """Whether some items weigh more than others."""
        return self.half_life is not None or self.half_life_s is not None or self.quality_weight > 0

    def log_weights(
        self, ages: NDArray[np.float64], ages_s: NDArray[np.float64], qualities: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """log(w), shape [m], from three arrays of that shape: age in episodes, age in seconds, quality."""
        logs = np.zeros(len(ages))
        if self.half_life is not None:
            logs -= math.log(2) * ages / self.half_life
        if self.half_life_s is not None:
            logs -= math.log(2) * ages_s / self.half_life_s
        if self.quality_weight > 0:
            logs += self.quality_weight * np.log(np.maximum(qualities, LEAST_QUALITY))
        return logs

    def least_real(self, n: int) -> int:
        """How many of `n` items are to be real: ceil(s * n)."""
        return min(n, math.ceil(self.real_share * n - 1e-9))  # 0.1 * 30 is a little more than 3

    def choose(self, keys: NDArray[np.float64], real: NDArray[np.bool_], n: int) -> NDArray[np.int64]:
        """The places of at most `n` items: those with the greatest keys, among them enough real ones.

        Args:
            keys: shape [m]; of equal ones the first is preferred.
            real: which items are real, shape [m].

        Returns:
            Places, the greatest key first, shape [min(n, m)].
        """
        order = np.argsort(-keys, kind="stable")
        taken = np.zeros(len(order), dtype=bool)
        taken[np.flatnonzero(real[order])[: self.least_real(n)]] = True
        taken[np.flatnonzero(~taken)[: max(0, n - int(taken.sum()))]] = True
        chosen: NDArray[np.int64] = order[taken]
        return chosen


NO_BALANCE = Balance()
"""Prefers nothing."""
