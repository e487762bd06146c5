"""Scores, and the filter that decides which episodes may be learned from."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from dreamsim.errors import ConfigurationError
from dreamsim.records.episode import Episode, StepOutcome, Transition
from dreamsim.records.quality import EVERYTHING, Provenance, QualityFilter, is_verified, overall, trust_scores
from dreamsim.records.state import State
from dreamsim.records.trust import Contradiction, Trust, Verdict
from dreamsim.testing.strategies import episodes

CONTRADICTION = Contradiction(rule="one_place", message="in two places")


def step(outcome: StepOutcome = "running", trust: Trust | None = None) -> Transition:
    return Transition(action="a", state=State.of(["at: x"]), reward=0.0, outcome=outcome, trust=trust)


def told(outcome: StepOutcome | None, claimed: StepOutcome | None = None) -> Trust:
    return Trust(verdict=Verdict(verifier="rules-1", outcome=outcome), claimed=claimed)


def dreamed(**changes: object) -> Provenance:
    proven = Provenance(source="dreamed", generation=1, outcome="success", quality=1.0, contradictions=0, verified=True)
    return replace(proven, **changes)  # type: ignore[arg-type]


def test_without_checks_there_are_no_scores() -> None:
    assert trust_scores([step(), step("success")]) == {}


def test_scores_say_what_the_checks_found() -> None:
    steps = [
        step(trust=Trust(uncertainty=0.5)),
        step(trust=Trust(rejected=(CONTRADICTION,), uncertainty=0.0)),
        step("failure", trust=told("failure", claimed="success")),
        step("success", trust=told("success")),
    ]
    assert trust_scores(steps) == {"consistency": 0.75, "certainty": 0.75, "agreement": 0.5}


@given(episode=episodes())
def test_scores_that_checks_imply_are_scores_an_episode_may_have(episode: Episode) -> None:
    replace(episode, quality=trust_scores(episode.transitions))


@pytest.mark.parametrize(
    ("steps", "verified"),
    [
        ([], False),
        ([step("success")], False),
        ([step(), step("success", told("success"))], True),
        ([step("success", told("failure"))], False),
        ([step("success", told(None))], False),
        ([step(trust=told("running"))], True),
        ([step(trust=told("success")), step("success", told("success"))], False),
        ([step("success", Trust(grounded=True))], True),
    ],
)
def test_an_episode_is_verified_if_its_end_is_confirmed_and_no_step_denied(
    steps: list[Transition], verified: bool
) -> None:
    assert is_verified(steps) is verified


def test_an_episode_is_as_good_as_its_worst_score() -> None:
    assert overall({"a": 0.5, "b": 1.0}) == 0.5
    assert overall({}) == 1.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"generation": 2}, "generation"),
        ({"outcome": "error"}, "failed"),
        ({"contradictions": 1}, "contradiction"),
        ({"verified": False}, "unverified"),
        ({"quality": 0.49}, "quality"),
    ],
)
def test_each_flaw_of_a_dream_is_an_objection_that_a_setting_lifts(changes: dict[str, object], reason: str) -> None:
    assert QualityFilter().objection(dreamed(**changes)) == reason
    assert EVERYTHING.objection(dreamed(**changes)) is None


def test_of_a_real_episode_only_the_scores_are_looked_at() -> None:
    real = dreamed(source="real", generation=0, outcome="error", verified=False)
    assert QualityFilter().objection(real) is None
    assert QualityFilter().objection(replace(real, quality=0.1)) == "quality"


def test_settings_without_meaning_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="min_quality"):
        QualityFilter(min_quality=2)
    with pytest.raises(ConfigurationError, match="max_generation"):
        QualityFilter(max_generation=-1)
