"""A store looked at from outside: its file, its tables, its rows, its index, its lock.

In: the path of a store. Out: findings, good and bad, with what to do. Always: nothing is written, migrated, rebuilt or
repaired, and a store that another process writes to can be looked at; reading a large one takes time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from dreamsim.errors import DreamsimError
from dreamsim.protocols import Encoder
from dreamsim.records.quality import QualityFilter
from dreamsim.store.index import ExperienceIndex
from dreamsim.store.lock import writing_process
from dreamsim.store.schema import BUSY_TIMEOUT_S, MIGRATIONS, VERSION

Level = Literal["ok", "warning", "wrong"]
SAMPLE = 200
"""Steps whose vectors are made again and compared."""
_OTHER_STEPS = (
    "SELECT count(*) FROM (SELECT 1 FROM episodes e LEFT JOIN steps s ON s.episode = e.number GROUP BY e.number "
    "HAVING count(s.id) != e.step_count OR (e.step_count > 0 AND max(s.step) != e.step_count - 1))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    name: str
    """What."""
    level: Level
    """`wrong`: does not work; `warning`: works, but look at it."""
    text: str
    """What was found."""
    advice: str = ""
    """What to do; empty if nothing."""


def inspect_store(path: Path, encoder: Encoder | None) -> Iterator[Finding]:
    """Look at the store in the file `path`. Blocks.

    Args:
        encoder: what its index was made with; None leaves the index' vectors alone.
    """
    if not path.is_file():
        yield Finding(name="store", level="wrong", text=f"no store at {path}", advice="name one with --store or --run")
        return
    try:
        with closing(_look(path)) as connection:
            version = _version(connection)
            yield _schema(version)
            if version in (str(VERSION), *map(str, MIGRATIONS)):
                yield from _rows(connection)
            if version == str(VERSION):
                yield _index(connection, path.with_name(path.name + ".index"), encoder)
    except sqlite3.Error as error:
        yield Finding(
            name="store",
            level="wrong",
            text=f"{path} cannot be read: {error}",
            advice="restore it from a copy, or save what can be read with `sqlite3 FILE .recover`",
        )
    process = writing_process(path)
    text = "no process writes to it" if process is None else f"process {process} writes to it"
    advice = "" if process is None else "another run on it is refused until that one ends; reading is always possible"
    yield Finding(name="lock", level="ok" if process is None else "warning", text=text, advice=advice)


def _look(path: Path) -> sqlite3.Connection:
    log = path.with_name(path.name + "-wal")
    # Without a log there is nothing to share with a writer, and `immutable` makes no file beside the store.
    still = "" if log.exists() and log.stat().st_size else "&immutable=1"
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro{still}", uri=True, timeout=BUSY_TIMEOUT_S)


def _version(connection: sqlite3.Connection) -> str | None:
    """The schema's version; None of a database that is no store."""
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"meta", "episodes", "steps", "tasks"} <= names:
        return None
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    return str(row[0]) if row else "none"


def _schema(version: str | None) -> Finding:
    if version is None:
        text, advice = "a database, but not a dreamsim store", "name another file"
        return Finding(name="schema", level="wrong", text=text, advice=advice)
    if version == str(VERSION):
        return Finding(name="schema", level="ok", text=f"version {version}")
    text = f"version {version}, and this dreamsim writes {VERSION}"
    if version.isdigit() and int(version) in MIGRATIONS:
        advice = "it is migrated when it is opened next; keep a copy if an older dreamsim is to read it again"
        return Finding(name="schema", level="warning", text=text, advice=advice)
    newer = version.isdigit() and int(version) > VERSION
    advice = "upgrade dreamsim-rl" if newer else "export it to JSONL with the version that wrote it"
    return Finding(name="schema", level="wrong", text=text, advice=advice)


def _rows(connection: sqlite3.Connection) -> Iterator[Finding]:
    said = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    orphans = connection.execute("SELECT count(*) FROM pragma_foreign_key_check").fetchone()[0]
    if said != ["ok"] or orphans:
        text = "; ".join(said) if said != ["ok"] else f"{orphans} rows refer to rows that are not there"
        advice = "keep the file as it is; restore a copy, or save what can be read with `sqlite3 FILE .recover`"
        yield Finding(name="integrity", level="wrong", text=text, advice=advice)
        return
    yield Finding(name="integrity", level="ok", text="every page and every reference is whole")
    episodes, steps = connection.execute("SELECT count(*), coalesce(sum(step_count), 0) FROM episodes").fetchone()
    odd = connection.execute(_OTHER_STEPS).fetchone()[0]
    if odd:
        text = f"{odd} of {episodes:,} episodes have other steps than they say"
        advice = "a foreign program has written to it: export the good episodes and import them into a new store"
        yield Finding(name="episodes", level="wrong", text=text, advice=advice)
    else:
        yield Finding(name="episodes", level="ok", text=f"{episodes:,} episodes with {steps:,} steps, all whole")


def _index(connection: sqlite3.Connection, directory: Path, encoder: Encoder | None) -> Finding:
    """Compare the saved index with the rows."""
    again = "the next run that opens the store makes it again; nothing is lost"
    try:
        manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_bytes())
        quality = QualityFilter(**manifest["filter"])
        last, made_by = int(manifest["last_row"]), str(manifest["encoder"])
    except FileNotFoundError:
        return Finding(name="index", level="warning", text="there is no search index", advice=again)
    except (OSError, ValueError, KeyError, TypeError, DreamsimError) as error:
        return Finding(name="index", level="warning", text=f"its manifest is damaged: {error!r}", advice=again)
    behind = connection.execute("SELECT count(*) FROM steps WHERE id > ?", (last,)).fetchone()[0]
    late = f"; {behind:,} newer steps are added when the store is opened" if behind else ""
    if encoder is None or encoder.name != made_by:
        return Finding(name="index", level="ok", text=f"made by {made_by}, whose vectors were not compared{late}")
    index = ExperienceIndex(encoder, quality)
    problem = index.load(directory, connection) or index.disagreement(connection, sample=SAMPLE)
    if problem is not None:
        advice = f"remove {directory.name}; {again}"
        return Finding(name="index", level="warning", text=f"it does not agree with the rows: {problem}", advice=advice)
    return Finding(name="index", level="ok", text=f"{index.texts:,} texts agree with the rows{late}")
