from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import anyio
import numpy as np
import pytest
from rich.console import Console

from dreamsim.cli.episodes import describe, safe, table
from dreamsim.cli.main import main
from dreamsim.records.codec import episode_to_json
from dreamsim.records.completion import Completion, Decision
from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction, Trust, Verdict
from dreamsim.run import main as run_main
from dreamsim.store.store import open_store

TASK = Task(
    environment="textworld_express/twc",
    instruction="Put the [red]apple[/red] away.",
    first_state=State.of(["at: kitchen", "apple: here"]),
    fold="test",
)
DECISION = Decision(
    action="take apple",
    thought="It \x1b[31mlies here.",
    completion=Completion(
        token_ids=np.array([1], dtype=np.int32),
        logprobs=np.array([-0.5], dtype=np.float32),
        finish_reason="stop",
        prompt_tokens=9,
        version="7",
    ),
)
EPISODE = Episode(
    id="0123456789abcdef0123",
    run="a",
    task=TASK,
    repeat=0,
    source="dreamed",
    purpose="training",
    transitions=(
        Transition(
            action="take apple",
            state=State.of(["at: kitchen", "apple: held"]),
            reward=0.0,
            outcome="running",
            reasoning="The apple is here, so it can be taken.",
            decision=DECISION,
            samples=2,
            retrieved=("feed:3",),
        ),
    ),
    outcome="error",
    error_kind="experience",
    error_message="no transition in 4 samples",
    policy="tiny-policy@0",
    experience_model="tiny-experience@0",
)


def printed(episode: Episode) -> str:
    console = Console(width=200, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        for block in describe(episode):
            console.print(block, soft_wrap=True)
    return captured.get()


def test_an_episode_can_be_followed_from_task_to_end() -> None:
    shown = printed(EPISODE)
    for said in (
        "dreamed, training, textworld_express/twc, test fold",
        "policy tiny-policy@0, dreamed by tiny-experience@0",
        "task: Put the [red]apple[/red] away.",
        "apple: here",
        "1. take apple",
        "because: The apple is here, so it can be taken.",
        "apple: held",
        "2 samples",
        "shown: feed:3",
        "policy version 7",
        "error after 1 steps, total reward 0: experience: no transition in 4 samples",
    ):
        assert said in shown


def test_only_changed_lines_are_shown_after_an_action() -> None:
    assert printed(EPISODE).count("at: kitchen") == 1


def test_what_models_write_is_never_markup_or_a_command_to_the_terminal() -> None:
    shown = printed(EPISODE)
    assert "\x1b" not in shown
    assert "[red]apple[/red]" in shown
    assert str(safe("a\x07b\nc")) == "a�b\nc"


def test_the_table_has_a_row_for_each() -> None:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table([EPISODE, EPISODE]))
    assert captured.get().count("01234567") == 2
    assert "error: experience" in captured.get()


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    scripted = ["--policy.engine", "scripted", "--experience.engine", "scripted", "--display.mode", "off"]
    assert run_main([*scripted, "--episodes", "5"]) == 0
    (directory,) = (tmp_path / "runs").iterdir()
    return directory


def test_the_verb_lists_the_latest_run(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episodes", "--limit", "3"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("scripted/carry") == 3
    assert "3 shown of 5 (5 dreamed)" in shown


def test_the_beginning_of_an_id_shows_an_episode(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episodes", "--limit", "1"]) == 0
    first = capsys.readouterr().out.splitlines()[1].split()[0]
    assert main(["episodes", "--run", str(run_directory), first]) == 0
    assert f"episode {first}" in capsys.readouterr().out


def test_filters_leave_out(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episodes", "--outcome", "error"]) == 0
    assert "0 shown of 5" in capsys.readouterr().out


def test_an_id_that_is_not_there_is_refused(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episodes", "zz"]) == 2
    assert "no episodes in" in capsys.readouterr().err


def test_no_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["episodes"]) == 2
    assert "there are no runs under runs/ here" in capsys.readouterr().err


def test_what_is_exported_can_be_imported(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "all.jsonl.xz"]) == 0
    assert main(["import", "all.jsonl.xz", "--store", "other.sqlite"]) == 0
    assert "5 episodes" in capsys.readouterr().out
    assert main(["import", "all.jsonl.xz", "--store", "other.sqlite"]) == 0
    assert "5 there before" in capsys.readouterr().out


def test_an_export_never_writes_over_a_file(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("all.jsonl").write_text("mine")
    assert main(["export", "all.jsonl"]) == 2
    assert Path("all.jsonl").read_text() == "mine"


def test_a_bad_line_is_named_and_skipped_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text(json.dumps(episode_to_json(EPISODE)) + "\n{}\n")
    assert main(["import", "in.jsonl", "--store", "s.sqlite"]) == 2
    assert "in.jsonl:2:" in capsys.readouterr().err
    assert main(["import", "in.jsonl", "--store", "s.sqlite", "--skip-bad"]) == 0
    assert "in.jsonl:2: skipped" in capsys.readouterr().out

    async def count() -> int:
        async with open_store(tmp_path / "s.sqlite", encoder=None, read_only=True) as store:
            return (await store.counts()).episodes

    assert anyio.run(count) == 1


def test_a_step_says_what_the_checks_found_against_it() -> None:
    trust = Trust(
        rejected=(Contradiction(rule="one_place", message="the egg is in two places"),),
        verdict=Verdict(verifier="ledger:x", outcome="running", reason="the egg is raw"),
        claimed="success",
        uncertainty=0.25,
        cached=True,
    )
    step = dataclasses.replace(EPISODE.transitions[0], outcome="running", trust=trust)
    shown = "\n".join(text.plain for text in describe(dataclasses.replace(EPISODE, transitions=(step,))))
    assert "sampled again, one_place: the egg is in two places" in shown
    assert "the model said success, ledger:x says running, which counts: the egg is raw" in shown
    assert "wrong with a chance of 0.25" in shown
    assert "from the transition cache" in shown
