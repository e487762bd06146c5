from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.runtime.intervals import wilson


def test_the_interval_of_a_textbook_example() -> None:
    share = wilson(81, 263)  # Newcombe 1998, table I, method 3
    assert (round(share.low, 4), round(share.high, 4)) == (0.2553, 0.3662)


def test_no_trials_say_nothing() -> None:
    share = wilson(0, 0)
    assert (share.value, share.low, share.high) == (None, 0.0, 1.0)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_share_lies_in_its_interval_inside_0_to_1(sample: tuple[int, int]) -> None:
    share = wilson(*sample)
    assert share.value is not None
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_more_successes_than_trials_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="2 successes of 1 trials"):
        wilson(2, 1)
