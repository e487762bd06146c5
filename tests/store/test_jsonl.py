"""Episodes to and from JSONL files."""

from __future__ import annotations

import gzip
import json
import lzma
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.errors import DatasetError
from dreamsim.records.codec import episode_from_json, episode_to_json
from dreamsim.records.episode import Episode
from dreamsim.store import jsonl
from dreamsim.store.jsonl import export_jsonl, import_jsonl, read_jsonl, read_records, write_jsonl
from dreamsim.store.store import open_store
from tests.store.samples import make_episode, query_like

# Tests write their files themselves, on the loop; the guard blames only what dreamsim does there.


def minimal(number: int = 0) -> dict[str, Any]:
    step = {"state": ["at: hall"], "action": f"go {number}", "next_state": ["at: attic"], "reward": 1, "done": True}
    return {"environment": "house", "instruction": "go up", "steps": [step]}


def write(path: Path, *lines: object) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.xz"])
async def test_what_is_exported_can_be_imported_elsewhere(tmp_path: Path, suffix: str) -> None:
    episodes = [make_episode(number) for number in range(150)]
    file = tmp_path / "new" / f"episodes{suffix}"
    async with open_store(tmp_path / "a.sqlite3", encoder=None) as store:
        await store.add_all(episodes)
        exported = await export_jsonl(file, store.episodes())
    async with open_store(tmp_path / "b.sqlite3", encoder=None) as store:
        report = await import_jsonl(file, store)
        again = [episode_to_json(episode) async for episode in store.episodes()]
    assert again == [episode_to_json(episode) for episode in episodes]
    assert (exported.episodes, exported.steps) == (150, 450)
    assert (report.lines, report.episodes, report.steps, report.known, report.skipped) == (150, 150, 450, 0, 0)


def test_the_example_in_the_documentation_is_read_as_it_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data-format.md").read_text(encoding="utf-8")
    examples = [json.loads(block) for block in re.findall(r"```json\n(.+?)```", text, flags=re.DOTALL)]
    assert len(examples) >= 2
    assert [episode_from_json(example).outcome for example in examples] == ["success"] * len(examples)


async def test_an_imported_episode_can_be_retrieved_at_once(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.sqlite3") as store:
        await import_jsonl(write(tmp_path / "e.jsonl", minimal()), store)
        assert [found.action for found in await store.retrieve(query_like(1))] == ["go 0"]


async def test_importing_a_file_twice_stores_it_once(tmp_path: Path) -> None:
    file = write(tmp_path / "e.jsonl", minimal(1), minimal(2), minimal(1))
    async with open_store(tmp_path / "s.sqlite3", encoder=None) as store:
        first = await import_jsonl(file, store)
        second = await import_jsonl(file, store)
        assert (first.episodes, first.known) == (2, 1)
        assert (second.episodes, second.known) == (0, 3)
        assert (await store.counts()).episodes == 2


BAD_LINES = [
    ("{", "not JSON"),
    ("[" * 4000, "inside each other"),
    ("NaN", "NaN"),
    ('{"environment": "x"}', "steps"),
    (json.dumps(minimal() | {"steps": [minimal()["steps"][0] | {"reward": None}]}), "steps[0].reward"),
    (json.dumps(minimal() | {"rewards": 1}), "rewards"),
    ('"' + "x" * 5000 + '"', "longer than 4096 bytes"),
]


@pytest.mark.parametrize(("line", "problem"), BAD_LINES, ids=range(len(BAD_LINES)))
async def test_one_bad_line_means_nothing_is_written(tmp_path: Path, line: str, problem: str) -> None:
    file = write(tmp_path / "e.jsonl", minimal(1), "", line, minimal(2))
    async with open_store(tmp_path / "s.sqlite3", encoder=None) as store:
        with pytest.raises(DatasetError, match=re.escape(problem)) as caught:
            await import_jsonl(file, store, max_line_bytes=4096)
        assert (await store.counts()).episodes == 0
    assert caught.value.line == 3
    assert str(caught.value).startswith(f"{file}:3: ")


async def test_bad_lines_are_left_out_and_named_on_request(tmp_path: Path) -> None:
    lines = [line for line, _ in BAD_LINES]
    file = write(tmp_path / "e.jsonl", minimal(1), *lines, minimal(2))
    async with open_store(tmp_path / "s.sqlite3", encoder=None) as store:
        report = await import_jsonl(file, store, on_bad="skip", max_line_bytes=4096)
        assert (await store.counts()).episodes == 2
    assert (report.lines, report.episodes, report.skipped) == (2 + len(lines), 2, len(lines))
    assert [bad.line for bad in report.bad_lines] == list(range(2, 2 + len(lines)))


async def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "e.jsonl"
    file.write_bytes(json.dumps(minimal()).encode() + b"\n\xff\xfe\xfa\n")
    async with open_store(tmp_path / "s.sqlite3", encoder=None) as store:
        with pytest.raises(DatasetError, match=":2: is not"):
            await import_jsonl(file, store)


async def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "e.jsonl"
    file.write_text("\ufeff" + json.dumps(minimal()), encoding="utf-8")
    async with open_store(tmp_path / "s.sqlite3", encoder=None) as store:
        assert (await import_jsonl(file, store)).episodes == 1


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
async def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    content = "".join(json.dumps(minimal(number)) + "\n" for number in range(500)).encode()
    packed = gzip.compress(content) if suffix == ".gz" else lzma.compress(content)
    file = tmp_path / f"e.jsonl{suffix}"
    file.write_bytes(packed[:-20])
    async with open_store(tmp_path / "s.sqlite3", encoder=None) as store:
        with pytest.raises(DatasetError, match="cannot be read"):
            await import_jsonl(file, store)
        assert (await store.counts()).episodes == 0


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.sqlite3", encoder=None) as store:
        with pytest.raises(DatasetError, match=r"missing\.jsonl"):
            await import_jsonl(tmp_path / "missing.jsonl", store)


async def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[Episode]:
        yield make_episode(1)
        raise OSError("disk gone")

    file = write(tmp_path / "e.jsonl", "old")
    with pytest.raises(OSError, match="disk gone"):
        await export_jsonl(file, failing())
    assert file.read_text(encoding="utf-8") == "old\n"
    assert names_in(tmp_path) == ["e.jsonl"]


async def test_an_export_of_the_same_episodes_is_the_same_file(tmp_path: Path) -> None:
    async def some() -> AsyncIterator[Episode]:
        for number in range(3):
            yield make_episode(number)

    contents = []
    for folder in ("a", "b"):
        await export_jsonl(tmp_path / folder / "e.jsonl.gz", some())
        contents.append((tmp_path / folder / "e.jsonl.gz").read_bytes())
    assert contents[0] == contents[1]


def test_a_file_can_be_read_without_a_store(tmp_path: Path) -> None:
    file = write(tmp_path / "e.jsonl", minimal(1), minimal(2), "{")
    read = read_jsonl(file)
    assert next(read).transitions[0].action == "go 1"
    assert next(read).transitions[0].action == "go 2"
    with pytest.raises(DatasetError, match=":3:"):
        next(read)


@settings(max_examples=60)
@given(line=st.binary(max_size=200) | st.text().map(str.encode))
def test_any_line_is_an_episode_or_a_named_problem(line: bytes) -> None:
    parsed = jsonl._parse(7, line, "import", 1000)
    assert parsed.line == 7
    assert (parsed.episode is None) == bool(parsed.problem)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.xz"])
def test_a_converter_writes_what_can_be_read_again(tmp_path: Path, suffix: str) -> None:
    log, target = write(tmp_path / "log.jsonl", {"n": 1}, {"n": 2}), tmp_path / f"episodes{suffix}"
    outcomes = write_jsonl(target, (make_episode(record["n"]) for record in read_records(log)))
    again = list(read_jsonl(target))
    assert [episode_to_json(episode) for episode in again] == [episode_to_json(make_episode(n)) for n in (1, 2)]
    assert outcomes.total() == 2


def test_a_record_that_is_no_json_is_named_and_no_half_file_is_left(tmp_path: Path) -> None:
    log, target = write(tmp_path / "log.jsonl", {"n": 1}, "{"), tmp_path / "episodes.jsonl"
    with pytest.raises(DatasetError, match=r"log\.jsonl:2: is not JSON"):
        write_jsonl(target, (make_episode(record["n"]) for record in read_records(log)))
    assert names_in(tmp_path) == ["log.jsonl"]
