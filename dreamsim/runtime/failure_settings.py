"""How many failures a run may have: a share of its episodes, or a number of them.

In: a value as it is written in flags and files. Out: a float (a share from 0 to 1) or an int (episodes).
Always: what is written with a decimal point or a percent sign is a share, a whole number is a number of episodes; so
`1.0` lets every episode fail, and `1` lets one.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def parse_allowance(value: Any) -> Any:
    """A number out of text: `0.15`, `15%`, `20`; anything else as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return value


def check_allowance(value: int | float) -> int | float:
    """Refuse a number that can be neither.

    Raises:
        ValueError: it is negative, or a share above 1.
    """
    if value < 0:
        raise ValueError("cannot be negative: 0 lets no episode fail")
    if isinstance(value, float) and value > 1:
        raise ValueError(
            "a number with a decimal point is a share, from 0.0 to 1.0; write a number of episodes without"
        )
    return value


Allowance = Annotated[int | float, BeforeValidator(parse_allowance), AfterValidator(check_allowance)]
"""A share of episodes, or a number of them."""


def allowed_failures(allowance: float, episodes: int) -> int:
    """Most failures among `episodes` episodes."""
    if isinstance(allowance, int):
        return allowance
    return math.floor(allowance * episodes + 1e-9)


def allowance_text(allowance: float) -> str:
    """For a person: `15.0% of the episodes`, `20 episodes`."""
    if isinstance(allowance, int):
        return f"{allowance:,} episode{'' if allowance == 1 else 's'}"
    return f"{allowance:.1%} of the episodes"
