"""Search in up to a million experiences: time per query and recall, beside what others offer for the same.

In: sizes, how many queries. Out: `retrieval_p99_ms` and `recall_at_4` of a million, the same with a size in
their names for every size, `index_rebuild_s.<size>`, and the peers' figures: a flat numpy scan here, sqlite-vec and
LanceDB in an environment of their own (`benchmarks/peers_retrieval.py`). Always:
- vectors are those of the default encoder for states drawn from the words of real ones: not random directions, among
  which everything is equally far;
- queries come in batches, as thousands of episodes ask; the time of a query is its batch's divided by its queries, and
  p99 is over batches, encoding and looking up what was found excluded here, and the same for all;
- recall is against exact search in the same vectors (of the peers by cosine, of ours by inner product, as each
  searches); ties count as found, because equals are interchangeable.

    python -m benchmarks.holds retrieval --sizes 10000,100000,1000000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from benchmarks.ledger import ROOT
from benchmarks.main_job import numbers
from benchmarks.store import _action, _lines
from dreamsim.evaluation.intervals import Estimate
from dreamsim.records.experience import embedding_text
from dreamsim.records.state import State
from dreamsim.runtime.memory import resident_mib
from dreamsim.runtime.seeds import generator
from dreamsim.store.lexical import LexicalEncoder
from dreamsim.store.partition import Excluded, Partition, rounded

K = 4
ASKED = 1_000_000
"""Experiences that the figures without a size in their names are about."""
BATCH = 64
"""Queries that come together."""
BLOCK = 8192


def vectors(count: int, name: str) -> NDArray[np.float32]:
    """Unit vectors of `count` random steps in random houses, as the default encoder makes them, rounded as stored."""
    random, encoder = generator(0, "retrieval", name), LexicalEncoder()
    found = np.empty((count, encoder.dimension), dtype=np.float32)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        texts = [embedding_text(State.of(_lines(random)).lines, _action(random)) for _ in range(size)]
        found[start : start + size] = rounded(encoder.encode(texts))
    return found


def kept(work: Path, count: int, name: str) -> NDArray[np.float32]:
    """`vectors`, kept as a file in `work`: a million take minutes."""
    file = work / f"vectors-{name}-{count}.npy"
    if not file.is_file():
        np.save(file.with_suffix(".part.npy"), vectors(count, name).astype(np.float16))
        file.with_suffix(".part.npy").rename(file)
    found: NDArray[np.float32] = np.load(file).astype(np.float32)
    return found


def exact(stored: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Similarity of the `K`-th nearest of each query: what a hit must reach."""
    least = np.empty(len(queries), dtype=np.float32)
    for start in range(0, len(queries), BATCH):
        similar = queries[start : start + BATCH] @ stored.T
        least[start : start + BATCH] = np.partition(similar, -K, axis=1)[:, -K]
    return least


def unit(some: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of length 1, as those who search by cosine see them: rounded as they are stored they are not quite."""
    lengths: NDArray[np.float32] = np.linalg.norm(some, axis=1, keepdims=True)
    return some / lengths


def ours(stored: NDArray[np.float32], queries: NDArray[np.float32], least: NDArray[np.float32]) -> dict[str, float]:
    """Our index: what building it takes, its queries and their recall."""
    before, begun = resident_mib(), time.perf_counter()
    partition = Partition(stored.shape[1])
    for start in range(0, len(stored), BLOCK):
        block = stored[start : start + BLOCK]
        for row in range(start, start + len(block)):
            partition.note(row, row, row, row)
        partition.add(block)
    built, memory = time.perf_counter() - begun, resident_mib() - before
    times, hits = [], 0
    never = [Excluded()] * BATCH
    for start in range(0, len(queries), BATCH):
        some = queries[start : start + BATCH]
        begun = time.perf_counter()
        found = partition.search(some, K, never[: len(some)])
        times.append((time.perf_counter() - begun) / len(some) * 1e3)
        hits += sum(hit.similarity >= low for row, low in zip(found, least[start:], strict=False) for hit in row)
    return {"build_s": built, "mib": memory, **_of(times), "recall": hits / (K * len(queries))}


def flat(stored: NDArray[np.float32], queries: NDArray[np.float32]) -> dict[str, float]:
    """A scan with numpy: exact."""
    times = []
    for start in range(0, min(len(queries), 8 * BATCH), BATCH):
        some = queries[start : start + BATCH]
        begun = time.perf_counter()
        similar = some @ stored.T
        best = np.argpartition(similar, -K, axis=1)[:, -K:]
        np.take_along_axis(similar, best, axis=1)
        times.append((time.perf_counter() - begun) / len(some) * 1e3)
    return {"build_s": 0.0, **_of(times), "recall": 1.0}


def _of(times: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def at_size(work: Path, size: int, queries: int, peers: Path | None) -> dict[str, dict[str, float]]:
    """All searchers at one size."""
    stored, asked = kept(work, size, "stored"), kept(work, queries, "asked")
    least = exact(stored, asked)
    found = {"dreamsim": ours(stored, asked, least), "numpy": flat(stored, asked)}
    if peers is not None:
        np.save(work / "least.npy", exact(unit(stored), unit(asked)))
        for name in ("sqlite_vec", "lancedb"):
            found[name] = beside(peers, name, work, size, queries)
    print(f"{size}: {found}", file=sys.stderr, flush=True)
    return found


def beside(python: Path, name: str, work: Path, size: int, queries: int) -> dict[str, Any]:
    """What `benchmarks/peers_retrieval.py` finds under another Python."""
    script = ROOT / "benchmarks" / "peers_retrieval.py"
    done = subprocess.run(
        [python, script, name, work, str(size), str(queries), str(K), str(BATCH)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )
    if done.returncode:
        return {"failed": done.returncode}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m benchmarks.holds retrieval`."""
    parser.add_argument("--sizes", type=numbers, default=(10_000, 100_000, ASKED), help="experiences")
    parser.add_argument("--queries", type=int, default=4096, help="queries at each size")
    parser.add_argument("--peers", type=Path, help="a Python that has sqlite-vec and lancedb")


async def measure(given: argparse.Namespace, settings: Any) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """All figures."""
    del settings
    work: Path = await to_thread.run_sync(given.work.absolute)
    figures: dict[str, Estimate] = {}
    more: dict[str, Any] = {}
    for size in given.sizes:
        found = await to_thread.run_sync(at_size, work, size, given.queries, given.peers)
        more[str(size)] = found
        mine = found["dreamsim"]
        figures[f"retrieval_p99_ms.{size}"] = _single(mine["p99_ms"], given.queries)
        figures[f"retrieval_p50_ms.{size}"] = _single(mine["p50_ms"], given.queries)
        figures[f"recall_at_4.{size}"] = _single(mine["recall"], given.queries)
        figures[f"index_rebuild_s.{size}"] = _single(mine["build_s"], 1)
        for name, theirs in found.items():
            if name != "dreamsim" and "p99_ms" in theirs:
                figures[f"peer_{name}_p99_ms.{size}"] = _single(theirs["p99_ms"], given.queries)
                figures[f"peer_{name}_recall_at_4.{size}"] = _single(theirs["recall"], given.queries)
    if ASKED in given.sizes:
        figures["retrieval_p99_ms"] = figures[f"retrieval_p99_ms.{ASKED}"]
        figures["recall_at_4"] = figures[f"recall_at_4.{ASKED}"]
    return figures, {"batch": BATCH, "k": K, "measured": more}


def _single(value: float, n: int) -> Estimate:
    return Estimate(value=value, low=None, high=None, n=n)
