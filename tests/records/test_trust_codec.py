from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given

from dreamsim.errors import RecordError
from dreamsim.records.codec import transition_from_json, transition_to_json
from dreamsim.records.episode import Transition
from dreamsim.records.trust import Trust, Verdict
from dreamsim.records.trust_codec import trust_from_json, trust_to_json
from dreamsim.testing.strategies import transitions, trusts


def through_json(value: object) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


@given(trust=trusts())
def test_what_checks_found_comes_back_equal(trust: Trust) -> None:
    assert trust_from_json(through_json(trust_to_json(trust))) == trust


@given(transition=transitions(), trust=trusts())
def test_a_transition_carries_what_checks_found_of_it(transition: Transition, trust: Trust) -> None:
    checked = dataclasses.replace(transition, trust=trust)
    assert transition_from_json(through_json(transition_to_json(checked))).trust == trust


@given(transition=transitions())
def test_an_unchecked_transition_says_nothing_of_checks(transition: Transition) -> None:
    assert "trust" not in transition_to_json(transition)


def test_checks_that_found_nothing_are_told_from_no_checks() -> None:
    assert trust_to_json(Trust()) == {}
    assert trust_from_json({}) == Trust()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"uncertainty": 1.5}, "t.uncertainty"),
        ({"contradictions": {}}, "t.contradictions"),
        ({"rejected": [{"rule": "one_place"}]}, r"t.rejected\[0\].message"),
        ({"verdict": {"outcome": "success"}}, "t.verdict.verifier"),
        ({"verdict": {"verifier": "v", "outcome": "maybe"}}, "t.verdict.outcome"),
        ({"features": {"agreemnt": 1}}, "t.features.agreemnt"),
        ({"cached": 1}, "t.cached"),
        ({"claims": "success"}, "t.claims"),
    ],
)
def test_what_is_wrong_is_named(value: object, field: str) -> None:
    with pytest.raises(RecordError, match=field):
        trust_from_json(value, "t")


def test_a_corrected_claim_is_a_disagreement() -> None:
    verdict = Verdict(verifier="v", outcome="running")
    assert Trust(verdict=verdict, claimed="success").disagrees("running")
    assert Trust(verdict=verdict).disagrees("success")
    assert not Trust(verdict=verdict).disagrees("running")
    assert not Trust(verdict=Verdict(verifier="v", outcome=None)).disagrees("success")
