"""kill -9 of whole runs at seeded moments, and that the looking itself finds what is wrong."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from benchmarks.holds_kill9 import figures
from benchmarks.kill9_checks import compare, look, records
from dreamsim.records.quality import EVERYTHING
from dreamsim.store.rows import write_episodes
from dreamsim.store.schema import open_writer
from dreamsim.store.store import open_store
from tests.store.samples import make_episode

ROOT = Path(__file__).parents[2]


def do_trials(work: Path, count: int) -> list[dict[str, Any]]:
    path = os.pathsep.join(str(ROOT / part) for part in ("", "adapters", "trainers"))
    command = [sys.executable, "-m", "benchmarks.kill9_trials", "--work", str(work), "--trials", str(count)]
    said = subprocess.run(
        [*command, "--seeds", "11"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return [json.loads(line) for line in said.splitlines()]


def test_runs_killed_at_any_moment_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    trials = do_trials(tmp_path, 10)
    assert [one["wrong"] for one in trials if one["wrong"]] == []
    assert len({kind for one in trials for kind in one["kills"]}) >= 3
    measured, more = figures(trials)
    assert (measured["kill9_lost"].value, measured["kill9_lost"].n) == (0, 10)
    assert more["sittings"] > more["kills"] >= 10
    assert do_trials(tmp_path, 10) == [], "trials that are done are not done again"


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """The directory of a run of 20 episodes, and its acknowledgements."""
    directory = tmp_path / "run"

    async def fill() -> None:
        async with open_store(directory / "store.sqlite", quality=EVERYTHING) as store:
            await store.add_all(make_episode(number) for number in range(20))
            await store.flush()

    anyio.run(fill)
    (tmp_path / "acknowledged").write_text("".join(f"{make_episode(number).id}\n" for number in range(20)))
    return directory


def looked_at(directory: Path) -> list[str]:
    return look(directory, directory.with_name("acknowledged"), directory.with_name("copy"))


def statement(text: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        connection = sqlite3.connect(directory / "store.sqlite")
        connection.execute(text)
        connection.commit()
        connection.close()

    return change


def acknowledge_one_more(directory: Path) -> None:
    with directory.with_name("acknowledged").open("a") as file:
        file.write("never-stored\n")


def cut_the_graph(directory: Path) -> None:
    file = next((directory / "store.sqlite.index").glob("*.usearch"))
    file.write_bytes(file.read_bytes()[:-64])


def test_nothing_is_wrong_with_a_sound_store(sound: Path) -> None:
    assert looked_at(sound) == []
    assert looked_at(sound) == [], "looking changes nothing"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (acknowledge_one_more, "lost: 1 of 21"),
        (statement("DELETE FROM steps WHERE id = 5"), "other steps than it says"),
        (statement("UPDATE episodes SET task_key = (SELECT task_key FROM episodes WHERE number = 1)"), "played twice"),
        (statement("DELETE FROM tasks WHERE key = (SELECT max(key) FROM tasks)"), "refers to one that is not there"),
        (statement("UPDATE steps SET action = 'other' WHERE id = 7"), "the vector of another text"),
        (cut_the_graph, "left unusable"),
        (lambda directory: (directory / "store.sqlite").unlink(), "no store"),
    ],
)
def test_what_is_wrong_is_found(sound: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(sound)
    assert said in "; ".join(looked_at(sound))


def test_records_of_two_runs_are_told_apart(sound: Path, tmp_path: Path) -> None:
    wanted = records(sound)
    assert compare(wanted, records(sound)) == []
    connection = open_writer(sound / "store.sqlite")
    write_episodes(connection, [make_episode(99)])
    connection.execute("UPDATE steps SET reward = 0.5 WHERE id = 3")
    connection.close()
    found = records(sound)
    assert [wrong[:18] for wrong in compare(wanted, found)] == ["doubled: 1 episode", "1 episodes differ "]
    del found[make_episode(0).id]
    assert compare(wanted, found)[0].startswith("lost: 1 tasks")
