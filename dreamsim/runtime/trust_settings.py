"""The settings of the run-time checks: `experience.check`, `.cache`, `.verify` and `.gate`.

In: text from flags, the environment and TOML files. Out: sections of `runtime.config`. Always: a check that lacks what
it needs is refused, with what to set.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from dreamsim.runtime.setting import OptionalPath, OptionalText, OptionalUrl, Section, setting, split_commas


def _names_or_none(value: Any) -> Any:
    return () if isinstance(value, str) and value.strip().lower() == "none" else split_commas(value)


Verifiers = Annotated[tuple[Literal["ledger", "rules", "judge"], ...], BeforeValidator(_names_or_none)]
"""Verifiers by name; `none` is an empty list."""


class CheckSection(Section):
    """The ledger beside each dreamed episode, which knows what was seen, taken, opened."""

    mode: Literal["resample", "flag", "off"] = setting(
        "resample", "a step that contradicts it is sampled again, then fails its episode; or is kept and marked"
    )
    amend_after: int = setting(
        2,
        "after so many that contradict, the step is as the ledger says, where it decides the whole step; 0: never",
        unit="samples",
        ge=0,
    )


class CacheSection(Section):
    """Identical requests to one version of the experience model are asked once."""

    enabled: bool = setting(
        True, "keep its answers; at temperature 0 the seed does not matter, else it must be the same"
    )
    mib: float = setting(64.0, "memory for them; what was asked longest ago is forgotten", unit="MiB", gt=0)


class VerifySection(Section):
    """Who else says whether a dreamed step ended the task."""

    by: Verifiers = setting(
        ("ledger",),
        "`ledger`, `rules` and `judge`, in the order of asking: the first that can tell is believed; or none",
    )
    policy: Literal["trust", "drop", "flag"] = setting(
        "trust", "where it disagrees with the model: its word counts, reward included; the episode fails; or is marked"
    )
    steps: Literal["every", "ends"] = setting(
        "every", "ask at every step, or only where the model says that the task ended (it may miss a success)"
    )
    rules: OptionalPath = setting(None, "rule file for `rules`")
    judge_model: OptionalText = setting(None, "model for `judge`, as the server calls it")
    judge_url: OptionalUrl = setting(None, "OpenAI-compatible server for `judge`")
    prompts: OptionalPath = setting(None, "directory with the judge's prompts; default: those in the package")

    @model_validator(mode="after")
    def _check_needs(self) -> Self:
        if "rules" in self.by and self.rules is None:
            raise ValueError("by = rules needs a rule file: set rules")
        if "judge" in self.by and (self.judge_model is None or self.judge_url is None):
            raise ValueError("by = judge needs a model: set judge_model and judge_url")
        return self


class GateSection(Section):
    """How likely a dreamed step is wrong, and what is done about it."""

    mode: Literal["off", "flag", "resample", "truncate", "real"] = setting(
        "off", "above the threshold: mark, sample again, end the episode as truncated, or ask the real environment"
    )
    calibration: OptionalPath = setting(
        None, "JSON file that turns what is measured into a chance of an error: `gate.json` of `dreamsim fidelity`"
    )
    threshold: float = setting(0.5, "chance of an error above which that is done", unit="share", ge=0, le=1)
    samples: int = setting(
        1, "answers compared at every step, each beyond the first an engine call; 1 compares none", unit="answers", ge=1
    )

    @model_validator(mode="after")
    def _check_calibration(self) -> Self:
        if self.mode not in ("off", "flag") and self.calibration is None:
            raise ValueError(
                f"mode = {self.mode} needs a calibration: set calibration to the gate.json of `dreamsim fidelity`"
            )
        return self
