"""JSON from outside: bounded in size and depth before anything is made of it.

In: bytes or text. Out: plain values, or a `ValueError` whose message says what is wrong. Always: no number is NaN;
memory stays within some 100 bytes for each of `limits.JSON_VALUES`; what is returned can be walked without running into
the interpreter's limit of recursion.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from dreamsim.records import limits


def parse_json(content: bytes | str) -> Any:
    """The value that `content` writes down, UTF-8 if it is bytes.

    Raises:
        ValueError: it is no JSON, or too much of it.
    """
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"is not UTF-8: {error.reason}") from None
    if content.count(",") + content.count("[") + content.count("{") > limits.JSON_VALUES:
        raise ValueError(f"is not JSON of at most {limits.JSON_VALUES:,} values")
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    return value


def read_small_json(path: Path) -> Any:
    """The value in a file that a person or a tool of ours wrote. Blocks.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or too long.
    """
    return parse_json(read_small(path))


def read_small(path: Path) -> bytes:
    """The content of a file that a person wrote. Blocks.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too long.
    """
    with path.open("rb") as file:
        content = file.read(limits.SMALL_FILE_BYTES + 1)
    if len(content) > limits.SMALL_FILE_BYTES:
        raise ValueError(f"is longer than {limits.SMALL_FILE_BYTES:,} bytes")
    return content


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(limits.JSON_DEPTH):
        level = [
            inner
            for outer in level
            if outer.__class__ is dict or outer.__class__ is list
            for inner in (outer.values() if outer.__class__ is dict else outer)
            if inner.__class__ is dict or inner.__class__ is list
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"is not JSON of at most {limits.JSON_DEPTH} lists and objects inside each other")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"is not JSON: {name} is no number")
