"""Where settings come from: TOML files, then the environment, then flags; later ones win.

In: command-line arguments, environment variables, file names. Out: `Settings`, or one `ConfigurationError`
with one line per wrong value that says where the value came from and what to change.
Always: nothing is guessed: an unknown name is refused with the nearest one that exists, from every source.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from dreamsim.errors import ConfigurationError
from dreamsim.records.strict_json import read_small
from dreamsim.runtime.addresses import without_secrets
from dreamsim.runtime.config import Settings

PREFIX = "DREAMSIM_"
SWITCHES = ("help", "dry-run")
"""Flags without a value."""
SHOWN = 200
"""Characters of a wrong value that a message repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingInfo:
    """One setting, as help and documentation show it."""

    name: str
    """Dotted: `policy.temperature`."""
    field: FieldInfo
    """Type, default and description."""

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper().replace(".", "_")

    @property
    def unit(self) -> str:
        """Its unit, or an empty string."""
        extra = self.field.json_schema_extra
        return str(extra.get("unit", "")) if isinstance(extra, dict) else ""

    @property
    def is_switch(self) -> bool:
        """Whether the flag may stand without a value."""
        return self.field.annotation in (bool, bool | None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One value that somebody gave."""

    value: object
    """As written."""
    origin: str
    """Where, for messages: `--policy.model`, `DREAMSIM_POLICY_MODEL`, `my.toml`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What the arguments asked for, before any file is read."""

    values: Mapping[str, Given]
    """Settings given as flags, by dotted name."""
    files: tuple[Path, ...]
    """`--config` files, in order."""
    switches: frozenset[str]
    """Which of `SWITCHES` were given."""


@lru_cache(maxsize=1)
def known_settings() -> Mapping[str, SettingInfo]:
    """Every setting by dotted name, in the order of the classes."""
    return {info.name: info for info in _walk(Settings, "")}


def _walk(model: type[BaseModel], prefix: str) -> Iterator[SettingInfo]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            yield SettingInfo(name=prefix + name, field=field)


def full_name(name: str) -> str | None:
    """The dotted name that `name` stands for (`concurrency` is `run.concurrency`), or None."""
    plain = name.replace("-", "_")
    known = known_settings()
    if plain in known:
        return plain
    return f"run.{plain}" if f"run.{plain}" in known else None


def unknown(name: str, origin: str, *, extra: Sequence[str] = ()) -> str:
    """The line that refuses an unknown name and offers the nearest."""
    known = known_settings()
    candidates = [*known, *extra, *(key.removeprefix("run.") for key in known if key.startswith("run."))]
    plain = name.replace("-", "_")
    near = difflib.get_close_matches(plain, candidates, n=1, cutoff=0.6)
    if not near:  # the section may be forgotten or wrong: compare the last part alone
        last = plain.rsplit(".", 1)[-1]
        near = [key for key in known if key.rsplit(".", 1)[-1] == last][:1]
    offer = f"did you mean '{near[0]}'?" if near else "see --help for all names"
    return f"{origin}: there is no setting '{name}'; {offer}"


def parse_arguments(arguments: Sequence[str]) -> CommandLine:
    """Read flags: `--a.b VALUE`, `--a.b=VALUE`, `--flag` for true, `--no-flag` for false.

    Raises:
        ConfigurationError: an unknown flag, or a flag without its value.
    """
    values: dict[str, Given] = {}
    files: list[Path] = []
    switches: set[str] = set()
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if flag in ("-h", "--help"):
            switches.add("help")
            continue
        if not flag.startswith("--"):
            raise ConfigurationError(f"'{flag}' is not a setting: write --NAME VALUE; see --help for all names")
        name, equals, written = flag[2:].partition("=")
        if name in SWITCHES and not equals:
            switches.add(name)
            continue
        key = full_name(name)
        negated = full_name(name[3:]) if key is None and name.startswith("no-") else None
        if negated is not None and known_settings()[negated].is_switch and not equals:
            values[negated] = Given(value=False, origin=flag)
            continue
        if key is None and name != "config":
            raise ConfigurationError(unknown(name, flag.partition("=")[0], extra=("config", "dry_run")))
        if not equals:
            if rest and not rest[0].startswith("--"):
                written = rest.pop(0)
            elif key is not None and known_settings()[key].is_switch:
                written = "true"
            else:
                raise ConfigurationError(f"{flag}: a value is missing; write {flag} VALUE")
        if key is None:
            files.append(Path(written))
        else:
            values[key] = Given(value=written, origin=f"--{name}")
    return CommandLine(values=values, files=tuple(files), switches=frozenset(switches))


def environment_values(environ: Mapping[str, str]) -> dict[str, Given]:
    """Settings given as `DREAMSIM_POLICY_MODEL` and the like (`DREAMSIM_CONFIG` names files).

    Raises:
        ConfigurationError: a variable with our prefix that is no setting: it would silently do nothing.
    """
    by_variable = {info.variable: info.name for info in known_settings().values()}
    by_variable |= {
        PREFIX + variable.removeprefix(PREFIX + "RUN_"): name
        for variable, name in by_variable.items()
        if variable.startswith(PREFIX + "RUN_")
    }
    values: dict[str, Given] = {}
    for variable, written in environ.items():
        if not variable.startswith(PREFIX) or variable == PREFIX + "CONFIG":
            continue
        if variable not in by_variable:
            near = difflib.get_close_matches(variable, by_variable, n=1, cutoff=0.6)
            offer = f"did you mean {near[0]}?" if near else "see --help for all names"
            raise ConfigurationError(f"environment variable {variable}: there is no such setting; {offer}")
        values[by_variable[variable]] = Given(value=written, origin=f"environment variable {variable}")
    return values


def file_values(path: Path) -> dict[str, Given]:
    """Settings in a TOML file.

    Raises:
        ConfigurationError: the file is missing, no TOML, or names what does not exist.
    """
    try:
        leaves = list(_leaves(tomllib.loads(read_small(path).decode("utf-8")), ""))
    except OSError as error:
        raise ConfigurationError(f"--config {path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--config {path}: not TOML: {error}") from error
    values: dict[str, Given] = {}
    for name, value in leaves:
        key = full_name(name)
        if key is None:
            raise ConfigurationError(unknown(name, str(path)))
        values[key] = Given(value=value, origin=f"{path}: {name}")
    return values


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def build(values: Mapping[str, Given]) -> Settings:
    """Settings from values by dotted name, everything else at its default.

    Raises:
        ConfigurationError: one line per wrong value.
    """
    nested: dict[str, Any] = {}
    for name, given in values.items():
        if not all(text.isprintable() for text in _texts(given.value)):
            raise ConfigurationError(f"{given.origin}: holds characters that cannot be printed")
        *sections, last = name.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
        table[last] = given.value
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        lines = [_problem(problem, values) for problem in error.errors(include_url=False)]
        raise ConfigurationError("\n".join(dict.fromkeys(lines))) from None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _problem(problem: Any, values: Mapping[str, Given]) -> str:
    parts = [str(part) for part in problem["loc"]]
    known = known_settings()
    name = next((".".join(parts[:end]) for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in known), None)
    message = str(problem["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if name is None:
        return f"{'.'.join(parts)}: {message}" if parts else message
    given = values.get(name)
    if given is None:
        return f"{name}: {message}"
    if problem["type"] == "string_pattern_mismatch":
        message = f"not in the expected form: {known[name].field.description}"
    if name.endswith("api_key_variable"):  # whoever misunderstood it has written the key there
        return f"{given.origin}: {message}"
    return f"{given.origin} = {without_secrets(repr(given.value))[:SHOWN]}: {message}"


def load_settings(
    command: CommandLine, environ: Mapping[str, str] | None = None, *, first: Sequence[Path] = ()
) -> Settings:
    """Settings from files (`first`, then DREAMSIM_CONFIG, then `--config`), the environment and flags.

    Raises:
        ConfigurationError: anything in them that cannot be used.
    """
    variables = os.environ if environ is None else environ
    named = [Path(part) for part in variables.get(PREFIX + "CONFIG", "").split(os.pathsep) if part]
    values: dict[str, Given] = {}
    for path in (*first, *named, *command.files):
        values |= file_values(path)
    values |= environment_values(variables)
    values |= command.values
    return build(values)
