"""The settings of what stored experience may be used: `store.filter` and `experience.balance`.

In: text from flags, the environment and TOML files. Out: sections of `runtime.config`, and the records they stand for.
Always: the defaults let real experience alone be retrieved, and of dreams, once they are asked for, only proven ones.
"""

from __future__ import annotations

from dreamsim.records.balance import Balance
from dreamsim.records.episode import SOURCES, Source
from dreamsim.records.quality import QualityFilter
from dreamsim.runtime.setting import OptionalFloat, OptionalInt, Section, setting


class FilterSection(Section):
    """What may be retrieved and learned from; all but `min_quality` is about dreams."""

    min_quality: float = setting(0.5, "least value of an episode's worst score", unit="share", ge=0, le=1)
    max_generation: OptionalInt = setting(
        1, "1 is dreamed from real experience alone, 2 from such dreams too, and so on; or none", ge=0
    )
    finished_only: bool = setting(True, "no dream that ended in an error")
    contradiction_free: bool = setting(True, "no dream with a contradiction that was only marked")
    verified_only: bool = setting(True, "no dream whose end no verifier confirmed")

    @property
    def rule(self) -> QualityFilter:
        """The filter that these settings describe."""
        return QualityFilter(
            min_quality=self.min_quality,
            max_generation=self.max_generation,
            finished_only=self.finished_only,
            contradiction_free=self.contradiction_free,
            verified_only=self.verified_only,
        )


class BalanceSection(Section):
    """Which similar experiences are shown (docs/sampling.md)."""

    dreamed: bool = setting(False, "also show dreams that pass `store.filter`; no: only what really happened")
    real_share: float = setting(
        0.5, "at least this share of what is shown is real, as far as there is enough", unit="share", ge=0, le=1
    )
    half_life: OptionalFloat = setting(
        None,
        "an experience counts half after so many further episodes; none: age does not matter",
        unit="episodes",
        gt=0,
    )
    half_life_s: OptionalFloat = setting(None, "the same in time", unit="s", gt=0)
    quality_weight: float = setting(0.0, "exponent of quality: 0 ignores it, 1 is proportional", ge=0)
    candidates: int = setting(32, "so many of the most similar are weighed", unit="experiences", ge=1)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Which experiences may be shown."""
        return SOURCES if self.dreamed else ("real",)

    @property
    def rule(self) -> Balance:
        """The balance that these settings describe."""
        return Balance(
            real_share=self.real_share,
            half_life=self.half_life,
            half_life_s=self.half_life_s,
            quality_weight=self.quality_weight,
            candidates=self.candidates,
        )
