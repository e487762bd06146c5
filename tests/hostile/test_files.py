"""Files that somebody else made: bounded, refused by name and line, and nothing is lost by them."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamsim.cli.tasks import read_tasks
from dreamsim.errors import DatasetError, RecordError
from dreamsim.records import limits
from dreamsim.records.codec import episode_from_json, episode_to_json
from dreamsim.runtime.bounded_files import read_numbered_lines
from dreamsim.store.jsonl import import_jsonl, read_jsonl
from dreamsim.store.store import open_store

STEP: dict[str, Any] = {"action": "go", "next_state": ["at: attic"], "reward": 0, "done": False}
EPISODE: dict[str, Any] = {"environment": "e", "instruction": "i", "first_state": ["at: hall"], "steps": [STEP]}
TASK: dict[str, Any] = {"environment": "e", "instruction": "i", "first_state": ["at: hall"]}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, "": bytes}


def test_lines_come_with_their_numbers_however_they_are_compressed(tmp_path: Path) -> None:
    content = "".join(f"line {number}\n" if number % 3 else "\n" for number in range(1, 5000)).encode()
    expected = [(number, f"line {number}\n".encode()) for number in range(1, 5000) if number % 3]
    for suffix in ("", ".gz", ".xz"):
        (tmp_path / f"f{suffix}").write_bytes(COMPRESS[suffix](content))
        assert list(read_numbered_lines(tmp_path / f"f{suffix}")) == expected


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_compressed_files_may_be_put_together(tmp_path: Path, suffix: str) -> None:
    parts = [COMPRESS[suffix](b"a\n" * 70_000), b"\0" * 8, COMPRESS[suffix](b"b\n")]
    (tmp_path / f"f{suffix}").write_bytes(b"".join(parts))
    assert [line for _, line in read_numbered_lines(tmp_path / f"f{suffix}")] == [b"a\n"] * 70_000 + [b"b\n"]


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_decompression_bomb_is_refused(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXPANSION_FREE_BYTES", 2**16)
    monkeypatch.setattr(limits, "EXPANSION", 20)
    bomb = tmp_path / f"bomb.jsonl{suffix}"
    bomb.write_bytes(COMPRESS[suffix](b"\n" * 2**22))
    with pytest.raises(DatasetError, match=r"bomb.*: it becomes more than 20 times as large"):
        list(read_jsonl(bomb))
    with pytest.raises(DatasetError, match="times as large"):
        list(read_tasks(bomb))


def test_an_xz_file_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    content = bytearray(lzma.compress(b"x\n", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**16}]))
    at = content.index(b"\x21\x01") + 2  # LZMA2, one byte of properties: the size of its dictionary
    content[at] = 40  # 4 GiB
    begin, end = 12, 12 + 4 * content[12]  # the block's header, which says its size, without its checksum
    content[end : end + 4] = zlib.crc32(bytes(content[begin:end])).to_bytes(4, "little")
    (tmp_path / "f.xz").write_bytes(bytes(content))
    with pytest.raises(DatasetError, match="bytes of memory"):
        list(read_numbered_lines(tmp_path / "f.xz"))


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    whole = COMPRESS[suffix](b"".join(json.dumps({**EPISODE, "run": str(n)}).encode() + b"\n" for n in range(300)))
    content = {"cut": whole[: len(whole) // 2], "garbage": b"\xff" * 100, "empty": b"\xfd7zXZ\0" + b"\1" * 9}[damage]
    file = tmp_path / f"e.jsonl{suffix}"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"e\.jsonl\.[gx]z:\d+: "):
        list(read_jsonl(file))


async def test_a_bomb_after_good_lines_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXPANSION_FREE_BYTES", 2**16)
    monkeypatch.setattr(limits, "EXPANSION", 20)
    bomb = tmp_path / "bomb.jsonl.xz"
    bomb.write_bytes(lzma.compress(json.dumps(EPISODE).encode() + b"\n" * 2**22))
    async with open_store(tmp_path / "s.sqlite", encoder=None) as store:
        with pytest.raises(DatasetError):
            await import_jsonl(bomb, store)
        assert (await store.counts()).episodes == 0


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[" * 3000, "inside each other"),
        (b'{"environment": 1' + b"0" * 5000 + b"}", "digits"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"environment": "e", "instruction": NaN}', "NaN"),
        (json.dumps({**TASK, "parameters": {"\x1b[2J": []}}).encode(), r"parameters.'\\x1b[2J'"),
        (json.dumps({**TASK, "\x1b[2J": 1}).encode(), r"'\\x1b[2J'"),
    ],
    ids=["deep", "digits", "bytes", "nan", "name", "field"],
)
def test_a_bad_line_of_a_task_list_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_bytes(json.dumps(TASK).encode() + b"\n" + line + b"\n")
    with pytest.raises(DatasetError) as caught:
        list(read_tasks(file))
    assert str(caught.value).startswith(f"{file}:2: ")
    assert problem.replace("\\\\", "\\") in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "bound", "change"),
    [
        ("STEPS", 3, {"steps": [STEP] * 4}),
        ("TEXT_CHARACTERS", 20, {"instruction": "x" * 21}),
        ("LIST_ITEMS", 4, {"first_state": [f"k{n}: v" for n in range(5)]}),
        ("LIST_ITEMS", 4, {"first_state": "\n".join(f"k{n}: v" for n in range(5))}),
        ("FREE_FIELDS", 2, {"parameters": {"a": 1, "b": 2, "c": 3}}),
        ("FREE_FIELDS", 2, {"quality": {"a": 1, "b": 0, "c": 1}}),
        ("ARRAY_ITEMS", 2, {"steps": [{**STEP, "decision": {"action": "go", "prompt_token_ids": [1, 2, 3]}}]}),
        ("ARRAY_ITEMS", 2, {"steps": [{**STEP, "decision": {"action": "go", "prompt_token_ids": "AAAA" * 4}}]}),
    ],
)
def test_an_episode_is_bounded(name: str, bound: int, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert episode_to_json(episode_from_json({**EPISODE, **change}))["environment"] == "e"
    monkeypatch.setattr(limits, name, bound)
    with pytest.raises(RecordError, match="at most"):
        episode_from_json({**EPISODE, **change})
