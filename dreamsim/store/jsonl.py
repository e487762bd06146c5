"""Episodes to and from JSONL files: one episode a line, in the schema of docs/data-format.md.

In: a store and a path ending in `.jsonl`, `.jsonl.gz` or `.jsonl.xz`. Out: a file, or stored episodes. Always:
- an exported file appears whole or not at all;
- an import checks every line before it writes the first episode, so one bad line means nothing is written, unless
  bad lines are to be skipped; every bad line is named by its number;
- importing a file twice stores it once; memory is bounded by the longest line allowed.
"""

from __future__ import annotations

import gzip
import json
import lzma
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self, cast

import anyio
from anyio.to_thread import run_sync

from dreamsim.errors import DatasetError, RecordError
from dreamsim.records import limits
from dreamsim.records.codec import episode_from_json, episode_to_json
from dreamsim.records.episode import Episode, EpisodeOutcome
from dreamsim.records.strict_json import parse_json
from dreamsim.runtime.bounded_files import read_numbered_lines
from dreamsim.runtime.whole_files import sync
from dreamsim.store.store import Store

MAX_LINE_BYTES = limits.LINE_BYTES
"""Longest line read."""

LINES_AT_A_TIME = 64
"""Lines parsed or written by one call of a worker thread."""

BYTES_AT_A_TIME = 8 * 2**20
"""Or fewer, when they are long."""

MAX_BAD_LINES = 1000
"""Bad lines a report lists; the rest is only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that is no episode."""

    line: int
    """Its number, from 1."""
    problem: str
    """What is wrong, with the name of the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did."""

    path: Path
    """The file."""
    lines: int
    """Lines that are not empty."""
    episodes: int
    """Episodes that are new in the store."""
    steps: int
    """Their steps."""
    known: int
    """Episodes that were there before, or twice in the file."""
    skipped: int
    """Bad lines."""
    bad_lines: tuple[BadLine, ...]
    """The first of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export did."""

    path: Path
    """The file."""
    episodes: int
    """Episodes written."""
    steps: int
    """Their steps."""


async def export_jsonl(path: str | Path, episodes: AsyncIterator[Episode]) -> ExportReport:
    """Write `episodes` (such as `store.episodes(...)`) to `path`, compressed as its name says.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    count = steps = 0
    stream = await run_sync(_open_for_writing, target, temporary)
    try:
        batch: list[Episode] = []
        async for episode in episodes:
            count += 1
            steps += len(episode.transitions)
            batch.append(episode)
            if len(batch) == LINES_AT_A_TIME:
                await run_sync(_write_lines, stream, batch)
                batch = []
        await run_sync(_write_lines, stream, batch)
        await run_sync(_publish, stream, temporary, target)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await run_sync(_discard, stream, temporary)
        raise
    return ExportReport(path=target, episodes=count, steps=steps)


async def import_jsonl(
    path: str | Path,
    store: Store,
    *,
    on_bad: Literal["fail", "skip"] = "fail",
    run: str = "import",
    max_line_bytes: int = MAX_LINE_BYTES,
) -> ImportReport:
    """Store the episodes of a file. Returns when they are on disk and can be retrieved.

    Args:
        on_bad: `fail` writes nothing if any line is bad, `skip` leaves bad lines out.
        run: the run of episodes that do not name theirs.
        max_line_bytes: longest line allowed.

    Raises:
        DatasetError: a bad line, or a file that cannot be read; names the line.
    """
    source = Path(path)
    bad_lines: list[BadLine] = []
    lines = skipped = episodes = steps = known = 0
    async with _Chunks(source, run, max_line_bytes) as chunks:
        async for chunk in chunks:
            lines += len(chunk)
            for parsed in chunk:
                if parsed.episode is not None:
                    continue
                if on_bad == "fail":
                    raise DatasetError(source, parsed.line, parsed.problem)
                skipped += 1
                if len(bad_lines) < MAX_BAD_LINES:
                    bad_lines.append(BadLine(line=parsed.line, problem=parsed.problem))
    async with _Chunks(source, run, max_line_bytes) as chunks:
        async for chunk in chunks:
            found = [parsed.episode for parsed in chunk if parsed.episode is not None]
            stored = await store.known_ids([episode.id for episode in found])
            new: dict[str, Episode] = {}
            for episode in found:
                if episode.id not in stored:
                    new.setdefault(episode.id, episode)
            known += len(found) - len(new)
            episodes += len(new)
            steps += sum(len(episode.transitions) for episode in new.values())
            await store.add_all(new.values())
    await store.flush()
    return ImportReport(
        path=source,
        lines=lines,
        episodes=episodes,
        steps=steps,
        known=known,
        skipped=skipped,
        bad_lines=tuple(bad_lines),
    )


def read_jsonl(path: str | Path, *, run: str = "import", max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Episode]:
    """The episodes of a file, one at a time, for programs that are not asynchronous. Blocks.

    Raises:
        DatasetError: a bad line, or a file that cannot be read.
    """
    source = Path(path)
    for chunk in _read_chunks(source, run, max_line_bytes):
        for parsed in chunk:
            if parsed.episode is None:
                raise DatasetError(source, parsed.line, parsed.problem)
            yield parsed.episode


def read_records(path: str | Path, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Any]:
    """The JSON values of a file of another schema, one a line, for converters. Blocks.

    Raises:
        DatasetError: a line that is no JSON, or a file that cannot be read.
    """
    source = Path(path)
    for number, line in read_numbered_lines(source, max_line_bytes):
        if len(line) > max_line_bytes:
            raise DatasetError(source, number, f"is longer than {max_line_bytes} bytes")
        try:
            yield parse_json(line)
        except ValueError as error:
            raise DatasetError(source, number, str(error)) from error


def write_jsonl(path: str | Path, episodes: Iterable[Episode]) -> Counter[EpisodeOutcome]:
    """Write `episodes` to `path`, compressed as its name says; returns how they ended. Blocks.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    outcomes: Counter[EpisodeOutcome] = Counter()
    stream = _open_for_writing(target, temporary)
    try:
        for episode in episodes:
            _write_lines(stream, [episode])
            outcomes[episode.outcome] += 1
        _publish(stream, temporary, target)
    except BaseException:
        _discard(stream, temporary)
        raise
    return outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    """One line: an episode, or what is wrong with it."""

    line: int
    episode: Episode | None = None
    problem: str = ""


class _Chunks:
    """The lines of a file, parsed by worker threads, some at a time."""

    def __init__(self, path: Path, run: str, max_line_bytes: int) -> None:
        self._chunks = _read_chunks(path, run, max_line_bytes)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[_Parsed]:
        chunk = await run_sync(next, self._chunks, None)
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await run_sync(self._chunks.close)


def _read_chunks(path: Path, run: str, max_line_bytes: int) -> Generator[list[_Parsed], None, None]:
    chunk: list[_Parsed] = []
    size = 0
    for number, line in read_numbered_lines(path, max_line_bytes):
        size += len(line)
        chunk.append(_parse(number, line, run, max_line_bytes))
        if len(chunk) == LINES_AT_A_TIME or size > BYTES_AT_A_TIME:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _parse(number: int, line: bytes, run: str, max_line_bytes: int) -> _Parsed:
    if len(line) > max_line_bytes:
        return _Parsed(line=number, problem=f"is longer than {max_line_bytes} bytes")
    try:
        return _Parsed(line=number, episode=episode_from_json(parse_json(line), run=run))
    except (RecordError, ValueError) as error:
        return _Parsed(line=number, problem=str(error))


def _open_for_writing(target: Path, temporary: Path) -> IO[bytes]:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".gz":
        # No time in the header: the same episodes give the same bytes.
        return cast(IO[bytes], gzip.GzipFile(temporary, "wb", mtime=0))
    if target.suffix == ".xz":
        return lzma.open(temporary, "wb")
    return temporary.open("wb")


def _write_lines(stream: IO[bytes], episodes: Sequence[Episode]) -> None:
    for episode in episodes:
        line = json.dumps(episode_to_json(episode), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        stream.write(line.encode() + b"\n")


def _publish(stream: IO[bytes], temporary: Path, target: Path) -> None:
    stream.close()
    sync(temporary)
    temporary.replace(target)
    sync(target.parent)


def _discard(stream: IO[bytes], temporary: Path) -> None:
    stream.close()
    temporary.unlink(missing_ok=True)
