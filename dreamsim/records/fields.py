"""Strict reading of JSON objects, field by field.

In: a value parsed from JSON and the name it goes by. Out: typed Python values, or a `RecordError` that names
the field. Always: a field that nobody asked for is refused at `finish`, so that a misspelt name is not lost
in silence; text that is no valid Unicode and numbers that are not finite are refused, so that what was read
can be stored.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence, Sized
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import RecordError
from dreamsim.records import limits
from dreamsim.records.task import JsonScalar

Choice = TypeVar("Choice", bound=str)
Scalar = TypeVar("Scalar", np.int32, np.float32)

INTEGER_LIMIT = 2**63
"""Integers must fit 64 bits, which is what a store keeps."""


def read_text(value: object, where: str) -> str:
    """A string that can be written as UTF-8."""
    if not isinstance(value, str):
        raise RecordError(where, f"must be a string, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RecordError(where, f"is not valid Unicode: {error.reason}") from error
    if len(value) > limits.TEXT_CHARACTERS:
        raise RecordError(where, f"has {len(value):,} characters; at most {limits.TEXT_CHARACTERS:,} are read")
    return value


def read_integer(value: object, where: str, *, least: int | None = None) -> int:
    """An integer of 64 bits, at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(where, f"must be an integer, not {_kind(value)}")
    if not -INTEGER_LIMIT <= value < INTEGER_LIMIT:
        raise RecordError(where, "does not fit 64 bits")
    if least is not None and value < least:
        raise RecordError(where, f"must be at least {least}, not {value}")
    return value


def read_number(value: object, where: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError(where, f"must be a number, not {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RecordError(where, "must be a finite number")
    return number


def read_texts(value: object, where: str) -> tuple[str, ...]:
    """A list of strings."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RecordError(where, f"must be a list of strings, not {_kind(value)}")
    check_length(value, where, limits.LIST_ITEMS)
    return tuple(read_text(item, f"{where}[{index}]") for index, item in enumerate(value))


def read_lines(value: object, where: str) -> tuple[str, ...]:
    """The lines of a state: a list of strings, or one string with a line break between lines."""
    return read_texts(read_text(value, where).splitlines() if isinstance(value, str) else value, where)


def check_length(value: Sized, where: str, most: int) -> None:
    """Raises: RecordError: it holds more than `most`."""
    if len(value) > most:
        raise RecordError(where, f"holds {len(value):,}; at most {most:,} are read")


def read_array(value: object, where: str, dtype: type[Scalar]) -> NDArray[Scalar]:
    """A one-dimensional array: base64 of its little-endian bytes, or a plain list of numbers."""
    kind = np.dtype(dtype).newbyteorder("<")
    if isinstance(value, str):
        try:
            content = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RecordError(where, f"is not base64: {error}") from error
        if len(content) % kind.itemsize:
            raise RecordError(where, f"holds {len(content)} bytes, which is no multiple of {kind.itemsize}")
        check_length(range(len(content) // kind.itemsize), where, limits.ARRAY_ITEMS)
        return np.frombuffer(content, dtype=kind).astype(dtype)
    if not isinstance(value, Sequence):
        raise RecordError(where, f"must be base64 or a list of numbers, not {_kind(value)}")
    check_length(value, where, limits.ARRAY_ITEMS)
    numbers: list[float] = []
    for index, item in enumerate(value):
        name = f"{where}[{index}]"
        if issubclass(dtype, np.integer):
            numbers.append(read_integer(item, name))
            if not -(2**31) <= numbers[-1] < 2**31:
                raise RecordError(name, "does not fit 32 bits")
        else:
            numbers.append(read_number(item, name))
    return np.array(numbers, dtype=dtype)


def array_text(array: NDArray[Any], dtype: type[Scalar]) -> str:
    """The inverse of `read_array`: base64 of the array's little-endian bytes."""
    return base64.b64encode(array_bytes(array, dtype)).decode("ascii")


def array_bytes(array: NDArray[Any], dtype: type[Scalar]) -> bytes:
    """Little-endian bytes of a one-dimensional array."""
    return np.ascontiguousarray(array, dtype=np.dtype(dtype).newbyteorder("<")).tobytes()


class Fields:
    """Reads one JSON object; every getter marks its field as known."""

    __slots__ = ("_known", "_values", "where")

    def __init__(self, value: object, where: str = "") -> None:
        """Raises: RecordError: `value` is no JSON object."""
        if not isinstance(value, Mapping):
            raise RecordError(where or "record", f"must be an object, not {_kind(value)}")
        self.where = where
        self._values: Mapping[Any, Any] = value
        self._known: set[str] = set()

    def path(self, name: str) -> str:
        """The full name of a field, for messages."""
        return f"{self.where}.{name}" if self.where else name

    def has(self, name: str) -> bool:
        """Whether the field is there; null counts as absent."""
        self._known.add(name)
        return self._values.get(name) is not None

    def value(self, name: str) -> Any:
        """The raw value of a field that must be there."""
        if not self.has(name):
            raise RecordError(self.path(name), "is missing")
        return self._values[name]

    def text(self, name: str, default: str | None = None) -> str:
        """A string; required when there is no default."""
        if default is not None and not self.has(name):
            return default
        return read_text(self.value(name), self.path(name))

    def optional_text(self, name: str) -> str | None:
        """A string or None."""
        return read_text(self.value(name), self.path(name)) if self.has(name) else None

    def integer(self, name: str, default: int | None = None, *, least: int | None = None) -> int:
        """An integer; required when there is no default."""
        if default is not None and not self.has(name):
            return default
        return read_integer(self.value(name), self.path(name), least=least)

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number; required when there is no default."""
        if default is not None and not self.has(name):
            return default
        return read_number(self.value(name), self.path(name))

    def optional_number(self, name: str) -> float | None:
        """A finite number or None."""
        return read_number(self.value(name), self.path(name)) if self.has(name) else None

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise RecordError(self.path(name), f"must be true or false, not {_kind(value)}")
        return value

    def choice(self, name: str, choices: Sequence[Choice], default: Choice | None = None) -> Choice:
        """One of `choices`; required when there is no default."""
        if default is not None and not self.has(name):
            return default
        value = self.value(name)
        for choice in choices:
            if value == choice:
                return choice
        raise RecordError(self.path(name), f"must be one of {', '.join(choices)}, not {_shown(value)}")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; absent is empty."""
        return read_texts(self.value(name), self.path(name)) if self.has(name) else ()

    def lines(self, name: str) -> tuple[str, ...]:
        """The lines of a state."""
        return read_lines(self.value(name), self.path(name))

    def array(self, name: str, dtype: type[Scalar]) -> NDArray[Scalar]:
        """A one-dimensional array; absent is empty."""
        if not self.has(name):
            return np.zeros(0, dtype=dtype)
        return read_array(self.value(name), self.path(name), dtype)

    def scalars(self, name: str) -> dict[str, JsonScalar]:
        """An object of strings, numbers, booleans and nulls; absent is empty."""
        if not self.has(name):
            return {}
        value, where = self.value(name), self.path(name)
        if not isinstance(value, Mapping):
            raise RecordError(where, f"must be an object, not {_kind(value)}")
        check_length(value, where, limits.FREE_FIELDS)
        return {read_text(key, where): _scalar(item, f"{where}.{_name(key)}") for key, item in value.items()}

    def numbers(self, name: str) -> dict[str, float]:
        """An object of finite numbers; absent is empty."""
        if not self.has(name):
            return {}
        value, where = self.value(name), self.path(name)
        if not isinstance(value, Mapping):
            raise RecordError(where, f"must be an object, not {_kind(value)}")
        check_length(value, where, limits.FREE_FIELDS)
        return {read_text(key, where): read_number(item, f"{where}.{_name(key)}") for key, item in value.items()}

    def finish(self) -> None:
        """Refuse fields that nobody asked for."""
        unknown = sorted(str(name) for name in self._values if name not in self._known)
        if unknown:
            known = ", ".join(sorted(self._known))
            raise RecordError(self.path(_name(unknown[0])), f"is not a field of this schema; fields are {known}")


def _scalar(value: object, where: str) -> JsonScalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return read_text(value, where)
    if isinstance(value, int):
        return read_integer(value, where)
    return read_number(value, where)


def _shown(value: object) -> str:
    return repr(value[:60]) if isinstance(value, str) else _kind(value)


def _name(text: str) -> str:
    """A foreign field's name as messages show it."""
    return text[:60] if text.isprintable() else repr(text[:60])


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
