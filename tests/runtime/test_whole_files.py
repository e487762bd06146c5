"""Files appear whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dreamsim.runtime.whole_files import replacing, sync_tree, write_whole

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from dreamsim.runtime import whole_files

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

name = sys.argv[2]
if name == "write":
    with whole_files.replacing(Path(sys.argv[1])) as work:
        work.write_text("half")
        die()
setattr(whole_files if name == "sync" else Path, name, die)
whole_files.write_whole(Path(sys.argv[1]), "new")
"""


def test_a_file_is_written_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "file", "é\n")
    assert (tmp_path / "new" / "file").read_text(encoding="utf-8") == "é\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_whole(path, "old")
    with pytest.raises(TypeError), replacing(path) as work:
        work.write_bytes(b"half" + None)  # type: ignore[operator]  # fails on purpose
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize("moment", ["write", "sync", "replace"])
def test_a_kill_leaves_what_was_there_and_the_next_write_clears_up(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "file.json"
    write_whole(path, "old")
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), moment], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_content_is_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        order.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        order.append("name")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_whole(tmp_path / "file", "text")
    assert order == ["content", "name", "directory"]


def test_a_tree_is_synced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_text("1")
    (tmp_path / "a" / "b" / "two").write_text("2")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(name_of(descriptor)))
    sync_tree(tmp_path / "a")
    assert set(synced) == {"a", "b", "one", "two"}


def name_of(descriptor: int) -> str:
    return Path(f"/proc/self/fd/{descriptor}").readlink().name
