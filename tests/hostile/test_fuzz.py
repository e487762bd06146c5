"""Whatever comes in, what comes out is a result or a `DreamsimError` (`tests/hostile/targets.py` says what comes in).

A few examples of each in every run; many new ones with `-m slow` (docs/development.md).
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamsim.errors import DreamsimError
from tests.hostile.targets import TARGETS

FEW, MANY = 60, 20_000
HEALTH = (HealthCheck.too_slow, HealthCheck.filter_too_much)


def tried(name: str, examples: int, *, derandomize: bool) -> None:
    """Raises: AssertionError, or what escaped: something does not hold."""
    target = TARGETS[name]

    @settings(
        max_examples=examples, derandomize=derandomize, database=None, deadline=None, suppress_health_check=HEALTH
    )
    @given(target.draw)
    def holds(value: Any) -> None:
        with contextlib.suppress(DreamsimError):
            target.check(value)

    holds()


@pytest.mark.parametrize("name", TARGETS)
def test_what_comes_in_is_read_or_refused(name: str) -> None:
    tried(name, FEW, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_much_more_of_it_is_read_or_refused(name: str) -> None:
    tried(name, MANY, derandomize=False)


@given(st.sampled_from(sorted(TARGETS)), st.data())
@settings(max_examples=len(TARGETS))
def test_every_kind_can_be_drawn(name: str, data: st.DataObject) -> None:
    data.draw(TARGETS[name].draw)
