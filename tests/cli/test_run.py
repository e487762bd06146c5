"""The whole command on the scripted world: no model, real store, real signals."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

from dreamsim.cli.arguments import store_of
from dreamsim.records.episode import Episode
from dreamsim.run import main
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.store.rows import write_episodes

SCRIPTED = ["--policy.engine", "scripted", "--experience.engine", "scripted"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("DREAMSIM_"):
            monkeypatch.delenv(name)
    return tmp_path


def stored_ids(directory: Path) -> list[str]:
    with sqlite3.connect(store_of(None, str(directory))) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM episodes")]


def summary(directory: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((directory / "summary.json").read_text())
    return found


def test_a_run_stores_every_episode_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = main([*SCRIPTED, "--concurrency", "2048", "--episodes", "300", "--scripted.latency_s", "0.01"])
    said = capfd.readouterr().out
    (directory,) = (tmp_path / "runs").iterdir()
    assert code == 0
    assert len(set(stored_ids(directory))) == 300
    assert summary(directory)["episodes_stored"] == 300
    assert "300 of 300 episodes stored; every episode is accounted for" in said
    assert f"dreamsim episodes --run runs/{directory.name}" in said
    assert (directory / "logs" / "run.jsonl").read_text()


def test_the_written_configuration_makes_the_same_run_again(tmp_path: Path) -> None:
    assert main([*SCRIPTED, "--episodes", "3", "--scripted.rooms", "5", "--directory", "a"]) == 0
    config = tmp_path / "a" / "config.toml"
    settings = load_settings(parse_arguments(["--config", str(config)]), {})
    assert settings.scripted.rooms == 5
    assert tomllib.loads(config.read_text())["run"]["episodes"] == 3


def test_the_same_seed_gives_the_same_steps(tmp_path: Path) -> None:
    steps = []
    for name in ("a", "b"):
        arguments = [*SCRIPTED, "--scripted.policy", "random", "--episodes", "20"]
        assert main([*arguments, "--directory", f"{name}/same", "--seed", "4"]) == 0
        with sqlite3.connect(tmp_path / name / "same" / "store.sqlite") as connection:
            rows = connection.execute(
                "SELECT e.id, s.step, s.action, s.next_state FROM steps s JOIN episodes e ON e.number = s.episode"
            )
            steps.append(sorted(rows))
    assert steps[0] == steps[1]


def test_a_directory_with_a_run_is_never_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SCRIPTED, "--episodes", "2", "--directory", "a"]) == 0
    assert main([*SCRIPTED, "--episodes", "2", "--directory", "a"]) == 2
    assert "go on with --run.resume" in capsys.readouterr().err


def test_a_run_that_was_killed_before_it_was_written_down_can_be_begun_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".part-config.toml").write_text("[ru")
    assert main([*SCRIPTED, "--episodes", "2", "--directory", "a"]) == 0
    assert not (tmp_path / "a" / ".part-config.toml").exists()


def test_an_interrupted_run_is_resumed_without_loss_or_doubling(tmp_path: Path) -> None:
    arguments = ["--episodes", "200", "--concurrency", "50", "--scripted.latency_s", "0.05"]
    code = main([*SCRIPTED, *arguments, "--directory", "a", "--stop_after_s", "0.8"])
    first = stored_ids(tmp_path / "a")
    assert code == 130
    assert 0 < len(first) < 200
    assert main(["--run.resume", "a", "--scripted.latency_s", "0"]) == 0
    then = stored_ids(tmp_path / "a")
    assert len(then) == len(set(then)) == 200
    assert set(first) <= set(then)


def test_a_resumed_run_that_is_complete_has_nothing_to_do(tmp_path: Path) -> None:
    assert main([*SCRIPTED, "--episodes", "5", "--directory", "a"]) == 0
    assert main(["--run.resume", "a"]) == 0
    assert len(stored_ids(tmp_path / "a")) == 5


def test_a_resumed_run_may_grow_but_not_change_what_episodes_depend_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SCRIPTED, "--episodes", "5", "--directory", "a"]) == 0
    assert main(["--run.resume", "a", "--seed", "9"]) == 2
    assert "run.seed was 0 and cannot become 9" in capsys.readouterr().err
    assert main(["--run.resume", "a", "--store.experiences", "none"]) == 2
    assert "store.experiences was 'shipped' and cannot become None" in capsys.readouterr().err
    assert main(["--run.resume", "a", "--episodes", "8"]) == 0
    assert len(stored_ids(tmp_path / "a")) == 8


def test_two_runs_of_one_name_cannot_share_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--store.path", "shared.sqlite", "--episodes", "2"]
    assert main([*SCRIPTED, *shared, "--directory", "a/same"]) == 0
    assert main([*SCRIPTED, *shared, "--directory", "b/same"]) == 2
    assert "holds episodes of a run called 'same' already" in capsys.readouterr().err


def test_a_dry_run_prints_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SCRIPTED, "--episodes", "12", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "episodes = 12" in said
    assert "ok  tasks" in said
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_names_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--policy.model", "./absent", "--dry-run"]) == 2
    assert "BAD policy      --policy.model ./absent: no checkpoint there" in capsys.readouterr().out


def test_what_cannot_work_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--policy.model", "./absent"]) == 2
    said = capsys.readouterr().err
    assert "dreamsim: --policy.model ./absent" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dreamsim.store.lock import WriterLock

    store = tmp_path / "used.sqlite"
    store.touch()
    lock = WriterLock(store)
    try:
        assert main([*SCRIPTED, "--store.path", str(store)]) == 2
    finally:
        lock.release()
    assert "is being written to by process" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_within_five_seconds_and_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "dreamsim.run", *SCRIPTED, "--directory", "a", "--concurrency", "300"]
    command += ["--episodes", "5000", "--scripted.latency_s", "0.3", "--display.interval_s", "0.3"]
    path = os.pathsep.join(str(ROOT / part) for part in ("", "adapters", "trainers"))
    launched = time.monotonic()
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        # Measured in starts of Python (one second on an idle core), so that a busy machine does not fail the test.
        start_s = max(1.0, time.monotonic() - launched)
        finished = next((line for line in iter(process.stdout.readline, "") if _some_finished(line)), None)
        assert finished is not None, "the run ended by itself"
        begun = time.monotonic()
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert time.monotonic() - begun < 5 * start_s
    figures = summary(tmp_path / "a")
    assert len(set(stored_ids(tmp_path / "a"))) == figures["episodes_stored"]
    assert "go on    python -m dreamsim.run --run.resume a" in rest


def test_a_disk_that_fills_up_ends_the_run_with_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    written = []

    def write(connection: sqlite3.Connection, episodes: Iterable[Episode]) -> object:
        some = list(episodes)
        written.extend(some)
        if len(written) > 20:
            raise sqlite3.OperationalError("database or disk is full")
        return write_episodes(connection, some)

    monkeypatch.setattr("dreamsim.store.writer.write_episodes", write)
    arguments = ["--episodes", "200", "--concurrency", "10", "--scripted.latency_s", "0.01", "--directory", "a"]
    assert main([*SCRIPTED, *arguments]) == 1
    said = capfd.readouterr()
    assert "database or disk is full" in said.out
    assert "Traceback" not in said.err
    assert 0 < len(stored_ids(tmp_path / "a")) <= 20
    assert "go on    python -m dreamsim.run --run.resume a" in said.out


def test_a_run_goes_on_when_nobody_reads_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dreamsim.run", *SCRIPTED, "--directory", "a", "--episodes", "200"]
    command += ["--concurrency", "100", "--scripted.latency_s", "0.2", "--display.interval_s", "0.1"]
    path = os.pathsep.join(str(ROOT / part) for part in ("", "adapters", "trainers"))
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
    assert process.returncode == 0
    assert len(stored_ids(tmp_path / "a")) == 200


def _some_finished(line: str) -> bool:
    return " of 5,000 episodes" in line and line.split()[1] != "0"
