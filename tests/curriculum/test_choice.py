"""The decision, as a function of what is known."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.curriculum.choice import Choice, Tried, View, band, choose, score, synthetic_allowed, target_success
from dreamsim.runtime.curriculum_settings import CurriculumSection
from dreamsim.runtime.seeds import generator


def tried(cell: str, success: float = 0.5, *, age: int = 1) -> Tried:
    return Tried(cell=cell, value=success * (1 - success), success=success, age=age)


def view(
    *cells: Tried,
    untried: dict[str, list[str]] | None = None,
    candidate: str | None = None,
) -> View:
    return View(
        tried=cells,
        untried=untried or {},
        target=0.5,
        candidate=candidate,
    )


def often(found: View, draws: int = 400, **settings: float) -> Counter[str]:
    """How often each cell is chosen, and each reason."""
    section = CurriculumSection(**settings)  # type: ignore[arg-type]
    choices = [choose(found, section, generator(number, "test")) for number in range(draws)]
    assert None not in choices
    return Counter(name for choice in choices if choice is not None for name in (choice.cell, choice.why))


def test_a_candidate_comes_first() -> None:
    found = choose(view(tried("a"), untried={"f": ["b"]}, candidate="c"), CurriculumSection(), generator(0, "test"))
    assert found == Choice(cell="c", why="candidate")


def test_exploration_has_its_share() -> None:
    counts = often(view(tried("a"), untried={"f": ["b"]}), explore=0.3, staleness=0.0)
    assert counts["unseen"] / 400 == pytest.approx(0.3, abs=0.07)
    assert counts["a"] == counts["value"] == 400 - counts["unseen"]


def test_without_results_everything_is_exploration_and_without_tasks_there_is_no_choice() -> None:
    assert often(view(untried={"f": ["b"]}), explore=0.0)["unseen"] == 400
    assert choose(view(), CurriculumSection(), generator(0, "test")) is None


def test_cells_are_chosen_in_proportion_to_their_score() -> None:
    counts = often(view(tried("half"), tried("seldom", 0.1), tried("never", 0.0)), staleness=0.0, band=1.0)
    assert counts["half"] / counts["seldom"] == pytest.approx(0.25 / 0.09, rel=0.35)
    assert counts["never"] == 0


def test_sharpness_makes_the_best_come_more_often() -> None:
    cells = view(tried("half"), tried("seldom", 0.1), tried("never", 0.0))
    flat, sharp = (often(cells, staleness=0.0, band=1.0, sharpness=exponent) for exponent in (0.0, 8.0))
    assert flat["half"] / 400 == pytest.approx(0.5, abs=0.08)
    assert sharp["half"] > 390
    assert flat["never"] == sharp["never"] == 0


def test_staleness_has_its_share_and_goes_by_age() -> None:
    counts = often(view(tried("fresh"), tried("old", 0.0, age=99)), staleness=0.4)
    assert counts["stale"] / 400 == pytest.approx(0.4, abs=0.08)
    assert counts["old"] / counts["stale"] > 0.95


def test_where_nothing_is_worth_anything_age_decides() -> None:
    assert often(view(tried("a", 0.0), tried("b", 1.0)), staleness=0.0)["stale"] == 400


def test_families_come_as_often_as_the_list_has_them_whatever_their_value() -> None:
    """Many cells of a middling success do not crowd out the few of another family."""
    noisy = [Tried(cell=f"noisy {n}", value=0.25, success=0.5, age=1, family="noisy") for n in range(20)]
    rare = Tried(cell="rare", value=0.09, success=0.1, age=1, family="rare")
    found = View(tried=[*noisy, rare], untried={}, target=0.5, shares={"noisy": 0.4, "rare": 0.6})
    assert often(found, staleness=0.0)["rare"] / 400 == pytest.approx(0.6, abs=0.08)


def test_a_family_that_teaches_nothing_leaves_its_share_to_the_others() -> None:
    known = Tried(cell="known", value=0.0, success=1.0, age=1, family="known")
    found = View(tried=[known, tried("a")], untried={}, target=0.5, shares={"known": 0.9, "": 0.1})
    assert often(found, staleness=0.0)["a"] == 400


def test_a_family_is_explored_as_the_list_has_it() -> None:
    found = View(tried=(), untried={"f": ["a"], "g": ["b"]}, target=0.5, shares={"f": 0.8, "g": 0.2})
    assert often(found)["a"] / 400 == pytest.approx(0.8, abs=0.08)


def test_the_same_draw_gives_the_same_choice() -> None:
    found = view(tried("a"), tried("b"), untried={"f": ["c", "d"]})
    first, second = ([choose(found, CurriculumSection(), generator(n, "x")) for n in range(30)] for _ in range(2))
    assert first == second
    assert len({choice.cell for choice in first if choice is not None}) == 4


def test_the_band_is_flat_near_its_target_and_falls_beyond() -> None:
    assert [band(success, 0.5, 0.25) for success in (0.25, 0.5, 0.75)] == [1.0, 1.0, 1.0]
    assert band(1.0, 0.5, 0.25) == band(0.0, 0.5, 0.25) == pytest.approx(math.exp(-1))
    assert score(0.1, 1.0, 0.5, 0.25) == pytest.approx(0.1 * math.exp(-1))


@pytest.mark.parametrize(("competence", "target"), [(0.0, 0.8), (0.5, 0.6), (1.0, 0.4)])
def test_the_target_falls_as_competence_rises(competence: float, target: float) -> None:
    settings = CurriculumSection(target_first=0.8, target_last=0.4)
    assert target_success(competence, settings) == pytest.approx(target)


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_written_task_is_allowed_exactly_while_its_share_is_kept(hundredths: int, total: int) -> None:
    share = hundredths / 100
    synthetic = 0
    for given_so_far in range(total):
        if synthetic_allowed(share, synthetic=synthetic, total=given_so_far):
            synthetic += 1
    assert synthetic == Fraction(hundredths * total, 100).__floor__()


def test_targets_that_fall_the_wrong_way_are_refused() -> None:
    with pytest.raises(ValueError, match="harder as the policy gets better"):
        CurriculumSection(target_first=0.2, target_last=0.5)
