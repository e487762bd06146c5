"""What settings are made of: a section, a setting with its explanation, and values as they are written in flags.

In: text from flags, the environment and TOML files. Out: checked values. Always: a name that does not exist is
refused; every setting explains itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from dreamsim.runtime.addresses import checked_address, checked_variable


def split_commas(value: Any) -> Any:
    """A list out of text with commas; anything else as it is."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def none_word(value: Any) -> Any:
    """None out of `none`, `default` and nothing; anything else as it is."""
    return None if isinstance(value, str) and value.strip().lower() in ("", "none", "default") else value


Names = Annotated[tuple[str, ...], BeforeValidator(split_commas)]
"""A list; in flags and the environment it is written with commas."""
OptionalPath = Annotated[Path | None, BeforeValidator(none_word)]
OptionalInt = Annotated[int | None, BeforeValidator(none_word)]
OptionalFloat = Annotated[float | None, BeforeValidator(none_word)]
OptionalFlag = Annotated[bool | None, BeforeValidator(none_word)]
OptionalText = Annotated[str | None, BeforeValidator(none_word)]


def _checked_url(value: str | None) -> str | None:
    return None if value is None else checked_address(value)


OptionalUrl = Annotated[str | None, BeforeValidator(none_word), AfterValidator(_checked_url)]
"""The address of a server, without keys."""
VariableName = Annotated[str, AfterValidator(checked_variable)]
"""An environment variable, by name."""


def setting(default: Any, text: str, *, unit: str = "", **limits: Any) -> Any:
    """A pydantic field with its explanation and unit; `limits` are pydantic's (`ge`, `le`, ...)."""
    return Field(default=default, description=text, json_schema_extra={"unit": unit}, **limits)


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
