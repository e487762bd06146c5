"""What a row of `episodes` says of where the episode comes from.

In: columns. Out: a `Provenance`, which a quality filter judges. Always: it is that of the episode that was stored
(`Provenance.of`), scores that were added later included.
"""

from __future__ import annotations

from typing import Any

from dreamsim.records.episode import EPISODE_OUTCOMES, SOURCES
from dreamsim.records.quality import Provenance, overall
from dreamsim.store.columns import PROVENANCE_TYPES, check_row, one_of, read_scores

PROVENANCE_COLUMNS = "e.source, e.generation, e.outcome, e.quality, e.contradictions, e.verified"
"""Columns for `read_provenance`, of the table `episodes` under the name `e`."""


def read_provenance(columns: tuple[Any, ...]) -> Provenance:
    """The provenance that `PROVENANCE_COLUMNS` hold.

    Raises:
        ValueError: they hold something else.
    """
    check_row(columns, PROVENANCE_TYPES)
    source, generation, outcome, quality, contradictions, verified = columns
    return Provenance(
        source=one_of(source, SOURCES),
        generation=generation,
        outcome=one_of(outcome, EPISODE_OUTCOMES),
        quality=overall(read_scores(quality)),
        contradictions=contradictions,
        verified=bool(verified),
    )
