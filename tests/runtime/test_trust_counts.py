from __future__ import annotations

from collections import Counter

from dreamsim.records.trust import Contradiction
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.runtime.trust_counts import TrustCounter, TrustFigures

TWICE = (Contradiction(rule="one_place", message="a"), Contradiction(rule="one_place", message="b"))


def test_nothing_counted_has_no_rates() -> None:
    figures = TrustFigures(Counter())
    assert figures.contradictions_before is None
    assert figures.contradictions_after is None
    assert figures.disagreement_rate is None
    assert figures.saved_share is None


def test_a_step_that_breaks_two_rules_is_one_contradicting_step_and_two_contradictions() -> None:
    count = TrustCounter()
    count.first(TWICE)
    count.first(())
    assert count.figures.contradictions_before == 50
    assert count.figures.rules_before == {"one_place": 2}


def test_first_and_kept_are_counted_apart() -> None:
    count = TrustCounter()
    count.first(TWICE)
    count.kept(())
    assert (count.figures.contradictions_before, count.figures.contradictions_after) == (100, 0)


def test_disagreements_are_told_by_what_was_claimed_and_what_was_verified() -> None:
    count = TrustCounter()
    count.verified("success", "running")
    count.verified("running", "running")
    count.verified("failure", None)
    assert (count.figures.decided, count.figures.disagreement_rate) == (2, 0.5)
    assert count.figures.disagreements_by_kind == {"success->running": 1}


def test_what_is_counted_reaches_the_snapshot() -> None:
    telemetry = Telemetry()
    TrustCounter(telemetry.counters).cached(hit=True, tokens=12)
    figures = TrustFigures(telemetry.snapshot().counters)
    assert (figures.saved_calls, figures.saved_tokens, figures.saved_share) == (1, 12, 1.0)
