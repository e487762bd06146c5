from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.cli.help_text import render_help, render_markdown, render_toml
from dreamsim.run import main
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import known_settings, load_settings, parse_arguments

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_help_names_every_setting_and_begins_with_how_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert said.index("python -m dreamsim.run --policy.model") < said.index("--run.concurrency")
    assert [name for name in known_settings() if f"--{name} " not in said] == []


def test_help_fits_the_width_asked_for_except_what_is_copied() -> None:
    long = [line for line in render_help(width=100).splitlines() if len(line) > 100 and "--policy." not in line]
    assert [line for line in long if not line.startswith(("Runs", "Exit", "2 a", "  --config", "scripted:"))] == []


def test_the_page_of_all_settings_is_up_to_date() -> None:
    fresh = render_markdown()
    assert PAGE.read_text(encoding="utf-8") == fresh, (
        "write it again: python -m dreamsim.cli.help_text > docs/configuration.md"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--store.experiences", "none", "--tasks.mix", "twc=2,coin", "--policy.window", "-1"],
        ["--run.name", "a-b", "--policy.model", 'we"ird\\näme', "--experience.temperature", "0.25"],
    ],
)
def test_settings_survive_being_written_as_toml(arguments: list[str], tmp_path: Path) -> None:
    settings = load_settings(parse_arguments(arguments), {})
    file = tmp_path / "config.toml"
    file.write_text(render_toml(settings), encoding="utf-8")
    assert load_settings(parse_arguments(["--config", str(file)]), {}) == settings


def test_defaults_are_written_in_full() -> None:
    assert "concurrency = 2048  # episodes" in render_toml(Settings())
