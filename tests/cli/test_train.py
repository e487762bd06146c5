"""`dreamsim train`: what is refused before anything starts, what is said, and two updates on the real engine."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dreamsim.cli.main import main
from dreamsim.cli.models import experience_settings, prepare
from dreamsim.cli.run_directory import RunDirectory
from dreamsim.cli.train_parts import learned_from
from dreamsim.cli.train_text import describe_line, render_training, training_figures
from dreamsim.flow.alarms import Alarm
from dreamsim.flow.rounds import round_figures
from dreamsim.records.training import Line, TrainingStep
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.testing.decisions import decided_episode
from dreamsim.training.loop import Training
from tests.flow.test_learning import METRICS


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("DREAMSIM_"):
            monkeypatch.delenv(name)


def line(**changes: Any) -> Line:
    """A line of metrics, with these numbers."""
    figures = round_figures([("dreamed", [decided_episode(0), decided_episode(1, outcome="failure")])]).numbers()
    zeros: dict[str, Any] = dict.fromkeys(TrainingStep.__dataclass_fields__, 0)
    absent = {name: None for name in zeros if name.startswith(("evaluation_", "best_"))}
    return {**asdict(TrainingStep(**{**zeros, **absent, **figures})), **asdict(METRICS), **changes}


EVALUATED = {"evaluation_success": 0.25, "evaluation_low": 0.1, "evaluation_high": 0.5, "best_success": 0.25}


def ended(*history: Line, ringing: tuple[Alarm, ...] = ()) -> Training:
    return cast("Training", SimpleNamespace(history=list(history), ringing=ringing))


def test_every_line_tells_real_and_dreamed_apart() -> None:
    said = describe_line(
        line(update=3, total_real_transitions=7, total_dreamed_transitions=1234, total_evaluation_transitions=55),
        steps=9,
    )
    assert said.startswith("update 3 of 9; dreamed success 50.0 %;")
    assert said.endswith("transitions 7 real, 1,234 dreamed (evaluations: 55 real)")
    assert "real success" not in said


def test_an_update_that_learned_nothing_says_nothing_of_the_policy() -> None:
    assert "entropy" not in describe_line(line(updates=0), steps=9)
    assert "entropy" in describe_line(line(updates=1), steps=9)


@pytest.mark.parametrize(("given", "drawn"), [([], 1.0), (["--experience.temperature", "0"], 0.0)])
def test_dreamed_worlds_differ_in_a_training_unless_it_is_said_otherwise(given: list[str], drawn: float) -> None:
    settings = load_settings(parse_arguments(given))
    assert learned_from(settings).experience.temperature == drawn
    prepared = prepare(settings.experience, "experience")
    assert experience_settings(settings.experience, prepared).temperature == 0  # in a run


def test_the_summary_holds_every_evaluation_and_what_rings(tmp_path: Path) -> None:
    alarm = Alarm(name="no variance", seen="all alike", advice="take others")
    training = ended(line(update=0, **EVALUATED), line(update=1), line(update=2, **EVALUATED), ringing=(alarm,))
    found = training_figures(training, code=0, error=None, steps=2)
    assert [one["update"] for one in found["evaluations"]] == [0, 2]
    assert found["alarms"] == [{"name": "no variance", "seen": "all alike", "advice": "take others"}]
    directory = RunDirectory(path=tmp_path / "mine", store=tmp_path / "mine" / "store.sqlite", resumed=False)
    text = render_training(training, directory, code=130, error=None)
    assert "held-out real games after update 0: 25.0 % [10.0, 50.0]" in text
    assert "ALARM no variance: all alike. What to do: take others" in text
    assert "dreamsim train --resume mine" in text


def test_an_adapter_is_tested_on_its_model(tmp_path: Path) -> None:
    directory = RunDirectory(path=tmp_path / "mine", store=tmp_path / "mine" / "store.sqlite", resumed=False)
    training = ended(line(update=0, **{**EVALUATED, "best_update": 0}))
    text = render_training(training, directory, code=0, error=None, adapter_of="a/b")
    assert "dreamsim evaluate --policy.model a/b --policy.adapter mine/best" in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--policy.engine", "scripted", "--experience.engine", "scripted"], "a scripted policy learns nothing"),
        (["--policy.url", "http://localhost:1/v1", "--policy.model", "m"], "cannot be sent to a server"),
        (["--policy.top_p", "0.9"], "policy.top_p below 1"),
        (["--policy.samples", "2"], "policy.samples above 1"),
        (["--policy.model", "a/b", "--experience.model", "a/b"], "one engine serves policy and experience model"),
        (["--train.real_share", "1.5"], "from 0 .all dreamed. to 1"),
        (["--train.group_size", "1"], "compared with nothing"),
        (["--train.log", "paper"], "there is no 'paper'"),
        (["--tasks.fold", "test"], "training is on tasks of the train fold"),
        (["--resume", "nowhere"], "no run to go on with"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", *wrong]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "runs").exists()


def test_help_explains_every_setting_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--train.real_share" in said
    assert "--train.lag" in said


def test_nothing_measured_is_a_dash() -> None:
    assert "dreamed success –" in describe_line(line(success_dreamed=None), steps=1)


@pytest.mark.vllm
@pytest.mark.timeout(900)  # three starts of two engines
def test_two_updates_on_the_real_engine_and_a_third_after_resuming(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("textworld_express", reason="pip install 'dreamsim-rl[textworld-express]'")
    small = ["--train.groups", "2", "--train.group_size", "4", "--tasks.mix", "coin", "--max_steps", "6"]
    small += ["--train.real_share", "0.5", "--train.evaluate_games", "4", "--train.evaluate_every", "2"]
    assert main(["train", "--directory", "a", *small, "--train.steps", "2", "--display.mode", "plain"]) == 0
    assert main(["train", "--resume", "a", "--train.steps", "3"]) == 0
    said = capfd.readouterr().out
    assert "engine and trainer differ by 0.0" in said
    lines = [json.loads(text) for text in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [one["update"] for one in lines] == [0, 1, 2, 3]
    assert all((one["groups_real"], one["groups_dreamed"]) == (1, 1) for one in lines[1:])
    assert lines[-1]["total_real_transitions"] > 0
    assert lines[-1]["staleness"] == 0
    assert (tmp_path / "a" / "best" / "dreamsim.json").is_file()
    with sqlite3.connect(tmp_path / "a" / "store.sqlite") as connection:
        rows = connection.execute(
            "SELECT source, purpose, count(*) FROM episodes WHERE run IN ('a', 'a-evaluation') GROUP BY 1, 2"
        ).fetchall()
    assert sorted(rows) == [("dreamed", "training", 12), ("real", "evaluation", 12), ("real", "training", 12)]
    assert main(["evaluate", "--policy.model", "a/best", "--games", "3", "--game", "coin"]) == 0
    assert "best@0 in the real environment, 3 games" in capfd.readouterr().out


@pytest.mark.vllm
@pytest.mark.slow  # two starts of one engine: more than a minute
@pytest.mark.timeout(600)
def test_an_adapter_is_trained_on_the_real_engine_and_gone_on_with(tmp_path: Path) -> None:
    pytest.importorskip("textworld_express", reason="pip install 'dreamsim-rl[textworld-express]'")
    small = ["--train.groups", "2", "--train.group_size", "4", "--tasks.mix", "coin", "--max_steps", "4"]
    small += ["--train.real_share", "1", "--train.evaluate_games", "0", "--train.lora_rank", "4"]
    assert main(["train", "--directory", "a", *small, "--train.steps", "1", "--display.mode", "plain"]) == 0
    assert main(["train", "--resume", "a", "--train.steps", "2"]) == 0
    lines = [json.loads(text) for text in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [(one["update"], one["groups_real"], one["staleness"]) for one in lines] == [(1, 2, 0), (2, 2, 0)]
    assert (tmp_path / "a" / "last" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "a" / "last" / "model.safetensors").exists()
