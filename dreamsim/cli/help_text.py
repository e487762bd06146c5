"""The settings as text: `--help` for a terminal, `docs/configuration.md` for reading, TOML for a run's directory.

In: the classes of `runtime.config`. Out: text. Always: printed from the classes themselves, so it cannot be out
of date; `python -m dreamsim.cli.help_text > docs/configuration.md` writes the page.
"""

from __future__ import annotations

import json
import textwrap
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic_core import PydanticUndefined

from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import SettingInfo, known_settings

INTRODUCTION = """\
Runs agent episodes inside an LLM experience model, thousands at the same moment, and stores every one of them.

  python -m dreamsim.run
      the tiny models in the package, on vLLM without a GPU, in a new directory under runs/
  python -m dreamsim.run --policy.model Qwen/Qwen3-4B --experience.model meta-llama/Llama-3.1-8B-Instruct
      your own models on a GPU
  python -m dreamsim.run --policy.url http://localhost:8000/v1 --policy.model NAME
      a server that speaks the OpenAI API; the same works for --experience
"""

OTHER_FLAGS = (
    ("--config FILE", "read settings from a TOML file; may be given several times, later files win"),
    ("--dry-run", "print the resolved settings and check them, then stop"),
    ("--help", "this text"),
)

EXITS = """\
Exit codes: 0 every episode is accounted for and at most run.max_failures of them failed; 1 otherwise;
2 a setting cannot be used; 130 interrupted (Ctrl-C once: what runs gets a moment to end, then all is stored).
Afterwards: `dreamsim episodes --run DIRECTORY` shows what happened; --run.resume DIRECTORY goes on."""


def render_help(width: int = 100) -> str:
    """What `python -m dreamsim.run --help` prints."""
    lines = [INTRODUCTION, "Every setting is also a key in a TOML file and an environment variable:"]
    lines += ["--policy.model is [policy] model and DREAMSIM_POLICY_MODEL. Flags win over the environment,"]
    lines += ["the environment over files. `run.` may be left out: --concurrency 2048.", ""]
    for flag, text in OTHER_FLAGS:
        lines.append(f"  {flag:<34}{text}")
    for section, infos in _sections().items():
        lines += ["", *_settings_lines(section, infos, width)]
    return "\n".join([*lines, "", EXITS])


TRAINING = """\
Trains a policy inside an experience model, in the real environment, or in both, and measures it on held-out real games.

  dreamsim train
      the tiny models in the package, dreamed episodes only, in a new directory under runs/
  dreamsim train --train.real_share 0,40:1 --train.max_real_transitions 5000
      sim-to-real: dreamed episodes, and from update 40 on real ones
  dreamsim train --policy.model Qwen/Qwen3-4B --train.lora_rank 16 --train.lag 1
      your own models on a GPU
  dreamsim train --resume DIRECTORY
      goes on where it stood, also after kill -9

Settings of `train` and `curriculum`; all others are those of `python -m dreamsim.run --help`, and are given in the
same ways (a TOML file with --config, DREAMSIM_TRAIN_STEPS=100, --train.steps 100). --dry-run prints the settings and
checks them.
"""

TRAINING_EXITS = """\
Exit codes: 0 all updates are made (or the budget of real transitions is spent); 1 the training could not go on;
2 a setting cannot be used; 130 interrupted. Afterwards: `dreamsim evaluate --policy.model DIRECTORY/best`."""


def render_training_help(width: int = 100) -> str:
    """What `dreamsim train --help` prints."""
    lines = [TRAINING]
    for section in ("train", "curriculum"):
        lines += [*_settings_lines(section, _sections()[section], width), ""]
    return "\n".join([*lines, TRAINING_EXITS])


def _settings_lines(section: str, infos: list[SettingInfo], width: int) -> list[str]:
    lines = [f"{section}: {_title(section)}"]
    for info in infos:
        head = f"  --{info.name} {_form(info)}"
        default = _default(info)
        text = _description(info) + (f" [{default}]" if default else "")
        lines += _columns(head, text, width)
    return lines


def render_markdown() -> str:
    """The page docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "<!-- Printed by `python -m dreamsim.cli.help_text`; a test compares. -->",
        "",
        "Every setting can be given in a TOML file (`--config FILE`), in the environment and as a flag; flags win over",
        "the environment, the environment over files, later files over earlier ones. A name that does not exist is",
        "refused, and the nearest one is offered. `--dry-run` prints what a run would use.",
        "",
        "```toml",
        "[run]",
        "concurrency = 2048",
        "",
        "[policy]",
        'model = "Qwen/Qwen3-4B"',
        "```",
        "",
        "is the same as `--run.concurrency 2048 --policy.model Qwen/Qwen3-4B` (`run.` may be left out) and as",
        "`DREAMSIM_RUN_CONCURRENCY=2048 DREAMSIM_POLICY_MODEL=Qwen/Qwen3-4B`. `DREAMSIM_CONFIG` names TOML files.",
    ]
    for section, infos in _sections().items():
        lines += ["", f"## {section}", "", _title(section), "", "| setting | value | default | what it is |"]
        lines.append("|---|---|---|---|")
        for info in infos:
            row = (f"`{info.name}`", _form(info).replace("|", " \\| "), _default(info), _description(info))
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def render_toml(settings: Settings) -> str:
    """The settings as a TOML file that gives the same settings again."""
    tables: dict[str, list[str]] = {}
    for name, info in known_settings().items():
        section, _, key = name.rpartition(".")
        value = value_of(settings, name)
        unit = f"  # {info.unit}" if info.unit else ""
        if value is None and info.field.default is None:
            continue
        tables.setdefault(section, []).append(f"{key} = {_toml_value(value)}{unit}")
    return "\n\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in tables.items()) + "\n"


def value_of(settings: Settings, name: str) -> object:
    """The value of the setting with this dotted name."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _toml_value(value: object) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # Basic strings of TOML escape as JSON does, DEL excepted.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _sections() -> Mapping[str, list[SettingInfo]]:
    sections: dict[str, list[SettingInfo]] = {}
    for name, info in known_settings().items():
        sections.setdefault(name.rpartition(".")[0], []).append(info)
    return sections


def _title(section: str) -> str:
    kind: Any = Settings
    for part in section.split("."):
        kind = kind.model_fields[part].annotation
    return " ".join((kind.__doc__ or "").split())


def _description(info: SettingInfo) -> str:
    text = info.field.description or ""
    return text[:1].upper() + text[1:]


def _default(info: SettingInfo) -> str:
    value = info.field.default
    if value is PydanticUndefined or value is None:
        return "" if "default:" in (info.field.description or "") else "none"
    text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    if isinstance(value, tuple):
        text = ",".join(map(str, value)) or "none"
    return f"{text} {info.unit}".strip() if info.unit and info.unit != "share" else text


def _form(info: SettingInfo) -> str:
    """What may be written: `a|b`, `NUMBER`, `1..`, `TEXT`."""
    if info.field.annotation == int | float:
        return "SHARE|COUNT"
    kind = _plain(info.field.annotation)
    if get_origin(kind) is Literal:
        return "|".join(str(choice) for choice in get_args(kind))
    if kind is bool:
        return "yes|no"
    if kind in (int, float):
        return _bounds(info) or ("INTEGER" if kind is int else "NUMBER")
    if kind is Path:
        return "PATH"
    return "NAME,..." if get_origin(kind) is tuple else "TEXT"


def _plain(kind: Any) -> Any:
    """The type without `Annotated` and `| None`."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, types.UnionType):
            kind = next(part for part in get_args(kind) if part is not type(None))
        else:
            return kind


def _bounds(info: SettingInfo) -> str:
    low, high = "", ""
    for limit in _limits(info):
        if isinstance(limit, Ge):
            low = f"{limit.ge}"
        elif isinstance(limit, Gt):
            low = f">{limit.gt}"
        elif isinstance(limit, Le):
            high = f"{limit.le}"
        elif isinstance(limit, Lt):
            high = "" if isinstance(limit.lt, int) and limit.lt == 2**63 else f"<{limit.lt}"
    return f"{low}..{high}" if low and high else (f"{low}.." if low else "")


def _limits(info: SettingInfo) -> Iterator[object]:
    yield from info.field.metadata


def _columns(head: str, text: str, width: int) -> list[str]:
    indent = 36
    body = textwrap.wrap(text, width - indent) or [""]
    if len(head) < indent - 1:
        return [head.ljust(indent) + body[0], *(" " * indent + line for line in body[1:])]
    return [head, *(" " * indent + line for line in body)]


if __name__ == "__main__":
    print(render_markdown(), end="")
