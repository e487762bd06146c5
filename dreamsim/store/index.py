"""The search index: a cache of what SQLite holds, never more.

In: the rows of `steps`, an encoder, queries. Out: row ids of steps with their similarity. Always:
- only steps of episodes that are no evaluation and pass the quality filter are in it;
- `load` takes what was saved only if it is whole and belongs to this encoder and these rows; whatever is missing,
  behind or damaged comes from SQLite again;
- a query sees only partitions that it asks for, and never a step of a task, fold or episode that it excludes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsim.protocols import Encoder
from dreamsim.records.experience import ExperienceQuery, embedding_text
from dreamsim.records.quality import DEFAULT_FILTER, QualityFilter
from dreamsim.store.admission import Admission, wanted_hits
from dreamsim.store.partition import EXPANSION_ADD, NONE, Excluded, Hit, Partition, rounded

FORMAT = 2
"""Version of the files; others are rebuilt."""

_FILE = re.compile(r"[0-9]+-[0-9a-f]{8}\.usearch")

CATCH_UP_ROWS = 256
"""Rows read, encoded and added at a time, so that queries wait for no more than that."""

_NEW_ROWS = (
    "SELECT s.id, s.text_hash, e.number, e.task_key, e.environment, e.fold, e.source, e.purpose, s.state, s.action "
    "FROM steps s JOIN episodes e ON e.number = s.episode WHERE s.id > ? ORDER BY s.id LIMIT ?"
)
_OLD_ROWS = (
    "SELECT s.id, s.text_hash, e.number, e.task_key, e.environment, e.fold, e.source, e.purpose "
    "FROM steps s JOIN episodes e ON e.number = s.episode WHERE s.id <= ? ORDER BY s.id"
)


class PartitionName(NamedTuple):
    """What all steps of a partition have in common."""

    environment: str
    fold: str
    source: str
    purpose: str


class ExperienceIndex:
    """Finds steps by the similarity of state and action. Blocks; one thread at a time."""

    def __init__(self, encoder: Encoder, quality: QualityFilter = DEFAULT_FILTER) -> None:
        """An empty index for vectors of `encoder`, of episodes that pass `quality`."""
        self.encoder = encoder
        self.admission = Admission(quality)
        self.last_row = 0
        """Row id of the last step seen, evaluation included."""
        self.unsaved = 0
        """Texts added since the index was saved or loaded."""
        self._partitions: dict[PartitionName, Partition] = {}
        self._task_codes: dict[str, int] = {}

    @property
    def texts(self) -> int:
        """Distinct texts (of one partition) that can be found."""
        return sum(partition.size for partition in self._partitions.values())

    def catch_up(self, connection: sqlite3.Connection) -> bool:
        """Add the next rows that are not yet in. Returns whether there were any.

        Raises:
            RetrievalError: the encoder failed; nothing was added, the next call tries again.
        """
        rows = connection.execute(_NEW_ROWS, (self.last_row, CATCH_UP_ROWS)).fetchall()
        if not rows:
            return False
        last_row = int(rows[-1][0])
        self.admission.read(connection)  # after the steps, so that it knows the episodes of all of them
        rows = [row for row in rows if row[2] in self.admission]
        wanted: dict[str, int] = {}
        texts: list[str] = []
        for *_, state, action in rows:
            text = embedding_text(tuple(json.loads(state)), action)
            texts.append(text)
            wanted.setdefault(text, len(wanted))
        # Everything that can fail comes before anything is changed.
        vectors = self.encoder.encode(list(wanted))
        added: dict[PartitionName, list[int]] = {}
        for (row, text_hash, number, task, *name, _, _), text in zip(rows, texts, strict=True):
            where = PartitionName(*name)
            if self._partition(where).note(text_hash, row, self._code(task), number):
                added.setdefault(where, []).append(wanted[text])
        for where, places in added.items():
            self._partitions[where].add(vectors[places])
            self.unsaved += len(places)
        self.last_row = last_row
        return True

    def search(self, queries: Sequence[ExperienceQuery]) -> list[list[Hit]]:
        """For each query at most `k` hits that its balance prefers, the most similar first.

        Raises:
            RetrievalError: the encoder failed.
        """
        texts: dict[str, int] = {}
        places = [texts.setdefault(embedding_text(query.state, query.action), len(texts)) for query in queries]
        vectors = rounded(self.encoder.encode(list(texts)))[places]
        excluded = [self._excluded(query) for query in queries]
        found: list[list[Hit]] = [[] for _ in queries]
        most = max((wanted_hits(query) for query in queries), default=0)
        for name, partition in self._partitions.items():
            rows = [row for row, query in enumerate(queries) if query.k > 0 and _wants(query, name)]
            hits = partition.search(vectors[rows], most, [excluded[row] for row in rows])
            for row, some in zip(rows, hits, strict=True):
                found[row].extend(some)
        return [self.admission.preferred(query, hits) for query, hits in zip(queries, found, strict=True)]

    def load(self, directory: Path, connection: sqlite3.Connection) -> str | None:
        """Take over what `save` left in `directory`.

        Returns:
            Why nothing was taken over, or None if all was. Rows stored since then are left to `catch_up`.
        """
        try:
            manifest = json.loads((directory / "manifest.json").read_bytes())
            expected = self._made_with()
            different = [name for name, value in expected.items() if manifest[name] != value]
            if different:
                return f"it has another {' and '.join(different)}"
            if type(manifest["last_row"]) is not int:
                raise ValueError("its last row is no number")
            self._note_rows(connection, manifest["last_row"])
            saved = {PartitionName(*entry["name"]): entry for entry in manifest["partitions"]}
            if saved.keys() != self._partitions.keys():
                raise ValueError("other partitions than in the database")
            for name, partition in self._partitions.items():
                partition.restore(_read_graph(directory, saved[name], partition))
        except FileNotFoundError as error:
            self._forget()
            return f"{Path(error.filename).name} is missing"
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
            self._forget()
            return f"it is damaged: {error}"
        self.last_row = manifest["last_row"]
        self.unsaved = 0
        return None

    def save(self, directory: Path) -> None:
        """Write the index; what was saved before stays whole until the last moment."""
        directory.mkdir(exist_ok=True)
        entries = []
        for number, (name, partition) in enumerate(self._partitions.items()):
            content = bytes(partition.graph.save())
            checksum = zlib.crc32(content)
            file = f"{number}-{checksum:08x}.usearch"
            (directory / file).write_bytes(content)
            entries.append({"name": name, "file": file, "checksum": checksum, "texts": _digest(partition)})
        manifest = {
            **self._made_with(),
            "last_row": self.last_row,
            "partitions": entries,
        }
        temporary = directory / "manifest.json.part"
        temporary.write_text(json.dumps(manifest), encoding="utf-8")
        temporary.replace(directory / "manifest.json")
        kept = {entry["file"] for entry in entries}
        for old in directory.glob("*.usearch"):
            if old.name not in kept:
                old.unlink()
        self.unsaved = 0

    def disagreement(self, connection: sqlite3.Connection, *, sample: int | None) -> str | None:
        """How the index differs from the rows up to `last_row`, or None if it does not; encodes texts again.

        Args:
            sample: so many steps are looked at, evenly spread; None looks at all.
        """
        rows = [row for row in connection.execute(_OLD_ROWS, (self.last_row,)) if row[2] in self.admission]
        apart = 1 if sample is None else max(1, len(rows) // max(1, sample))
        statement = "SELECT state, action FROM steps WHERE id = ?"
        for row, hashed, _, _, *name in rows[::apart]:
            state, action = connection.execute(statement, (row,)).fetchone()
            partition = self._partitions.get(PartitionName(*name))
            kept = None if partition is None else partition.vector(hashed)
            if kept is None:
                return f"step {row} cannot be found"
            vector = rounded(self.encoder.encode([embedding_text(tuple(json.loads(state)), action)]))[0]
            if not np.array_equal(kept, vector):
                return f"step {row} has the vector of another text"
        return None

    def _made_with(self) -> dict[str, Any]:
        """What a saved index must have been made with to be of use."""
        return {
            "format": FORMAT,
            "encoder": self.encoder.name,
            "dimension": self.encoder.dimension,
            "filter": dataclasses.asdict(self.admission.quality),
        }

    def _note_rows(self, connection: sqlite3.Connection, last_row: int) -> None:
        rows = connection.execute(_OLD_ROWS, (last_row,)).fetchall()
        self.admission.read(connection)
        for row, text_hash, number, task, *name in rows:
            if number in self.admission:
                self._partition(PartitionName(*name)).note(text_hash, row, self._code(task), number)

    def _forget(self) -> None:
        self._partitions.clear()
        self._task_codes.clear()

    def _partition(self, name: PartitionName) -> Partition:
        partition = self._partitions.get(name)
        if partition is None:
            partition = self._partitions[name] = Partition(self.encoder.dimension)
        return partition

    def _code(self, task_key: str) -> int:
        return self._task_codes.setdefault(task_key, len(self._task_codes))

    def _excluded(self, query: ExperienceQuery) -> Excluded:
        codes = self._task_codes
        return Excluded(
            task=NONE if query.exclude_task is None else codes.get(query.exclude_task, NONE),
            others=frozenset(codes[key] for key in query.exclude_tasks if key in codes),
            episode=self.admission.number_of(query.exclude_episode),
        )


def _wants(query: ExperienceQuery, name: PartitionName) -> bool:
    return (
        query.environment in (None, name.environment)
        and name.fold in query.folds
        and name.fold not in query.exclude_folds
        and name.source in query.sources
        and name.purpose in query.purposes
    )


def _read_graph(directory: Path, entry: dict[str, Any], partition: Partition) -> Any:
    from usearch.index import Index

    if not _FILE.fullmatch(entry["file"]):  # it becomes a path
        raise ValueError("it names a file that no index has")
    content = (directory / entry["file"]).read_bytes()
    # Checked before usearch sees it: it trusts what it reads.
    if zlib.crc32(content) != entry["checksum"]:
        raise ValueError(f"{entry['file']} has another checksum")
    if _digest(partition) != entry["texts"]:
        raise ValueError(f"{entry['file']} was made from other rows")
    return Index.restore(content, expansion_add=EXPANSION_ADD)


def _digest(partition: Partition) -> str:
    hashes: NDArray[np.int64] = partition.text_hashes
    return hashlib.blake2b(hashes.tobytes(), digest_size=16).hexdigest()
