"""JSON from outside is bounded before anything is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.records import limits
from dreamsim.records.strict_json import parse_json
from tests.hostile.garbage import json_texts, json_values


@given(json_values())
def test_what_json_writes_is_read_back_equal(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@given(st.one_of(json_texts(), st.binary(max_size=60)))
def test_anything_else_is_one_kind_of_error(content: Any) -> None:
    problem = "is not "
    try:
        parse_json(content)
    except ValueError as error:
        problem = str(error)
    assert problem.startswith("is not ") or "digits" in problem


@pytest.mark.parametrize("opening", ["[", '{"a":', "[ "])
@pytest.mark.parametrize("depth", [limits.JSON_DEPTH + 1, 900, 100_000])
def test_too_many_lists_inside_each_other_are_refused(opening: str, depth: int) -> None:
    closing = "}" if "{" in opening else "]"
    with pytest.raises(ValueError, match="64 lists and objects inside each other"):
        parse_json(opening * depth + "1" + closing * depth)


def test_as_many_as_allowed_are_read() -> None:
    assert parse_json("[" * limits.JSON_DEPTH + "]" * limits.JSON_DEPTH)


def test_small_values_without_number_are_refused_before_they_fill_the_memory() -> None:
    with pytest.raises(ValueError, match="2,097,152 values"):
        parse_json(b"[" + b"[]," * limits.JSON_VALUES + b"[]]")


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1" * 5000, b'"\xed\xa0\x80"'])
def test_what_no_store_could_keep_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"is not|digits"):
        parse_json(text)
