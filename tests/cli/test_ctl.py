"""Control of a live run over its socket: in this process, and through the command line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.cli.control_socket import LONGEST_PATH, ask, controlled, socket_of
from dreamsim.cli.control_words import LINE_BYTES, answer
from dreamsim.cli.ctl import main
from dreamsim.errors import UsageError
from dreamsim.flow.control import RunControl
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.simulator import Simulator
from dreamsim.testing import MemorySink, RandomPolicy, ScriptedEnvironment, scripted_tasks
from tests.flow.runs import RUN, RememberedTasks

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A run's directory whose path is short enough for a socket, however long that of this test is."""
    return Path(os.path.relpath(tmp_path)) if len(str(tmp_path)) > LONGEST_PATH - 20 else tmp_path


@asynccontextmanager
async def live(directory: Path, sink: MemorySink) -> AsyncIterator[Simulator]:
    """A run of 40 episodes, 8 at once, each step half a second, with its socket open."""
    simulator = Simulator(
        environment=ScriptedEnvironment(latency_s=0.5),
        policy=RandomPolicy(),
        tasks=RememberedTasks(scripted_tasks(5), episodes=40),
        sink=sink,
        run=RUN,
        concurrency=8,
        max_steps=8,
    )
    async with controlled(directory, simulator.control, simulator.telemetry), simulator:
        stream = simulator.episodes()
        while len(simulator.telemetry.live) < 8:
            await anyio.lowlevel.checkpoint()
        yield simulator
        await stream.aclose()


async def said(directory: Path, **wish: Any) -> dict[str, Any]:
    return await to_thread.run_sync(lambda: ask(socket_of(directory), wish))


async def test_a_live_run_is_looked_at_paused_limited_and_goes_on(directory: Path) -> None:
    async with live(directory, MemorySink()) as simulator:
        status = (await said(directory, command="status"))["result"]
        assert (status["state"], status["alive"], status["limit"], status["ceiling"]) == ("running", 8, 8, 8)
        assert (await said(directory, command="pause"))["result"]["state"] == "paused"
        assert simulator.control.paused
        assert (await said(directory, command="status"))["result"]["state"] == "paused"
        assert (await said(directory, command="limit", limit=3))["result"]["limit"] == 3
        assert (await said(directory, command="resume"))["result"]["state"] == "running"
        refused = await said(directory, command="limit", limit=9)
        assert (refused["ok"], "between 1 and 8" in refused["error"]) == (False, True)


async def test_what_everyone_awaits_is_told(directory: Path) -> None:
    async with live(directory, MemorySink()):
        dump = (await said(directory, command="dump"))["result"]
    assert dump["alive"] == 8
    assert dump["stations"]["environment"]["episodes"] == 8
    assert {one["awaiting"] for one in dump["episodes"]} == {"environment"}
    assert all("ScriptedSession.step" in one["where"] for one in dump["episodes"])


async def test_episodes_and_tasks_are_ended_and_stored_as_cancelled(directory: Path) -> None:
    sink = MemorySink()
    async with live(directory, sink) as simulator:
        first, *_ = simulator.telemetry.live.values()
        ended = (await said(directory, command="cancel-episode", id=first.id[:10]))["result"]
        assert ended == {"episode": first.id}
        while first.id not in sink.episodes:
            await anyio.lowlevel.checkpoint()
        other = next(one for one in simulator.telemetry.live.values() if one.task_key != first.task_key)
        task = (await said(directory, command="cancel-task", id=other.task_key))["result"]
        assert task["task"] == other.task_key
        while other.id not in sink.episodes:
            await anyio.lowlevel.checkpoint()
    for id in (first.id, other.id):
        assert sink.episodes[id].error_kind == "cancelled"
        assert "on request" in (sink.episodes[id].error_message or "")


async def test_only_the_user_can_open_the_socket(directory: Path) -> None:
    async with controlled(directory, RunControl(), Telemetry()) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()
    with pytest.raises(UsageError, match="no run listens"):
        await to_thread.run_sync(socket_of, directory)


async def test_a_path_too_long_for_a_socket_is_gone_around(tmp_path: Path) -> None:
    deep = tmp_path.joinpath("d" * 60, "e" * 60)
    deep.mkdir(parents=True)
    async with controlled(deep, RunControl(), Telemetry()) as path:
        assert len(os.fsencode(path)) <= LONGEST_PATH
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert (await said(deep, command="status"))["ok"]
    assert not path.parent.exists()


async def test_the_socket_of_a_dead_run_is_replaced_and_that_of_a_live_one_is_not(directory: Path) -> None:
    home = directory / "control"
    home.mkdir()
    dead = home / "socket"
    (home / "address").write_text(f"{dead}\n")
    listener = await anyio.create_unix_listener(dead)
    await listener.aclose()  # the file stays, as after kill -9
    assert dead.exists()
    async with controlled(directory, RunControl(), Telemetry()):
        assert (await said(directory, command="status"))["ok"]
        with pytest.raises(UsageError, match="in use by a run that is alive"):
            await controlled(directory, RunControl(), Telemetry()).__aenter__()
        assert (await said(directory, command="status"))["ok"]


def leave_address(directory: Path, named: Path) -> None:
    """As a run leaves it behind, or somebody who wants something else gone."""
    (directory / "control").mkdir()
    (directory / "control" / "address").write_text(f"{named}\n")


async def test_a_file_that_the_address_names_is_not_removed(directory: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    leave_address(directory, precious)
    async with controlled(directory, RunControl(), Telemetry()):
        assert (await said(directory, command="status"))["ok"]
    assert precious.read_text() == "kept"


async def test_a_socket_outside_the_places_of_runs_is_not_removed(directory: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as somebodys:
        somebodys.bind(str(directory / "agent"))
    leave_address(directory, directory / "agent")
    async with controlled(directory, RunControl(), Telemetry()):
        pass
    assert (tmp_path / "agent").is_socket()


async def test_a_folder_that_the_address_names_is_not_removed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    leave_address(directory, tmp_path / "empty" / "socket")
    async with controlled(directory, RunControl(), Telemetry()):
        pass
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("named", ["", "/", "a\0b", "../../..", "\udcff"])
async def test_an_address_that_is_no_path_of_a_socket_is_written_anew(directory: Path, named: str) -> None:
    (directory / "control").mkdir()
    (directory / "control" / "address").write_bytes(named.encode("utf-8", "surrogateescape"))
    async with controlled(directory, RunControl(), Telemetry()):
        assert (await said(directory, command="status"))["ok"]


@pytest.fixture
def abandoned() -> Iterator[Path]:
    """A folder that a dead run has left in the temporary directory with its socket, its own having too long a path."""
    folder = Path(tempfile.mkdtemp(prefix="dreamsim-"))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "socket"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def test_the_folder_that_a_dead_run_left_in_the_temporary_directory_is_removed(
    directory: Path, abandoned: Path
) -> None:
    leave_address(directory, abandoned / "socket")
    async with controlled(directory, RunControl(), Telemetry()):
        pass
    assert not list(abandoned.parent.glob(abandoned.name))


async def test_a_socket_of_another_user_is_left_alone(
    directory: Path, abandoned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_address(directory, abandoned / "socket")
    another = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: another)
    async with controlled(directory, RunControl(), Telemetry()):
        pass
    assert (abandoned / "socket").is_socket()


async def test_what_is_no_command_is_refused_and_the_socket_stays_open(directory: Path) -> None:
    async with controlled(directory, RunControl(), Telemetry()) as path:
        for sent in (b"\n", b"{}\n", b"x" * (LINE_BYTES + 1), b'{"command": "status", "more": 1}\n', b"\xff\xfe\n"):
            async with await anyio.connect_unix(path) as stream:
                await stream.send(sent)
                assert not json.loads(await stream.receive())["ok"]
        async with await anyio.connect_unix(path) as stream:
            await stream.send(b'{"comm')  # and leaves
        assert (await said(directory, command="status"))["ok"]


async def test_an_error_of_the_block_is_not_wrapped(directory: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with controlled(directory, RunControl(), Telemetry()):
            raise ZeroDivisionError


@settings(max_examples=200)
@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["command", "limit", "id", "x"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.sampled_from(["limit", "pause", "dump"]),
    ).map(lambda told: json.dumps(told).encode())
)
def test_every_line_has_an_answer_that_is_one_line(line: bytes) -> None:
    told = answer(line, RunControl(), Telemetry())
    assert told["ok"] in (True, False)
    assert len(json.dumps(told).encode()) < 2 * LINE_BYTES
    assert "\n" not in json.dumps(told)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere", "status"], "no run listens in nowhere"),
        (["nowhere", "limit"], "limit needs N"),
        (["nowhere", "limit", "many"], "needs a number"),
        (["nowhere", "pause", "5"], "takes no argument"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anybody_is_asked(arguments: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        main(arguments)


def test_a_run_is_controlled_from_the_command_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    scripted = ["--policy.engine", "scripted", "--experience.engine", "scripted", "--scripted.latency_s", "0.3"]
    arguments = [*scripted, "--episodes", "18", "--concurrency", "6", "--directory", str(run)]
    playing = subprocess.Popen([sys.executable, "-m", "dreamsim.run", *arguments], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        wait_until((run / "control" / "address").exists, playing)
        # Asked from here, because a command takes seconds to start on a busy machine.
        wait_until(lambda: ask(socket_of(run), {"command": "status"})["result"]["state"] == "running", playing)
        ask(socket_of(run), {"command": "pause"})
        # What had begun comes to its end, and then nothing moves.
        wait_until(lambda: set(ask(socket_of(run), {"command": "dump"})["result"]["stations"]) == {"paused"}, playing)
        before = ctl(run, "status")
        assert before["state"] == "paused"
        ended = ctl(run, "cancel-episode", ctl(run, "dump")["episodes"][0]["id"])["episode"]
        assert ctl(run, "status")["steps"] == before["steps"]
        assert ctl(run, "resume")["state"] == "running"
        assert playing.wait(timeout=60) == 0
    finally:
        playing.kill()
        playing.wait()
        assert playing.stdout is not None
        playing.stdout.close()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["episodes_stored"] == 18
    assert not (run / "control" / "address").exists()
    log = (run / "logs" / "run.jsonl").read_text()
    assert ended in log
    assert "cancelled on request" in log


def ctl(run: Path, *words: str) -> dict[str, Any]:
    """What `dreamsim ctl` prints."""
    asked = [sys.executable, "-m", "dreamsim", "ctl", str(run), *words, "--json"]
    told: dict[str, Any] = json.loads(subprocess.run(asked, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return told


def wait_until(true: Any, playing: subprocess.Popen[bytes]) -> None:
    """Wait for another process."""
    for _ in range(600):
        if true():
            return
        assert playing.poll() is None, "the run ended before"
        time.sleep(0.05)
    raise AssertionError("it never came")


async def test_a_question_that_cannot_be_answered_does_not_end_the_run(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise AttributeError("a coroutine of another kind")

    monkeypatch.setattr("dreamsim.cli.control_words.whereabouts", fails)
    async with live(directory, MemorySink()):
        told = await said(directory, command="dump")
        assert (told["ok"], "a coroutine of another kind" in told["error"]) == (False, True)
        assert (await said(directory, command="status"))["ok"]
