"""New weights of a policy, on their way from the trainer to the engines.

In: what a trainer wrote. Out: `WeightsUpdate`. Always: versions count up by one with every batch; an engine that is
told a version stamps it on every answer, as digits at the end of `Completion.version` (`12`, `policy-v12`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

InFlight = Literal["drain", "keep", "abort"]
"""What becomes of requests that an engine is answering when new weights come. `drain`: they are finished with the old
weights first. `keep`: they stop, and go on with the new weights (what they have written so far stays). `abort`: they
are begun again with the new weights. Requests that come meanwhile wait and are answered by the new weights."""
_DIGITS = re.compile(r"(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsUpdate:
    """Weights that an engine can load."""

    version: int
    """The policy version these weights are; greater than all before."""
    path: Path
    """Directory with the weights, complete before this record is sent."""
    kind: Literal["full", "lora"]
    """`full` replaces the model; `lora` is an adapter for the model that the trainer began with."""


def version_number(version: str) -> int:
    """The number that an engine's version ends with; 0 where it ends with none."""
    found = _DIGITS.search(version)
    return int(found.group()) if found else 0
