"""Named seeds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.runtime.seeds import generator, seed_of
from dreamsim.testing.strategies import texts

NAMES = st.lists(st.one_of(texts(), st.integers()), max_size=4)


@given(st.integers(), NAMES)
def test_a_seed_depends_on_root_and_names_alone(root: int, names: list[str | int]) -> None:
    assert seed_of(root, *names) == seed_of(root, *names)
    assert 0 <= seed_of(root, *names) < 2**63


@given(st.integers(), NAMES, NAMES)
def test_other_names_give_another_seed(root: int, one: list[str | int], other: list[str | int]) -> None:
    assert (seed_of(root, *one) == seed_of(root, *other)) == (list(map(repr, one)) == list(map(repr, other)))


def test_seeds_never_change_between_versions() -> None:
    assert seed_of(0, "task", 1) == 6826553483735924997


def test_generators_of_the_same_name_draw_the_same() -> None:
    one, two = generator(3, "a").integers(0, 1000, 8), generator(3, "a").integers(0, 1000, 8)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, generator(3, "b").integers(0, 1000, 8))
