"""The choice among items: enough real ones, and otherwise by weight."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsim.errors import ConfigurationError
from dreamsim.records.balance import Balance

ITEMS = st.lists(st.tuples(st.floats(-5, 5), st.booleans()), max_size=30)


def chosen(balance: Balance, items: list[tuple[float, bool]], n: int) -> list[int]:
    keys = np.array([key for key, _ in items], dtype=np.float64)
    real = np.array([is_real for _, is_real in items], dtype=bool)
    return [int(place) for place in balance.choose(keys, real, n)]


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


@given(items=ITEMS, n=st.integers(0, 40), share=st.floats(0, 1))
def test_enough_of_the_choice_is_real_whenever_there_are_enough(
    items: list[tuple[float, bool]], n: int, share: float
) -> None:
    places = chosen(Balance(real_share=share), items, n)
    assert len(places) == len(set(places)) == min(n, len(items))
    real = sum(items[place][1] for place in places)
    available = sum(is_real for _, is_real in items)
    assert real >= min(math.floor(share * n), available)
    assert real >= share * n - 1e-6 or real == available


@given(items=ITEMS, n=st.integers(0, 40))
def test_without_a_floor_the_greatest_keys_are_chosen(items: list[tuple[float, bool]], n: int) -> None:
    best = sorted(range(len(items)), key=lambda place: -items[place][0])
    assert chosen(Balance(), items, n) == best[:n]


@given(items=ITEMS, n=st.integers(0, 40), share=st.floats(0, 1))
def test_what_is_chosen_comes_in_order_and_beats_what_is_not(
    items: list[tuple[float, bool]], n: int, share: float
) -> None:
    places = chosen(Balance(real_share=share), items, n)
    keys = [items[place][0] for place in places]
    assert keys == sorted(keys, reverse=True)
    for kind in (True, False):
        taken = [items[place][0] for place in places if items[place][1] is kind]
        left = [key for place, (key, real) in enumerate(items) if real is kind and place not in places]
        assert not taken or not left or min(taken) >= max(left)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e9), st.floats(0, 1)), max_size=9))
def test_weights_that_are_off_are_all_one(items: list[tuple[float, float, float]]) -> None:
    ages, ages_s, qualities = (column(*values) for values in zip(*items, strict=True)) if items else [column()] * 3
    assert not Balance().weighs
    assert np.exp(Balance().log_weights(ages, ages_s, qualities)).tolist() == [1.0] * len(items)


def test_the_weight_is_the_product_that_the_formula_says() -> None:
    balance = Balance(half_life=10, half_life_s=60, quality_weight=2)
    assert balance.weighs
    weights = np.exp(balance.log_weights(column(0, 10, 0, 0, 20), column(0, 0, 60, 0, 60), column(1, 1, 1, 0.5, 0.5)))
    assert weights == pytest.approx([1, 0.5, 0.5, 0.25, 0.25 * 0.5 * 0.25])


def test_quality_zero_still_has_a_chance() -> None:
    weights = np.exp(Balance(quality_weight=1).log_weights(column(0), column(0), column(0)))
    assert weights[0] == pytest.approx(0.01)


def test_a_tenth_of_thirty_is_three() -> None:
    assert Balance(real_share=0.1).least_real(30) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"real_share": 1.5},
        {"half_life": 0},
        {"half_life_s": math.inf},
        {"quality_weight": -1},
        {"candidates": 0},
        {"real_share": math.nan},
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        Balance(**settings)  # type: ignore[arg-type]
