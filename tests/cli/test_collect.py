"""`dreamsim collect` and tasks made by the environment, with the real games."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.cli.main import main
from dreamsim.cli.tasks import tasks_of
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.store.jsonl import read_jsonl

pytest.importorskip("textworld_express", reason="pip install 'dreamsim-rl[textworld-express]'")


def test_collected_episodes_are_stored_written_and_not_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["collect", "--store", "real.sqlite", "--tasks", "2", "--game", "twc", "--policy", "gold"]
    assert main([*arguments, "--jsonl", "real.jsonl.xz"]) == 0
    said = capsys.readouterr().out
    assert "2 real episodes" in said
    assert "gold      success 100.0 %" in said
    episodes = list(read_jsonl("real.jsonl.xz"))
    assert len(episodes) == 2
    assert all(step.reasoning for episode in episodes for step in episode.transitions)
    assert main(arguments) == 0
    assert "0 real episodes" in capsys.readouterr().out


@pytest.mark.vllm
def test_a_model_plays_real_games(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["collect", "--store", "real.sqlite", "--tasks", "2", "--game", "coin", "--policy", "model"]
    assert main([*arguments, "--max-steps", "4", "--jsonl", "real.jsonl"]) == 0
    assert "2 real episodes" in capsys.readouterr().out
    steps = [step for episode in read_jsonl("real.jsonl") for step in episode.transitions]
    assert steps
    assert all(step.reasoning and step.decision is not None and step.decision.completion for step in steps)


def test_a_game_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "--store", "x.sqlite", "--game", "chess"]) == 2
    assert "there is no game 'chess'" in capsys.readouterr().err


async def test_the_environment_makes_tasks_of_a_fold() -> None:
    arguments = ["--tasks.file", "none", "--tasks.fold", "dev", "--tasks.count", "3", "--tasks.mix", "twc,coin"]
    tasks = await tasks_of(load_settings(parse_arguments(arguments), {}))
    assert [task.environment for task in tasks] == [
        "textworld_express/twc",
        "textworld_express/coin",
        "textworld_express/twc",
    ]
    assert {task.fold for task in tasks} == {"dev"}
