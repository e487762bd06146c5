"""`dreamsim doctor`: what it finds, and that it changes nothing."""

from __future__ import annotations

import hashlib
import json
import resource
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from anyio import to_thread

from dreamsim.cli import doctor_machine, doctor_servers
from dreamsim.cli.doctor import main
from dreamsim.cli.engines import ROLES
from dreamsim.run import main as run_main
from dreamsim.store.lock import WriterLock
from tests.engines.server import Server, serving

SCRIPTED = ["--policy.engine", "scripted", "--experience.engine", "scripted"]


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    assert run_main([*SCRIPTED, "--episodes", "12", "--directory", "a", "--display.mode", "off"]) == 0
    return tmp_path / "a"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code and the findings by name."""
    capsys.readouterr()
    code = main(["--json", *arguments])
    return code, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}


def contents(directory: Path) -> dict[str, str]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and not path.name.endswith("-shm"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def change(store: Path, *statements: str) -> None:
    connection = sqlite3.connect(store)
    connection.execute("PRAGMA foreign_keys = OFF")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_sound_run_is_found_sound_and_is_not_changed(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(finished_run)
    code, found = told(capsys, "--run", "a")
    assert (code, [name for name, one in found.items() if one["level"] == "wrong"]) == (0, [])
    assert found["episodes"]["text"].startswith("12 episodes with ")
    assert {"python", "usearch", "torch", "java", "open files", "schema", "integrity", "index", "disk"} <= set(found)
    assert contents(finished_run) == before


def test_lines_say_what_to_do_and_the_exit_code_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SCRIPTED, "--store", "absent.sqlite"]) == 1
    said = capsys.readouterr().out
    assert f"WRONG   store              no store at {tmp_path / 'absent.sqlite'}" in said
    assert "-> name one with --store or --run" in said
    assert "1 wrong, " in said


@pytest.mark.parametrize(
    ("statements", "name", "level", "text"),
    [
        (["UPDATE meta SET value = '999' WHERE key = 'schema_version'"], "schema", "wrong", "version 999"),
        (["UPDATE meta SET value = '1' WHERE key = 'schema_version'"], "schema", "warning", "version 1"),
        (["DROP TABLE meta"], "schema", "wrong", "not a dreamsim store"),
        (["DELETE FROM tasks WHERE key = (SELECT max(key) FROM tasks)"], "integrity", "wrong", "refer to rows"),
        (["DELETE FROM steps WHERE id = (SELECT max(id) FROM steps)"], "episodes", "wrong", "1 of 12 episodes"),
        (["UPDATE steps SET text_hash = text_hash + 1"], "index", "warning", "does not agree"),
    ],
)
def test_what_is_wrong_with_a_store_is_named(
    finished_run: Path,
    capsys: pytest.CaptureFixture[str],
    statements: list[str],
    name: str,
    level: str,
    text: str,
) -> None:
    filled = ["--store.filter.verified_only=no", "--store.filter.min_quality=0"]
    assert run_main(["--run.resume", "a", "--episodes", "12", *filled]) == 0
    change(finished_run / "store.sqlite", *statements)
    code, found = told(capsys, "--store", str(finished_run / "store.sqlite"), *SCRIPTED)
    assert (found[name]["level"], code) == (level, int(level == "wrong"))
    assert text in found[name]["text"]
    assert found[name]["advice"]


def test_a_damaged_page_is_found(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = finished_run / "store.sqlite"
    content = bytearray(store.read_bytes())
    content[3 * 4096 : 3 * 4096 + 64] = b"\xff" * 64
    store.write_bytes(content)
    code, found = told(capsys, "--store", str(store), *SCRIPTED)
    assert code == 1
    assert any(one["level"] == "wrong" for one in (found.get("integrity"), found.get("store")) if one)


def test_a_store_that_is_being_written_to_is_looked_at_and_its_writer_named(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = WriterLock(finished_run / "store.sqlite")
    try:
        code, found = told(capsys, "--run", "a")
        assert code == 0
        assert found["lock"]["level"] == "warning"
        assert "writes to it" in found["lock"]["text"]
        assert found["episodes"]["level"] == "ok"
    finally:
        lock.release()
    assert told(capsys, "--run", "a")[1]["lock"]["level"] == "ok"


def test_a_run_that_was_killed_is_told_how_to_go_on(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished_run / "summary.json").unlink()
    assert "--run.resume a" in told(capsys, "--run", "a")[1]["run"]["advice"]
    (finished_run / "summary.json").write_text("{")
    assert told(capsys, "--run", "a")[1]["run"]["level"] == "warning"
    code, found = told(capsys, "--run", "nowhere", *SCRIPTED)
    assert (code, found["run"]["level"]) == (1, "wrong")


def test_a_model_that_is_not_there_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = told(capsys, "--policy.model", "./absent")
    assert code == 1
    assert "no checkpoint there" in found["policy"]["text"]


def test_too_few_open_files_for_the_connections_are_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    server = ["--policy.url", "http://127.0.0.1:1/v1", "--policy.model", "m"]
    assert told(capsys, *SCRIPTED)[1]["open files"]["level"] == "ok"
    code, found = told(capsys, *server, "--concurrency", "2000")
    assert (code, found["open files"]["level"]) == (1, "wrong")
    assert found["open files"]["advice"].startswith("ulimit -n 2128")


async def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """What is told, while the test's own server answers on this loop."""
    with anyio.fail_after(60):
        return await to_thread.run_sync(lambda: told(capsys, *arguments))


@asynccontextmanager
async def having(model: str) -> AsyncIterator[Server]:
    """A server that has this model."""
    async with serving() as server:
        server.card["id"] = model
        yield server


def served(server: Server) -> list[str]:
    """Settings with both engines at `server`."""
    values = {"url": server.url, "model": "llama"}
    return [f"--{role}.{name}={value}" for role in ROLES for name, value in values.items()]


async def test_servers_that_answer_and_have_the_model_are_found_sound(capsys: pytest.CaptureFixture[str]) -> None:
    async with having("llama") as server:
        _, found = await asked(capsys, *served(server))
        assert len(server.headers) == 1  # both roles are one server's, which is asked once
    for name in ("policy server", "experience server"):
        assert found[name]["level"] == "ok"
        assert found[name]["text"] == f"{server.url} answers and has llama, of 64 tokens of context"


async def test_a_server_without_the_model_is_wrong_and_its_models_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with having("other\x1b[31m") as server:
        code, found = await asked(capsys, *served(server))
    assert (code, found["policy server"]["level"]) == (1, "wrong")
    assert "has no model 'llama'; it has other\N{REPLACEMENT CHARACTER}[31m" in found["policy server"]["text"]
    assert "--policy.model" in found["policy server"]["advice"]
    assert "--experience.model" in found["experience server"]["advice"]


async def test_a_server_that_nobody_started_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    async with having("llama") as gone:
        arguments = served(gone)
    code, found = await asked(capsys, *arguments)
    assert (code, found["policy server"]["level"]) == (1, "wrong")
    assert "cannot be reached" in found["policy server"]["text"]
    assert found["policy server"]["advice"] == "start it, or correct --policy.url"


async def test_a_server_that_hangs_is_given_up_soon_and_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_servers, "WITHIN_S", 0.1)
    async with having("llama") as server:
        server.hold_models = anyio.Event()
        code, found = await asked(capsys, *served(server))
    assert (code, found["policy server"]["level"]) == (1, "wrong")
    assert "did not say within 0.1 s" in found["policy server"]["text"]


async def test_a_server_that_refuses_the_key_is_wrong_and_the_variable_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-secret")
    async with having("llama") as server:
        server.first = [web.Response(status=401, text="bad key sk-secret")]
        code, found = await asked(capsys, *served(server), *(f"--{r}.api_key_variable=TEST_KEY" for r in ROLES))
    assert (code, found["policy server"]["level"]) == (1, "wrong")
    assert "sk-secret" not in str(found)
    assert "TEST_KEY" in found["policy server"]["advice"]


async def test_the_server_of_the_judge_is_asked_too(capsys: pytest.CaptureFixture[str]) -> None:
    async with having("llama") as server:
        judge = ["--experience.verify.by=judge", f"--experience.verify.judge_url={server.url}"]
        code, found = await asked(capsys, *served(server), *judge, "--experience.verify.judge_model=absent")
    assert (code, found["judge server"]["level"], found["policy server"]["level"]) == (1, "wrong", "ok")
    assert "--experience.verify.judge_model" in found["judge server"]["advice"]


async def test_the_servers_of_a_run_are_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "b"
    run.mkdir()
    async with having("llama") as server:
        roles = (f'[{role}]\nurl = "{server.url}"\nmodel = "llama"\n' for role in ROLES)
        (run / "config.toml").write_text("".join(roles))
        _, found = await asked(capsys, "--run", "b")
    assert found["policy server"]["level"] == "ok"


def test_without_servers_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert [name for name in told(capsys, *SCRIPTED)[1] if "server" in name] == []


def test_engines_that_do_not_fit_into_memory_are_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_machine, "has_gpu", lambda: False)
    monkeypatch.setattr(doctor_machine, "available_gib", lambda: 3.0)
    assert told(capsys, "--vllm.kv_cache_gib", "1")[1]["memory"]["level"] == "ok"
    assert told(capsys, "--vllm.kv_cache_gib", "8")[1]["memory"]["level"] == "wrong"


@pytest.mark.parametrize(
    ("version", "bounds", "good"),
    [
        ("2.13.0+cpu", "==2.13.0", True),
        ("5.19.1", ">=5.19,<5.20", True),
        ("5.20", ">=5.19,<5.20", False),
        ("0.33.0", "<0.34", True),
        ("1", ">=1.0", True),
        ("7.3", "", True),
    ],
)
def test_versions_are_compared_number_by_number(version: str, bounds: str, good: bool) -> None:
    assert doctor_machine.fits(version, bounds) is good
