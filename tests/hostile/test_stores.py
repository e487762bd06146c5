"""Store files that are damaged, of another program, or made to harm."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dreamsim.cli.main import main
from dreamsim.errors import DreamsimError, RetrievalError, StoreError, StoreSchemaError
from dreamsim.records.experience import ExperienceQuery
from dreamsim.store.sampling import SamplingRule
from dreamsim.store.store import Store, open_store
from tests.store.samples import make_episode

QUERY = ExperienceQuery(state=("at: hall",), action="go", k=2)


async def a_store(path: Path) -> Path:
    async with open_store(path, encoder=None) as store:
        await store.add_all([make_episode(number) for number in range(3)])
    return path


def spoil(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


WITH_DECISIONS = (
    "UPDATE steps SET decision_action = 'go', thought = '', prompt_shared = 0, prompt_ids = x'', "
    "completion_ids = x'01000000', completion_logprobs = x'00000000', finish_reason = 'stop', prompt_tokens = 0, "
    "cached_tokens = 0, policy_version = ''"
)
EPISODE_DAMAGE: list[tuple[str, Any]] = [
    ("outcome", "banana"),
    ("source", "[red]"),
    ("purpose", ""),
    ("run", b"\xff\xfe"),
    ("policy", b"x"),
    ("quality", "[]"),
    ("quality", "{"),
    ("quality", '{"a": "b"}'),
    ("quality", '{"a": 1e999}'),
    ("quality", "[" * 5000),
    ("started_at", "soon"),
    ("started_at", float("inf")),
    ("repeat", "x"),
    ("generation", "x"),
    ("error_kind", b"x"),
]
STEP_DAMAGE: list[tuple[str, Any]] = [
    ("state", "7"),
    ("next_state", "[1, 2]"),
    ("next_state", '"text"'),
    ("next_state", "[" * 5000),
    ("next_state", b"[]"),
    ("action", b"\x1b"),
    ("reward", "much"),
    ("reward", float("-inf")),
    ("outcome", "won"),
    ("admissible", "{}"),
    ("retrieved", "null"),
    ("samples", "x"),
    ("score", "x"),
    ("trust", "{"),
    ("trust", '{"evil": 1}'),
    ("trust", "[" * 5000),
    ("prompt_ids", "text"),
    ("completion_ids", b"\0\0\0"),
    ("completion_logprobs", None),
    ("finish_reason", "tired"),
    ("prompt_shared", "x"),
]
DAMAGE = [("episodes", *one) for one in EPISODE_DAMAGE] + [("steps", *one) for one in STEP_DAMAGE]
DAMAGE += [("tasks", name, value) for name, value in (("first_state", "1"), ("parameters", "[]"), ("seed", "x"))]


@pytest.mark.parametrize(("table", "column", "value"), DAMAGE, ids=[f"{one[0]}.{one[1]}" for one in DAMAGE])
async def test_a_row_that_nobody_here_writes_is_one_typed_error(
    tmp_path: Path, table: str, column: str, value: Any
) -> None:
    path = await a_store(tmp_path / "s.sqlite")
    spoil(path, WITH_DECISIONS)
    spoil(path, f"UPDATE {table} SET {column} = ?", value)
    read = 0
    said: list[str] = []
    async with open_store(path, encoder=None, read_only=True) as store:
        for use in (
            lambda: _all(store.episodes()),
            lambda: store.sample(2, SamplingRule(), seed=1),
            lambda: store.sample_experiences(2, SamplingRule(), seed=1),
            store.counts,
            store.runs,
        ):
            try:
                await use()
                read += 1
            except StoreError as error:
                said.append(str(error))
    assert read + len(said) == 5
    assert said
    assert all(str(path) in text and len(text) < 1000 for text in said)


async def _retrieved(store: Store) -> None:
    await store.retrieve(QUERY)
    await store.flush()


async def _all(episodes: Any) -> list[Any]:
    return [episode async for episode in episodes]


@pytest.mark.parametrize(("column", "value"), [("state", "7"), ("next_state", "[1]"), ("reward", "much")])
async def test_what_cannot_be_read_cannot_be_retrieved_and_ends_nothing_else(
    tmp_path: Path, column: str, value: Any
) -> None:
    path = await a_store(tmp_path / "s.sqlite")
    spoil(path, f"UPDATE steps SET {column} = ?", value)
    async with open_store(path, encoder="lexical") as store:
        with pytest.raises(DreamsimError):
            await _retrieved(store)
        await store.add_durable(make_episode(9))
        assert (await store.counts()).episodes == 4


GARBAGE = [b"", b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 5000, b"x" * 100, b"PK\3\4" * 400]


@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
async def test_a_file_of_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"s\.sqlite"):
        async with open_store(path, encoder=None, read_only=True):
            pass


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE notes (text TEXT)",
        "CREATE VIEW episodes AS SELECT 1",
        "CREATE VIRTUAL TABLE episodes USING fts5(text)",
    ],
)
async def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "s.sqlite"
    spoil(path, statement)
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(StoreSchemaError):
            async with open_store(path, encoder=None, read_only=read_only):
                pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER evil AFTER INSERT ON episodes BEGIN DELETE FROM steps; END",
        "CREATE VIEW evil AS SELECT load_extension('x')",
    ],
)
async def test_a_store_that_does_something_by_itself_is_refused(tmp_path: Path, statement: str) -> None:
    path = await a_store(tmp_path / "s.sqlite")
    spoil(path, statement)
    with pytest.raises(StoreSchemaError, match="trigger or view, 'evil'"):
        async with open_store(path, encoder=None):
            pass


@pytest.mark.parametrize("version", ["", "-1", "\u00b2", "9" * 6000, "1e3", b"\xff", 7.5])
async def test_a_version_that_is_none_is_refused(tmp_path: Path, version: Any) -> None:
    path = await a_store(tmp_path / "s.sqlite")
    spoil(path, "UPDATE meta SET value = ? WHERE key = 'schema_version'", version)
    with pytest.raises(StoreSchemaError):
        async with open_store(path, encoder=None, read_only=True):
            pass


@pytest.mark.parametrize(
    "change",
    [
        {"last_row": 2**70},
        {"last_row": "x"},
        {"partitions": 7},
        {"partitions": [{"name": ["a"]}]},
        {"partitions": [7]},
        {"format": [[]]},
    ],
)
async def test_an_index_that_is_damaged_is_made_again(tmp_path: Path, change: dict[str, Any]) -> None:
    path = await a_store(tmp_path / "s.sqlite")
    async with open_store(path) as store:
        await store.flush()
    manifest = tmp_path / "s.sqlite.index" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    async with open_store(path) as store:
        await store.flush()
        assert store.statistics().index_rebuilt is not None
        assert await store.retrieve(QUERY)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "0-00000000.usearch/../../secret", "", 7])
async def test_an_index_names_no_file_elsewhere(tmp_path: Path, name: Any) -> None:
    path = await a_store(tmp_path / "s.sqlite")
    async with open_store(path) as store:
        await store.flush()
    manifest = tmp_path / "s.sqlite.index" / "manifest.json"
    told = json.loads(manifest.read_text())
    told["partitions"] = [{**entry, "file": name} for entry in told["partitions"]]
    manifest.write_text(json.dumps(told))
    async with open_store(path) as store:
        await store.flush()
        assert "damaged" in str(store.statistics().index_rebuilt)


def test_a_spoilt_store_is_one_line_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert main(["episodes", "--store", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


async def test_retrieval_says_that_a_store_cannot_be_read(tmp_path: Path) -> None:
    path = await a_store(tmp_path / "s.sqlite")
    spoil(path, "UPDATE steps SET state = '7'")
    async with open_store(path) as store:
        with pytest.raises(RetrievalError, match=r"s\.sqlite holds something that cannot be read"):
            await store.flush()
