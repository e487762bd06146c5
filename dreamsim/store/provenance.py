"""What a row of `episodes` says of where the episode comes from.

In: columns. Out: a `Provenance`, which a quality filter judges. Always: it is that of the episode that was stored
(`Provenance.of`), scores that were added later included.
"""

from __future__ import annotations

import json
from typing import Any

from dreamsim.records.quality import Provenance, overall

PROVENANCE_COLUMNS = "e.source, e.generation, e.outcome, e.quality, e.contradictions, e.verified"
"""Columns for `read_provenance`, of the table `episodes` under the name `e`."""


def read_provenance(columns: tuple[Any, ...]) -> Provenance:
    """The provenance that `PROVENANCE_COLUMNS` hold."""
    source, generation, outcome, quality, contradictions, verified = columns
    return Provenance(
        source=source,
        generation=generation,
        outcome=outcome,
        quality=overall(json.loads(quality)),
        contradictions=contradictions,
        verified=bool(verified),
    )
