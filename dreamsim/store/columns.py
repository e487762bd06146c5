"""What the columns of a store may hold, and reading those that hold JSON.

In: values of rows. Out: the same values, or a `ValueError`. Always: a store may come from anybody, and SQLite keeps any
value in any column: what is read has the types that are written here, and nothing else reaches a record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TypeVar

Choice = TypeVar("Choice", bound=str)

_TEXT, _WHOLE, _REAL = frozenset({str}), frozenset({int}), frozenset({float})
_MAYBE_TEXT, _MAYBE_WHOLE, _MAYBE_REAL, _MAYBE_BYTES = (
    frozenset({kind, type(None)}) for kind in (str, int, float, bytes)
)
EPISODE_TYPES = (
    *(_WHOLE, _TEXT, _TEXT, _WHOLE, _TEXT, _TEXT, _TEXT, _MAYBE_TEXT, _MAYBE_TEXT, _TEXT, _TEXT, _REAL, _REAL),
    *(_TEXT, _TEXT, _TEXT, _TEXT, _WHOLE, _TEXT, _WHOLE, _TEXT),
)
STEP_TYPES = (
    *(_WHOLE, _WHOLE, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _REAL, _TEXT, _MAYBE_REAL, _TEXT, _WHOLE, _TEXT, _WHOLE),
    *(_MAYBE_TEXT, _MAYBE_TEXT, _MAYBE_WHOLE, _MAYBE_BYTES, _MAYBE_BYTES, _MAYBE_BYTES, _MAYBE_TEXT),
    *(_MAYBE_WHOLE, _MAYBE_WHOLE, _MAYBE_TEXT, _MAYBE_TEXT),
)
PROVENANCE_TYPES = (_TEXT, _WHOLE, _TEXT, _TEXT, _WHOLE, _WHOLE)
DRAWN_TYPES = (_WHOLE, _REAL, _WHOLE)
"""Of what sampling draws from: number, beginning, steps."""
EXPERIENCE_TYPES = (
    *(_WHOLE, _TEXT, _WHOLE, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _REAL, _TEXT),
    *(_WHOLE, _TEXT, _TEXT, _TEXT, _MAYBE_TEXT),
)


def check_row(row: tuple[Any, ...], kinds: tuple[frozenset[type], ...]) -> None:
    """Raises: ValueError: a column holds a value of another type than is ever written there."""
    for place, (value, allowed) in enumerate(zip(row, kinds, strict=True)):
        if type(value) not in allowed:
            raise ValueError(f"column {place + 1} holds {type(value).__name__}")
        if type(value) is float and not math.isfinite(value):
            raise ValueError(f"column {place + 1} holds {value}")


def one_of(value: object, choices: Sequence[Choice]) -> Choice:
    """`value` as one of `choices`.

    Raises:
        ValueError: it is none of them.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise ValueError(f"{value!r:.60} is none of {', '.join(choices)}")


def read_object(text: str) -> dict[str, Any]:
    """The JSON object in a column.

    Raises:
        ValueError: it holds something else.
    """
    found = json.loads(text)
    if type(found) is not dict:
        raise ValueError("a JSON object is something else")
    return found


def read_scores(text: str) -> dict[str, float]:
    """The scores that a row's column `quality` holds.

    Raises:
        ValueError: it holds something else.
    """
    found = read_object(text)
    if not all(type(value) in (int, float) and math.isfinite(value) for value in found.values()):
        raise ValueError("a score is no number")
    return found


def read_lines(text: str) -> tuple[str, ...]:
    """The texts in a column that holds a JSON list of them.

    Raises:
        ValueError: it holds something else.
    """
    found = json.loads(text)
    if type(found) is not list or not all(type(line) is str for line in found):
        raise ValueError("a list of texts is something else")
    return tuple(found)
