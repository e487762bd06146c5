"""The learning rate's schedule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim_trainers.optimisation import OptimiserSettings


def test_the_rate_rises_stays_and_falls() -> None:
    settings = OptimiserSettings(learning_rate=1.0, warmup_updates=2, decay_from=4, decay_updates=3)
    assert [settings.rate(made) for made in range(9)] == pytest.approx([0.5, 1, 1, 1, 0.75, 0.5, 0.25, 0.25, 0.25])


def test_the_rate_is_constant_unless_told_otherwise() -> None:
    settings = OptimiserSettings(learning_rate=0.3)
    assert {settings.rate(made) for made in range(100)} == {0.3}


@given(warm=st.integers(0, 20), start=st.integers(0, 50), decay=st.integers(0, 50), made=st.integers(0, 200))
def test_the_rate_is_never_zero_nor_above_its_peak(warm: int, start: int, decay: int, made: int) -> None:
    settings = OptimiserSettings(learning_rate=1.0, warmup_updates=warm, decay_from=start, decay_updates=decay)
    assert 0 < settings.rate(made) <= 1
