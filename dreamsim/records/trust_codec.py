"""What run-time checks found of a transition, to plain JSON values and back (docs/data-format.md).

In: a `Trust`, or a JSON value that claims to be one. Out: the other. Always: `trust_from_json(trust_to_json(t))`
equals `t`; what equals its default is left out; reading is strict, as in `records.codec`.
"""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from typing import Any, Final, get_args

from dreamsim.errors import RecordError
from dreamsim.records.fields import Fields
from dreamsim.records.trust import Contradiction, GateFeatures, Trust, Verdict, VerifiedOutcome

OUTCOMES: Final[tuple[VerifiedOutcome, ...]] = get_args(VerifiedOutcome)


def trust_to_json(trust: Trust) -> dict[str, Any]:
    """The JSON form; an empty object when the checks found nothing."""
    result: dict[str, Any] = {}
    if trust.contradictions:
        result["contradictions"] = _contradictions_to_json(trust.contradictions)
    if trust.rejected:
        result["rejected"] = _contradictions_to_json(trust.rejected)
    if trust.verdict is not None:
        result["verdict"] = _verdict_to_json(trust.verdict)
    if trust.claimed is not None:
        result["claimed"] = trust.claimed
    if trust.uncertainty is not None:
        result["uncertainty"] = trust.uncertainty
    if trust.features is not None:
        result["features"] = features_to_json(trust.features)
    if trust.amended:
        result["amended"] = True
    if trust.grounded:
        result["grounded"] = True
    if trust.cached:
        result["cached"] = True
    return result


def trust_from_json(value: object, where: str = "") -> Trust:
    """Read what the checks found.

    Raises:
        RecordError: not that; the message names the field.
    """
    fields = Fields(value, where)
    uncertainty = fields.optional_number("uncertainty")
    if uncertainty is not None and not 0 <= uncertainty <= 1:
        raise RecordError(fields.path("uncertainty"), f"must lie between 0 and 1, not {uncertainty}")
    trust = Trust(
        contradictions=_read_contradictions(fields, "contradictions"),
        rejected=_read_contradictions(fields, "rejected"),
        verdict=_read_verdict(fields.value("verdict"), fields.path("verdict")) if fields.has("verdict") else None,
        claimed=fields.choice("claimed", OUTCOMES) if fields.has("claimed") else None,
        uncertainty=uncertainty,
        features=features_from_json(fields.value("features"), fields.path("features"))
        if fields.has("features")
        else None,
        amended=fields.flag("amended") if fields.has("amended") else False,
        grounded=fields.flag("grounded") if fields.has("grounded") else False,
        cached=fields.flag("cached") if fields.has("cached") else False,
    )
    fields.finish()
    return trust


def features_to_json(features: GateFeatures) -> dict[str, float]:
    """The JSON form of what the gate looked at; what was not measured is left out."""
    values = {field.name: getattr(features, field.name) for field in dataclass_fields(features)}
    return {name: float(value) for name, value in values.items() if value is not None}


def features_from_json(value: object, where: str = "") -> GateFeatures:
    """Read what the gate looked at.

    Raises:
        RecordError: not that; the message names the field.
    """
    fields = Fields(value, where)
    features = GateFeatures(**{field.name: fields.optional_number(field.name) for field in _FEATURES})
    fields.finish()
    return features


_FEATURES: Final = dataclass_fields(GateFeatures)


def _contradictions_to_json(contradictions: tuple[Contradiction, ...]) -> list[dict[str, str]]:
    return [{"rule": found.rule, "message": found.message} for found in contradictions]


def _read_contradictions(fields: Fields, name: str) -> tuple[Contradiction, ...]:
    if not fields.has(name):
        return ()
    values, where = fields.value(name), fields.path(name)
    if not isinstance(values, list | tuple):
        raise RecordError(where, "must be a list")
    return tuple(_read_contradiction(value, f"{where}[{index}]") for index, value in enumerate(values))


def _read_contradiction(value: object, where: str) -> Contradiction:
    fields = Fields(value, where)
    contradiction = Contradiction(rule=fields.text("rule"), message=fields.text("message"))
    fields.finish()
    return contradiction


def _verdict_to_json(verdict: Verdict) -> dict[str, str]:
    result = {"verifier": verdict.verifier}
    if verdict.outcome is not None:
        result["outcome"] = verdict.outcome
    if verdict.reason:
        result["reason"] = verdict.reason
    return result


def _read_verdict(value: object, where: str) -> Verdict:
    fields = Fields(value, where)
    verdict = Verdict(
        verifier=fields.text("verifier"),
        outcome=fields.choice("outcome", OUTCOMES) if fields.has("outcome") else None,
        reason=fields.text("reason", ""),
    )
    fields.finish()
    return verdict
