"""A remembering tokenizer answers as the one behind it, and asks it once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsim.engines.remembered import LONGEST, RememberingTokenizer
from dreamsim.engines.scripted import ByteTokenizer


class Counting(ByteTokenizer):
    """Counts what it is asked."""

    asked = 0

    def encode(self, text: str) -> NDArray[np.int32]:
        self.asked += 1
        return super().encode(text)

    def decode(self, token_ids: NDArray[np.int32]) -> str:
        self.asked += 1
        return super().decode(token_ids)


@given(st.lists(st.text(max_size=2 * LONGEST), max_size=5))
def test_it_answers_as_the_tokenizer_behind_it_however_often(texts: list[str]) -> None:
    plain, remembering = ByteTokenizer(), RememberingTokenizer(ByteTokenizer())
    for text in (*texts, *texts):
        ids = plain.encode(text)
        assert np.array_equal(remembering.encode(text), ids)
        assert remembering.decode(ids) == plain.decode(ids)


def test_what_comes_again_is_tokenized_once() -> None:
    behind = Counting()
    remembering = RememberingTokenizer(behind)
    for _ in range(3):
        remembering.decode(remembering.encode("open fridge"))
    assert behind.asked == 2


def test_long_texts_are_not_kept() -> None:
    behind = Counting()
    remembering = RememberingTokenizer(behind)
    for _ in range(2):
        remembering.encode("x" * (LONGEST + 1))
    assert behind.asked == 2


def test_shared_ids_cannot_be_written_to() -> None:
    ids = RememberingTokenizer(ByteTokenizer()).encode("open fridge")
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1


def test_ids_of_another_width_are_the_same_ids() -> None:
    remembering = RememberingTokenizer(ByteTokenizer())
    assert remembering.decode(remembering.encode("door").astype(np.int64)) == "door"
