"""The uncertainty gate: how likely a dreamed transition is wrong, and what is done about it.

In: what a sample says, what further samples say, its log-probabilities, the experiences retrieved for it. Out:
`GateFeatures`, and from them a calibrated chance in [0, 1] that the transition is wrong.
Always:
- the chance comes from a logistic regression (Platt scaling in several dimensions) fitted on held-out real
  transitions: sigma(b + sum_j w_j (x_j - mean_j) / scale_j);
- a calibration is plain numbers in a JSON file, read and used without scikit-learn;
- what was not measured counts as average: x_j = mean_j.

Agreement of samples and their likelihood as signs of an error: Kadavath et al., arXiv 2207.05221; Kuhn et al.,
arXiv 2302.09664. Retrieval distance is ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConfigurationError, RecordError
from dreamsim.records.completion import Completion
from dreamsim.records.episode import Transition
from dreamsim.records.experience import Experience
from dreamsim.records.fields import Fields
from dreamsim.records.trust import GateFeatures
from dreamsim.runtime.whole_files import write_whole

GateMode = Literal["flag", "resample", "truncate", "real"]
FEATURES: Final = ("agreement", "mean_logprob", "lowest_logprob", "similarity")
SCHEMA: Final = "dreamsim-gate/1"
PENALTY: Final = 1.0
"""Inverse strength of the ridge penalty on the weights of standardised features: scikit-learn's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCalibration:
    """A fitted logistic regression over standardised features."""

    features: tuple[str, ...]
    """Names, of `FEATURES`."""
    mean: tuple[float, ...]
    """Mean of each feature where it was fitted."""
    scale: tuple[float, ...]
    """Standard deviation of each, above 0."""
    weight: tuple[float, ...]
    """Weight of each standardised feature; above 0 means that more of it makes an error likelier."""
    bias: float
    """Log-odds of an error where every feature is average."""
    n: int = 0
    """Transitions it was fitted on."""
    wrong: int = 0
    """Of these, wrong ones."""
    experience_model: str = ""
    """Name and version of the model it belongs to."""

    def chance(self, features: GateFeatures) -> float:
        """The chance, in [0, 1], that a transition with these features is wrong."""
        odds = self.bias
        for name, mean, scale, weight in zip(self.features, self.mean, self.scale, self.weight, strict=True):
            value = getattr(features, name)
            if value is not None:
                odds += weight * (value - mean) / scale
        return _sigmoid(odds)

    def save(self, path: Path) -> None:
        """Write it as JSON, at once or not at all."""
        write_whole(path, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How the gate works."""

    mode: GateMode = "flag"
    """What happens above the threshold: nothing (the step is marked), another sample, the episode ends as truncated,
    or the real environment answers."""
    threshold: float = 0.5
    """Chance of an error above which that happens."""
    agreement_samples: int = 1
    """Samples that are compared, the transition's own included; each further one costs an engine call per step."""
    calibration: GateCalibration | None = None
    """Turns features into a chance; without one, features are measured and nothing else happens."""

    def __post_init__(self) -> None:
        """Raises: ConfigurationError: settings that cannot work together."""
        if not 0 <= self.threshold <= 1:
            raise ConfigurationError(f"the gate's threshold is a chance between 0 and 1, not {self.threshold}")
        if self.agreement_samples < 1:
            raise ConfigurationError("the gate compares at least one sample: the transition's own")
        if self.calibration is None:
            if self.mode != "flag":
                raise ConfigurationError(
                    f"the gate cannot {self.mode} without a calibration: "
                    "set experience.gate.calibration to the gate.json of `dreamsim fidelity`"
                )
        elif "agreement" in self.calibration.features and self.agreement_samples < 2:
            raise ConfigurationError(
                "the gate was calibrated with the agreement of samples: set experience.gate.samples to 2 or more, "
                "or fit a calibration without"
            )


def gate_features(
    completion: Completion, *, agreement: float | None = None, experiences: Sequence[Experience] = ()
) -> GateFeatures:
    """What the gate looks at, of one sample.

    Args:
        completion: the sample; log-probabilities that its engine does not give are NaN.
        agreement: share of further samples with the same parsed outcome, if there were any.
        experiences: the experiences retrieved for this step.
    """
    logprobs = completion.logprobs
    told = logprobs.size > 0 and bool(np.isfinite(logprobs).all())
    return GateFeatures(
        agreement=agreement,
        mean_logprob=float(logprobs.mean(dtype=np.float64)) if told else None,
        lowest_logprob=float(logprobs.min()) if told else None,
        similarity=max((experience.similarity for experience in experiences), default=None),
    )


def agreement_of(transition: Transition, others: Sequence[Transition | None]) -> float | None:
    """Share of `others` that say what `transition` says: the same state, reward and outcome.

    A sample that did not parse is None and agrees with nothing. Returns None when there are no others.
    """
    if not others:
        return None
    return sum(other is not None and _same(other, transition) for other in others) / len(others)


def _same(one: Transition, other: Transition) -> bool:
    return (one.reward, one.outcome) == (other.reward, other.outcome) and one.state.same_as(other.state)


def fit_gate(features: Sequence[GateFeatures], wrong: Sequence[bool], *, experience_model: str = "") -> GateCalibration:
    """Fit the chance of an error on held-out real transitions. Blocks for a moment.

    Features that some transition lacks, or that are the same in all, are left out.

    Args:
        features: of each transition foretold.
        wrong: whether it was wrong; a transition that contradicts nothing but differs from reality is.
        experience_model: name and version of the model that foretold them.

    Raises:
        ConfigurationError: no error, or nothing but errors, or no feature that tells them apart.
    """
    from sklearn.linear_model import LogisticRegression

    target = np.asarray(wrong, dtype=np.bool_)
    if len(target) != len(features):
        raise ConfigurationError(f"{len(features)} transitions with features, but {len(target)} judged")
    if target.all() or not target.any():
        raise ConfigurationError("a gate is fitted on transitions that are right and others that are wrong")
    names, values = _table(features)
    if not names:
        raise ConfigurationError("no feature differs between the transitions: a gate has nothing to go by")
    mean, scale = values.mean(axis=0), values.std(axis=0)
    model = LogisticRegression(C=PENALTY, max_iter=1000).fit((values - mean) / scale, target)
    return GateCalibration(
        features=names,
        mean=_numbers(mean),
        scale=_numbers(scale),
        weight=_numbers(model.coef_[0]),
        bias=float(model.intercept_[0]),
        n=len(target),
        wrong=int(target.sum()),
        experience_model=experience_model,
    )


def load_gate(path: Path) -> GateCalibration:
    """Read a calibration that `GateCalibration.save` wrote. Blocks.

    Raises:
        ConfigurationError: it is not there, or something else.
    """
    try:
        return _read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read as a gate's calibration: {error}") from error
    except RecordError as error:
        raise ConfigurationError(f"{path} is no gate's calibration: {error}") from error


def _read(value: Any) -> GateCalibration:
    fields = Fields(value)
    if fields.text("schema") != SCHEMA:
        raise RecordError("schema", f"this version reads {SCHEMA!r}")
    names = fields.texts("features")
    numbers = {name: _read_numbers(fields, name, len(names)) for name in ("mean", "scale", "weight")}
    calibration = GateCalibration(
        features=names,
        **numbers,
        bias=fields.number("bias"),
        n=fields.integer("n", 0, least=0),
        wrong=fields.integer("wrong", 0, least=0),
        experience_model=fields.text("experience_model", ""),
    )
    fields.finish()
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise RecordError("features", f"{unknown[0]!r:.40} is not one of {', '.join(FEATURES)}")
    if not all(scale > 0 for scale in calibration.scale):
        raise RecordError("scale", "must be above 0")
    return calibration


def _read_numbers(fields: Fields, name: str, count: int) -> tuple[float, ...]:
    values = fields.value(name)
    if not isinstance(values, list) or len(values) != count:
        raise RecordError(name, f"must be a list of {count} numbers, one for each feature")
    read = tuple(value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
    if len(read) != count or not all(math.isfinite(value) for value in read):
        raise RecordError(name, "must hold finite numbers only")
    return tuple(float(value) for value in read)


def _table(features: Sequence[GateFeatures]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names and values, shape [transitions, features], of what every transition has and not all alike."""
    columns: dict[str, NDArray[np.float64]] = {}
    for name in FEATURES:
        values = [getattr(one, name) for one in features]
        if all(value is not None for value in values):
            column = np.array(values, dtype=np.float64)
            if column.std() > 1e-9:
                columns[name] = column
    return tuple(columns), np.stack(list(columns.values()), axis=1) if columns else np.zeros((len(features), 0))


def _numbers(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _sigmoid(odds: float) -> float:
    # Of the two forms the one that cannot overflow.
    if odds >= 0:
        return 1 / (1 + math.exp(-odds))
    return math.exp(odds) / (1 + math.exp(odds))
