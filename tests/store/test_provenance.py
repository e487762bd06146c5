"""What every stored episode says of where it comes from, and stores of the version before that."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import anyio.to_thread
import pytest

from dreamsim.errors import RecordError, StoreError, StoreSchemaError
from dreamsim.records.codec import SCHEMA, episode_from_json, episode_to_json
from dreamsim.records.quality import EVERYTHING
from dreamsim.records.trust import Contradiction, Trust, Verdict
from dreamsim.store.lock import WriterLock
from dreamsim.store.store import open_store
from tests.store.samples import make_episode, query_like


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


def make_old(path: Path) -> None:
    """Turn a store into one of version 1."""
    connection = sqlite3.connect(path)
    for column in ("generation", "quality", "contradictions", "verified"):
        connection.execute(f"ALTER TABLE episodes DROP COLUMN {column}")
    connection.execute("ALTER TABLE steps DROP COLUMN trust")
    connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    connection.commit()
    connection.close()


async def old_store(path: Path) -> None:
    async with open_store(path, encoder=None) as store:
        await store.add_all([make_episode(1), make_episode(2, source="dreamed")])
    make_old(path)


def test_a_dreamed_episode_is_at_least_of_generation_one() -> None:
    assert make_episode(1, source="dreamed").generation == 1
    assert replace(make_episode(1, source="dreamed"), generation=3).generation == 3


def test_a_real_episode_has_no_other_generation_than_zero() -> None:
    assert make_episode(1).generation == 0
    with pytest.raises(RecordError, match="generation"):
        replace(make_episode(1), generation=1)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_outside_its_range_is_refused(score: float) -> None:
    with pytest.raises(RecordError, match=r"quality\.judge"):
        replace(make_episode(1), quality={"judge": score})


def test_an_episode_of_the_schema_before_is_read() -> None:
    written = episode_to_json(make_episode(1, source="dreamed"))
    assert written["schema"] == SCHEMA
    read = episode_from_json(written | {"schema": "dreamsim-episode/1"})
    assert (read.generation, read.quality) == (1, {})


def test_a_generation_that_contradicts_the_source_is_refused() -> None:
    with pytest.raises(RecordError, match="generation"):
        episode_from_json(episode_to_json(make_episode(1)) | {"generation": 2})


async def test_scores_and_findings_are_stored(path: Path) -> None:
    trust = Trust(
        rejected=(Contradiction(rule="one_place", message="in two places \ud800"),),
        verdict=Verdict(verifier="rules-1", outcome="running"),
        uncertainty=0.25,
    )
    dreamed = make_episode(1, source="dreamed")
    checked = tuple(replace(step, trust=trust) for step in dreamed.transitions)
    async with open_store(path, encoder=None) as store:
        await store.add_durable(replace(dreamed, transitions=checked, quality={"consistency": 0.5}))
        stored = await store.episode(dreamed.id)
    assert stored is not None
    assert stored.quality == {"consistency": 0.5}
    found = stored.transitions[0].trust
    assert found is not None
    assert found.rejected[0].message == "in two places \ufffd"
    assert (found.verdict, found.uncertainty) == (trust.verdict, 0.25)


async def test_an_uncertainty_that_could_not_be_read_again_is_refused(path: Path) -> None:
    dreamed = make_episode(1, source="dreamed")
    odd = tuple(replace(step, trust=Trust(uncertainty=1.5)) for step in dreamed.transitions)
    async with open_store(path, encoder=None) as store:
        with pytest.raises(StoreError, match=r"steps\[0\]\.trust\.uncertainty"):
            await store.add(replace(dreamed, transitions=odd))


async def test_a_dream_is_one_generation_above_what_it_was_shown(path: Path) -> None:
    async with open_store(path, encoder=None) as store:
        shown = "none:0"
        for number in range(4):
            episode = make_episode(number, source="dreamed" if number else "real")
            steps = tuple(replace(step, retrieved=("unknown:1", shown)) for step in episode.transitions)
            await store.add_durable(replace(episode, transitions=steps))
            shown = f"{episode.id}:2"
        assert [episode.generation async for episode in store.episodes()] == [0, 1, 2, 3]


async def test_an_experience_says_where_it_comes_from(path: Path) -> None:
    dreamed = replace(
        make_episode(1, source="dreamed"), policy="p@1", experience_model="m@2", quality={"judge.causality": 1.0}
    )
    trust = Trust(verdict=Verdict(verifier="rules-1", outcome="running"))
    dreamed = replace(dreamed, transitions=tuple(replace(step, trust=trust) for step in dreamed.transitions))
    async with open_store(path, quality=EVERYTHING) as store:
        await store.add(dreamed)
        await store.flush()
        found, *_ = await store.retrieve(query_like(1, sources=("dreamed",)))
    assert (found.source, found.generation, found.policy, found.experience_model) == ("dreamed", 1, "p@1", "m@2")
    assert found.quality == {"judge.causality": 1.0}
    assert found.trust == trust


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_store_of_the_version_before_is_migrated(path: Path, read_only: bool) -> None:
    await old_store(path)
    async with open_store(path, encoder=None, read_only=read_only) as store:
        episodes = [episode async for episode in store.episodes()]
    assert [episode_to_json(episode) for episode in episodes] == [
        episode_to_json(make_episode(1)),
        episode_to_json(make_episode(2, source="dreamed")),
    ]
    async with open_store(path, encoder=None) as store:
        await store.add_durable(replace(make_episode(3), quality={"judge": 0.5}))
        assert (await store.counts()).episodes == 3


async def test_a_migrated_store_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    def columns(file: Path) -> list[tuple[object, ...]]:
        connection = sqlite3.connect(file)
        statement = "SELECT m.name, p.name, p.type, p.dflt_value FROM sqlite_master m, pragma_table_info(m.name) p"
        found = sorted(connection.execute(f"{statement} WHERE m.type = 'table'").fetchall(), key=repr)
        connection.close()
        return found

    await old_store(path)
    async with open_store(path, encoder=None):
        pass
    async with open_store(tmp_path / "new.sqlite3", encoder=None):
        pass
    assert columns(path) == columns(tmp_path / "new.sqlite3")


async def test_an_older_store_that_another_process_writes_is_not_migrated_by_a_reader(path: Path) -> None:
    await old_store(path)
    lock = await anyio.to_thread.run_sync(WriterLock, path)
    try:
        with pytest.raises(StoreSchemaError, match="wait for it to end"):
            async with open_store(path, encoder=None, read_only=True):
                pass
    finally:
        lock.release()
