"""What a store keeps when its process is killed, its disk is full or its schema is another one."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from dreamsim.errors import StoreError, StoreLockedError, StoreSchemaError
from dreamsim.records.codec import episode_to_json
from dreamsim.run import main as run_main
from dreamsim.store.lock import WriterLock, writing_process
from dreamsim.store.schema import VERSION, open_reader, open_writer
from dreamsim.store.store import open_store
from tests.store.samples import make_episode

ROOT = Path(__file__).parents[2]
OLD = Path(__file__).with_name("data") / "schema_1.sql"
"""What a dreamsim of schema version 1 wrote."""
WRITTEN_THEN = [make_episode(1), make_episode(2, source="dreamed"), make_episode(3, steps=1)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

HOLDER = """
import sys
from pathlib import Path
from dreamsim.store.lock import WriterLock
lock = WriterLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""

MIGRATING = """
# One migration after another, each killed before its n-th statement, until one gets to its end.
import json, os, shutil, signal, sqlite3, sys
from contextlib import closing
from pathlib import Path
from dreamsim.store import schema

old, work = Path(sys.argv[1]), Path(sys.argv[2])
check = schema._check_version

def migrate(path, kill_at):
    seen = 0
    def traced(_):
        nonlocal seen
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    def checked(connection, path, *, writing):
        connection.set_trace_callback(traced)
        check(connection, path, writing=writing)
    schema._check_version = checked
    schema.open_writer(path).close()
    os._exit(0)

for kill_at in range(1, 100):
    path = work / f"{kill_at}.sqlite"
    shutil.copy(old, path)
    child = os.fork()
    if child == 0:
        migrate(path, kill_at)
    _, status = os.waitpid(child, 0)
    with closing(sqlite3.connect(path)) as connection:
        said = connection.execute("PRAGMA integrity_check").fetchall()
        version = connection.execute("SELECT value FROM meta").fetchall()
        columns = [row[1] for row in connection.execute("PRAGMA table_info(episodes)")]
        rows = connection.execute("SELECT id, step_count FROM episodes").fetchall()
        steps = connection.execute("SELECT count(*) FROM steps").fetchone()[0]
    print(json.dumps([status, said, version, "generation" in columns, rows, steps]))
    if status == 0:
        break
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def old(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD.read_text(encoding="utf-8"))
    return path


async def test_a_store_of_the_first_schema_is_migrated_with_everything_in_it(old: Path) -> None:
    async with open_store(old, encoder=None) as store:
        found = [episode_to_json(episode) async for episode in store.episodes()]
        await store.add_durable(make_episode(4))
    assert found == [episode_to_json(episode) for episode in WRITTEN_THEN]
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT value FROM meta").fetchall() == [(str(VERSION),)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_migration_that_is_killed_leaves_the_old_store_or_the_new_one(old: Path, tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", MIGRATING, str(old), str(tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    outcomes = [json.loads(line) for line in said.splitlines()]
    rows = [[episode.id, len(episode.transitions)] for episode in WRITTEN_THEN]
    for status, integrity, version, has_column, found, steps in outcomes:
        assert status in (0, signal.SIGKILL)
        assert integrity == [["ok"]]
        assert version == [["2" if has_column else "1"]]
        assert (found, steps) == (rows, 7)
    assert len(outcomes) > 10
    assert outcomes[-1][:1] + outcomes[-1][2:4] == [0, [["2"]], True]


async def test_an_old_store_whose_migration_fails_is_refused_and_left_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await anyio.to_thread.run_sync(old.read_bytes)
    monkeypatch.setattr(
        "dreamsim.store.schema.MIGRATIONS", {1: ("ALTER TABLE episodes ADD COLUMN other TEXT", "no statement at all")}
    )
    with pytest.raises(StoreError, match="syntax error"):
        async with open_store(old, encoder=None):
            pass
    with closing(sqlite3.connect(old)) as connection:
        assert "other" not in {row[1] for row in connection.execute("PRAGMA table_info(episodes)")}
    assert await anyio.to_thread.run_sync(old.read_bytes) == before


@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_a_store_of_a_newer_schema_is_refused_with_what_to_do(
    old: Path, opened: Callable[[Path], sqlite3.Connection]
) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE meta SET value = ?", (str(VERSION + 1),))
    before = old.read_bytes()
    with pytest.raises(StoreSchemaError, match=f"version '?{VERSION + 1}'?, this version reads {VERSION}: upgrade"):
        opened(old)
    assert old.read_bytes() == before


def test_the_lock_names_its_owner_and_dies_with_it(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert writing_process(path) == str(owner.pid)
        with pytest.raises(StoreLockedError, match=f"written to by process {owner.pid}: stop it, choose another"):
            WriterLock(path)
        owner.kill()
    assert writing_process(path) is None
    lock = WriterLock(path)
    assert writing_process(path) == str(os.getpid())
    lock.release()


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_store_has_one_lock_whatever_link_leads_to_it(tmp_path: Path, linked: str) -> None:
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real / "a.sqlite" if linked == "file" else real)
    reached = link if linked == "file" else link / "a.sqlite"
    for first, second in ((real / "a.sqlite", reached), (reached, real / "a.sqlite")):
        lock = WriterLock(first)
        assert writing_process(second) == str(os.getpid())
        with pytest.raises(StoreLockedError, match="written to by process"):
            WriterLock(second)
        lock.release()


async def test_a_store_that_is_open_is_not_opened_through_a_link(path: Path) -> None:
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    async with open_store(path):
        with pytest.raises(StoreLockedError):
            async with open_store(link):
                pass
        async with open_store(link, read_only=True):
            pass


async def test_a_link_to_itself_is_no_store(path: Path) -> None:
    link = path.with_name("link.sqlite")
    link.symlink_to(link)
    with pytest.raises(StoreError):
        async with open_store(link):
            pass


def test_two_runs_on_one_store_are_refused_while_the_first_lives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scripted = ["--policy.engine=scripted", "--experience.engine=scripted", "--display.mode=off", "--episodes=2"]
    lock = WriterLock(tmp_path / "shared.sqlite")
    (tmp_path / "shared.sqlite").touch()
    assert run_main([*scripted, "--store.path=shared.sqlite", "--directory=a"]) == 2
    assert f"is being written to by process {os.getpid()}" in capsys.readouterr().err
    lock.release()
    assert run_main([*scripted, "--store.path=shared.sqlite", "--directory=a"]) == 0


def full_after(pages: int) -> Callable[..., sqlite3.Connection]:
    """Opens stores whose disk has room for so many pages: SQLite itself says that it is full."""

    def opened(*arguments: Any) -> sqlite3.Connection:
        connection = open_writer(*arguments)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    return opened


async def test_a_full_disk_loses_nothing_that_was_acknowledged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamsim.store.store.open_writer", full_after(40))
    monkeypatch.setattr("dreamsim.store.writer.PATIENCE_S", 0.1)
    acknowledged: list[str] = []

    async def fill_up() -> None:
        async with open_store(path, encoder=None) as store:
            for number in range(10_000):
                await store.add_durable(make_episode(number))
                acknowledged.append(make_episode(number).id)

    with pytest.raises(StoreError, match="database or disk is full"):
        await fill_up()
    assert 10 < len(acknowledged) < 10_000
    monkeypatch.undo()
    async with open_store(path, encoder=None) as store:
        assert [episode.id async for episode in store.episodes()] == acknowledged
        await store.add_durable(make_episode(20_000))


def test_a_run_whose_disk_fills_up_ends_with_what_is_stored_and_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dreamsim.store.store.open_writer", full_after(45))
    monkeypatch.setattr("dreamsim.store.writer.PATIENCE_S", 0.1)
    arguments = ["--policy.engine=scripted", "--experience.engine=scripted", "--episodes=300", "--concurrency=8"]
    assert run_main([*arguments, "--scripted.latency_s=0.001", "--directory=a"]) == 1
    said = capfd.readouterr()
    assert "database or disk is full" in said.out
    assert "Traceback" not in said.err
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert 0 < summary["episodes_stored"] < 300
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run_main(["--run.resume=a"]) == 0
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["episodes_stored"] == 300
