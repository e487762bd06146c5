"""`dreamsim evaluate`, with policies that need no model."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from dreamsim.cli.main import main

SCRIPTED = ["--policy.engine", "scripted", "--experience.engine", "scripted"]


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_policy_is_measured_and_its_episodes_are_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *SCRIPTED, "--games", "5", "--seeds", "0,1", "--json", "found.json"]) == 0
    assert "scripted-policy-1 in the real environment, 5 games" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["overall"]["success"] == {"value": 1.0, "low": pytest.approx(0.722, abs=1e-3), "high": 1.0, "n": 10}
    assert found["source"] == "real"
    assert found["success_by_seed"] == {"0": 1.0, "1": 1.0}
    with sqlite3.connect(tmp_path / "runs" / "evaluations.sqlite") as connection:
        rows = connection.execute("SELECT purpose, fold, count(*) FROM episodes GROUP BY 1, 2").fetchall()
    assert rows == [("evaluation", "test", 10)]


def test_the_same_command_plays_nothing_twice(tmp_path: Path) -> None:
    for games in ("3", "6", "6"):
        assert main(["evaluate", *SCRIPTED, "--games", games, "--policy", "random"]) == 0
    with sqlite3.connect(tmp_path / "runs" / "evaluations.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM episodes").fetchone() == (6,)


def test_a_dream_is_never_called_real(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *SCRIPTED, "--environment", "dream", "--games", "3"]) == 0
    assert "in the dream of scripted-1, 3 games" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--policy", "nobody"], "there is no policy 'nobody'"),
        (["--seeds", "1,1"], "each seed once"),
        (["--games", "0"], "must be at least 1"),
        (["--policy.modle", "x"], "did you mean 'policy.model'"),
    ],
)
def test_what_cannot_be_used_is_one_line(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *SCRIPTED, *wrong]) == 2
    assert said in capsys.readouterr().err


def test_the_gold_policy_wins_real_games(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("textworld_express", reason="pip install 'dreamsim-rl[textworld-express]'")
    assert (
        main(["evaluate", "--policy", "gold", "--games", "4", "--fold", "dev", "--game", "twc", "--game", "coin"]) == 0
    )
    said = capsys.readouterr().out
    assert "100.0 %" in said
    assert "coin" in said
