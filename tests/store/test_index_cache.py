"""The search index as a cache: saved, found again, damaged, behind, made by another encoder or of another database."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio.to_thread
import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsim.errors import RetrievalError
from dreamsim.store.index import ExperienceIndex
from dreamsim.store.store import open_store
from tests.store.samples import CountingEncoder, ids_of, make_episode, query_like


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


async def reopened(path: Path, encoder: CountingEncoder) -> tuple[str | None, int, list[str]]:
    """Why the index was rebuilt, the texts encoded for that, and an answer."""
    encoder.calls.clear()
    async with open_store(path, encoder=encoder) as store:
        await store.flush()
        encoded = sum(encoder.calls)
        answer = await ids_of(store, query_like(4))
        return store.statistics().index_rebuilt, encoded, answer


async def filled(path: Path, encoder: CountingEncoder) -> list[str]:
    async with open_store(path, encoder=encoder) as store:
        await store.add_all(make_episode(number) for number in range(30))
        await store.flush()
        return await ids_of(store, query_like(4))


def index_files(path: Path) -> Path:
    return path.with_name(path.name + ".index")


async def test_a_saved_index_is_used_without_encoding_anything(path: Path) -> None:
    encoder = CountingEncoder()
    answer = await filled(path, encoder)
    assert await reopened(path, encoder) == (None, 0, answer)


def truncate(directory: Path) -> None:
    file = next(directory.glob("*.usearch"))
    file.write_bytes(file.read_bytes()[:-100])


def corrupt(directory: Path) -> None:
    file = next(directory.glob("*.usearch"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def delete_file(directory: Path) -> None:
    next(directory.glob("*.usearch")).unlink()


def delete_manifest(directory: Path) -> None:
    (directory / "manifest.json").unlink()


def garble_manifest(directory: Path) -> None:
    (directory / "manifest.json").write_text("{")


def change_format(directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps(manifest | {"format": 0}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "checksum"),
        (corrupt, "checksum"),
        (delete_file, "missing"),
        (delete_manifest, "missing"),
        (garble_manifest, "damaged"),
        (change_format, "another format"),
    ],
)
async def test_a_damaged_index_is_rebuilt(path: Path, damage: Callable[[Path], None], reason: str) -> None:
    encoder = CountingEncoder()
    answer = await filled(path, encoder)
    await anyio.to_thread.run_sync(damage, index_files(path))
    why, encoded, again = await reopened(path, encoder)
    assert why is not None
    assert reason in why
    assert encoded > 0
    assert again == answer
    assert await reopened(path, encoder) == (None, 0, answer)


async def test_another_encoder_rebuilds_the_index(path: Path) -> None:
    await filled(path, CountingEncoder())
    why, encoded, _ = await reopened(path, CountingEncoder(64))
    assert why is not None
    assert "encoder" in why
    assert encoded > 0


async def test_an_index_that_is_behind_encodes_only_what_it_lacks(path: Path) -> None:
    encoder = CountingEncoder()
    await filled(path, encoder)
    async with open_store(path, encoder=None) as store:
        await store.add_all(make_episode(number) for number in range(30, 33))
    why, encoded, answer = await reopened(path, encoder)
    assert why is None
    assert 0 < encoded <= 9
    async with open_store(path, encoder=encoder) as store:
        assert await ids_of(store, query_like(4)) == answer


async def test_the_index_of_another_database_is_not_used(path: Path, tmp_path: Path) -> None:
    encoder = CountingEncoder()
    answer = await filled(path, encoder)
    other = tmp_path / "other.sqlite3"
    async with open_store(other, encoder=encoder) as store:
        await store.add_all(make_episode(number) for number in range(1, 31))
        await store.flush()
    await anyio.to_thread.run_sync(lambda: swap(index_files(path), index_files(other)))
    why, _, again = await reopened(path, encoder)
    assert why is not None
    assert "other rows" in why
    assert again == answer


def swap(one: Path, other: Path) -> None:
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


async def test_a_reader_retrieves_and_leaves_the_index_as_it_was(path: Path) -> None:
    encoder = CountingEncoder()
    answer = await filled(path, encoder)
    await anyio.to_thread.run_sync(delete_manifest, index_files(path))
    async with open_store(path, encoder=encoder, read_only=True) as store:
        assert await ids_of(store, query_like(4)) == answer
    assert not (index_files(path) / "manifest.json").exists()


async def test_a_reader_who_never_asks_loads_no_index(path: Path) -> None:
    encoder = CountingEncoder()
    await filled(path, encoder)
    encoder.calls.clear()
    async with open_store(path, encoder=encoder, read_only=True) as store:
        assert (await store.counts()).episodes == 30
        assert store.statistics().indexed == 0


class UnreachableEncoder(CountingEncoder):
    """Like an endpoint whose dimension must be asked for."""

    @property
    def dimension(self) -> int:
        if self.broken:
            raise RetrievalError("the encoder is unreachable")
        return super().dimension


async def test_an_encoder_that_is_unreachable_when_the_store_is_opened_can_come_back(path: Path) -> None:
    encoder = UnreachableEncoder()
    answer = await filled(path, encoder)
    encoder.broken = True
    async with open_store(path, encoder=encoder) as store:
        with pytest.raises(RetrievalError, match="unreachable"):
            await store.retrieve(query_like(4))
        encoder.broken = False
        assert await ids_of(store, query_like(4)) == answer
        assert store.statistics().index_rebuilt is None


class UnhurriedEncoder(CountingEncoder):
    """Encodes until somebody saves the index, or for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.saving = threading.Event()
        self.overlapped = False

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.begun.set()
        self.overlapped |= self.saving.wait(0.1)
        return super().encode(texts)


async def test_an_index_that_is_being_extended_when_the_store_closes_is_saved_only_then(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = UnhurriedEncoder()
    save = ExperienceIndex.save

    def saving(index: ExperienceIndex, directory: Path) -> None:
        encoder.saving.set()
        save(index, directory)

    monkeypatch.setattr(ExperienceIndex, "save", saving)
    async with open_store(path, encoder=encoder) as store:
        await store.add_durable(make_episode(1))
        await anyio.to_thread.run_sync(encoder.begun.wait)
    assert encoder.saving.is_set()
    assert not encoder.overlapped
    assert (await reopened(path, CountingEncoder()))[0] is None


async def test_an_index_that_cannot_be_saved_is_made_again(path: Path) -> None:
    index_files(path).write_text("in the way")
    encoder = CountingEncoder()
    answer = await filled(path, encoder)
    why, encoded, again = await reopened(path, encoder)
    assert why is not None
    assert encoded > 0
    assert again == answer
