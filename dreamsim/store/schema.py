"""The tables of a store, and opening a database that has them.

In: a path. Out: an sqlite3 connection whose tables are those of `VERSION`. Always: WAL mode, so that readers
never wait for the writer; every commit reaches the disk (`synchronous=FULL`); a store of an older version gets what
it lacks, in one transaction and under the writer's lock; one of a newer version, and a database that is no store at
all, is refused before anything is written to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from dreamsim.errors import RecordError, StoreError, StoreLockedError, StoreSchemaError
from dreamsim.records import limits
from dreamsim.store.lock import WriterLock

VERSION = 2
"""Schema version; kept in the table `meta`."""

Connect = Callable[..., sqlite3.Connection]
"""`sqlite3.connect`, or what stands in its place in a test."""

BUSY_TIMEOUT_S = 30.0
"""How long a statement waits for a lock that a foreign reader or a checkpoint holds."""

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE tasks (
    key TEXT PRIMARY KEY,
    environment TEXT NOT NULL,
    instruction TEXT NOT NULL,
    first_state TEXT NOT NULL,             -- JSON list of lines, as are all states
    fold TEXT NOT NULL,
    seed INTEGER NOT NULL,
    parameters TEXT NOT NULL               -- JSON object
) WITHOUT ROWID;

CREATE TABLE episodes (
    number INTEGER PRIMARY KEY,            -- in the order of storing
    id TEXT NOT NULL UNIQUE,
    run TEXT NOT NULL,
    task_key TEXT NOT NULL REFERENCES tasks (key),
    environment TEXT NOT NULL,             -- the task's, repeated so that filters need no join
    fold TEXT NOT NULL,
    repeat INTEGER NOT NULL,
    source TEXT NOT NULL,
    purpose TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error_kind TEXT,
    error_message TEXT,
    policy TEXT NOT NULL,
    experience_model TEXT NOT NULL,
    started_at REAL NOT NULL,
    duration_s REAL NOT NULL,
    step_count INTEGER NOT NULL,
    total_reward REAL NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0, -- 0: real; dreamed: 1 + the greatest of what it was dreamed from
    quality TEXT NOT NULL DEFAULT '{}',    -- JSON object: scores in [0, 1] by name
    contradictions INTEGER NOT NULL DEFAULT 0, -- in the steps that were kept
    verified INTEGER NOT NULL DEFAULT 0    -- 1: a verifier confirmed its end
);
CREATE INDEX episodes_by_run ON episodes (run, source, purpose, outcome, error_kind);
CREATE INDEX episodes_by_task ON episodes (task_key);

CREATE TABLE steps (
    id INTEGER PRIMARY KEY,                -- the key in the search index
    episode INTEGER NOT NULL REFERENCES episodes (number),
    step INTEGER NOT NULL,                 -- from 0
    state TEXT NOT NULL,                   -- before the action
    action TEXT NOT NULL,
    changes TEXT NOT NULL,                 -- JSON list: what `records.state.changes` says
    next_state TEXT NOT NULL,
    reasoning TEXT NOT NULL,
    reward REAL NOT NULL,
    outcome TEXT NOT NULL,
    score REAL,
    admissible TEXT NOT NULL,              -- JSON list
    samples INTEGER NOT NULL,
    retrieved TEXT NOT NULL,               -- JSON list
    text_hash INTEGER NOT NULL,            -- 64 bits of the hash of `embedding_text(state, action)`
    decision_action TEXT,                  -- null: there is no decision
    thought TEXT,
    prompt_shared INTEGER,                 -- ids it begins with that the step before's prompt and answer have
    prompt_ids BLOB,                       -- the ids after those; int32, little-endian
    completion_ids BLOB,                   -- int32; null: the policy is no language model
    completion_logprobs BLOB,              -- float32
    finish_reason TEXT,
    prompt_tokens INTEGER,
    cached_tokens INTEGER,
    policy_version TEXT,                   -- of the weights that sampled this step
    trust TEXT,                            -- JSON object: what the run-time checks found; null: nothing was checked
    UNIQUE (episode, step)
);
"""

MIGRATIONS = {
    1: (
        "ALTER TABLE episodes ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE episodes ADD COLUMN quality TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE episodes ADD COLUMN contradictions INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE episodes ADD COLUMN verified INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE steps ADD COLUMN trust TEXT",
        # Dreams of version 1 were retrieved from real experience only.
        "UPDATE episodes SET generation = 1 WHERE source = 'dreamed'",
    )
}
"""What turns a store of each older version into one of the next."""


NOT_OURS = (sqlite3.Error, RecordError, ValueError, LookupError, TypeError, OverflowError, RecursionError)
"""What reading rows raises where they hold what nobody here writes, or cannot be read at all."""


def unreadable(path: Path, error: Exception) -> StoreError:
    """What is said of a store that raised one of `NOT_OURS`."""
    said = " ".join(str(error).split())[:200]
    return StoreError(f"{path} holds something that cannot be read: {said}; `dreamsim doctor` looks at the whole of it")


def open_writer(path: Path, connect: Connect = sqlite3.connect) -> sqlite3.Connection:
    """Open the database for writing; make it if it is not there. The caller holds the writer's lock.

    Raises:
        StoreSchemaError: a newer schema version, or a database of something else.
        StoreError: the file cannot be opened.
    """
    return _checked(path, f"file:{quote(str(path))}", writing=True, connect=connect)


def open_reader(path: Path) -> sqlite3.Connection:
    """Open an existing database for reading, while another process may be writing. An older one is migrated first.

    Raises:
        StoreSchemaError: a newer schema version, an older one that cannot be written, or a database of something else.
        StoreError: the file is not there or cannot be opened.
    """
    if not path.is_file():
        raise StoreError(f"no store at {path}")
    try:
        return _checked(path, f"file:{quote(str(path))}?mode=ro", writing=False)
    except StoreSchemaError:
        raise
    except StoreError:
        if path.with_name(path.name + "-wal").exists():
            raise
        # On a read-only disk WAL mode cannot make its shared memory file; with no log, nothing need be shared.
        return _checked(path, f"file:{quote(str(path))}?mode=ro&immutable=1", writing=False)


def _checked(path: Path, uri: str, *, writing: bool, connect: Connect = sqlite3.connect) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        # Autocommit: transactions are begun and ended by statements of ours alone. A connection is only ever
        # used by one thread at a time, though not always by the one that opened it.
        connection = connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.STORE_VALUE_BYTES)
        # A file may come from anybody: what its schema calls gets no functions that do more than compute.
        connection.execute("PRAGMA trusted_schema = OFF")
        _check_version(connection, path, writing=writing)
        if writing:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise StoreError(f"{path} cannot be opened as a store: {error}") from error
    except StoreError:
        if connection is not None:
            connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection, path: Path, *, writing: bool) -> None:
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
    if not names and writing:
        _create(connection)
        return
    if not {"meta", "episodes", "steps", "tasks"} <= names:
        raise StoreSchemaError(f"{path} is a database, but not a dreamsim store")
    # Ours has none, and what they do happens while ours are read and written.
    foreign = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view') LIMIT 1").fetchone()
    if foreign is not None:
        raise StoreSchemaError(f"{path} is no dreamsim store: it has a trigger or view, {foreign[0]!r:.60}")
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    found = str(row[0])[:40] if row else "none"
    if found == str(VERSION):
        return
    number = int(found) if found.isascii() and found.isdigit() else -1
    if number not in MIGRATIONS:
        advice = "upgrade dreamsim-rl" if number > VERSION else "export it to JSONL with the version that wrote it"
        raise StoreSchemaError(f"{path} has schema version {found!r}, this version reads {VERSION}: {advice}")
    if writing:
        _migrate(connection)
    else:
        _migrate_for_reader(path, found)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (found,) = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        for version in range(int(found), VERSION):
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(VERSION),))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _migrate_for_reader(path: Path, found: str) -> None:
    try:
        lock = WriterLock(path)
        try:
            open_writer(path).close()
        finally:
            lock.release()
    except StoreLockedError as error:
        advice = "the dreamsim that is writing to it is older than this one; wait for it to end"
        raise StoreSchemaError(f"{path} has schema version {found}, this version reads {VERSION}: {advice}") from error
    except StoreError as error:
        advice = f"it must be migrated, and cannot be written ({error}); copy it to where it can"
        raise StoreSchemaError(f"{path} has schema version {found}, this version reads {VERSION}: {advice}") from error


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in TABLES.split(";\n"):
            if statement.strip():
                connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", (str(VERSION),))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
