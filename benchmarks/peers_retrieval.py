"""The same search by sqlite-vec or LanceDB, under a Python that has them; run by `benchmarks/holds_retrieval.py`.

In: name, directory with the vectors, size, number of queries, k, batch. Out: one JSON line. Always: needs nothing of
dreamsim; a peer is used as its own documentation says, its index with its own defaults.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Search = Callable[[Any], list[list[int]]]


def sqlite_vec(stored: Any, place: Path) -> Search:
    """A vec0 table: exact, one query at a time."""
    # Many a Python is built without loading extensions into its own sqlite3.
    connection: Any = import_module("apsw").Connection(str(place / "vec.db"))
    extension: Any = import_module("sqlite_vec")
    connection.enable_load_extension(True)
    connection.load_extension(extension.loadable_path())
    connection.execute(f"CREATE VIRTUAL TABLE v USING vec0(e float[{stored.shape[1]}] distance_metric=cosine)")
    with connection:
        rows = ((row, vector.tobytes()) for row, vector in enumerate(stored))
        connection.executemany("INSERT INTO v(rowid, e) VALUES (?, ?)", rows)
    statement = f"SELECT rowid FROM v WHERE e MATCH ? AND k = {K}"
    return lambda queries: [[row for (row,) in connection.execute(statement, (one.tobytes(),))] for one in queries]


def lancedb(stored: Any, place: Path) -> Search:
    """A table with its HNSW index in IVF partitions; queries in one batch."""
    database: Any = import_module("lancedb")
    pyarrow: Any = import_module("pyarrow")
    flat = pyarrow.array(stored.reshape(-1), type=pyarrow.float32())
    lists = pyarrow.FixedSizeListArray.from_arrays(flat, stored.shape[1])
    data = pyarrow.table({"id": pyarrow.array(np.arange(len(stored))), "vector": lists})
    table = database.connect(place).create_table("v", data)
    table.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ")

    def search(queries: Any) -> list[list[int]]:
        found = table.search(list(queries)).metric("cosine").select(["id"]).limit(K).to_arrow()
        rows: list[list[int]] = [[] for _ in queries]
        for query, row in zip(found["query_index"].to_pylist(), found["id"].to_pylist(), strict=True):
            rows[query].append(row)
        return rows

    return search


NAME, WORK, SIZE, QUERIES, K, BATCH = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:7])


def main() -> None:
    """Measure and print."""
    stored = np.load(WORK / f"vectors-stored-{SIZE}.npy").astype(np.float32)
    asked = np.load(WORK / f"vectors-asked-{QUERIES}.npy").astype(np.float32)
    least = np.load(WORK / "least.npy")
    # What takes seconds a query is not asked four thousand times.
    asked = asked[: max(8 * BATCH, min(QUERIES, 400_000_000 // SIZE // BATCH * BATCH))]
    with tempfile.TemporaryDirectory(dir=WORK) as place:
        begun = time.perf_counter()
        search = {"sqlite_vec": sqlite_vec, "lancedb": lancedb}[NAME](stored, Path(place))
        built = time.perf_counter() - begun
        times, hits, limit = [], 0, time.perf_counter() + 60
        asked_so_far = 0
        for start in range(0, len(asked), BATCH):
            some = asked[start : start + BATCH]
            begun = time.perf_counter()
            found = search(some)
            times.append((time.perf_counter() - begun) / len(some) * 1e3)
            asked_so_far += len(some)
            for row, low, query in zip(found, least[start:], some, strict=False):
                similar = stored[row] @ query / (np.linalg.norm(stored[row], axis=1) * np.linalg.norm(query))
                hits += int((similar >= low - 1e-6).sum())
            if time.perf_counter() > limit:
                break
    p50, p99 = np.percentile(times, [50, 99])
    told = {"build_s": built, "p50_ms": p50, "p99_ms": p99, "recall": hits / (K * asked_so_far), "n": asked_so_far}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
