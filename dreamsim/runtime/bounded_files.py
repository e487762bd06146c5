"""Lines of files that somebody else made, compressed or not: in bounded memory, and no decompression bomb.

In: a path ending in anything, `.gz` or `.xz`. Out: numbered lines, or a `DatasetError` that names the file and the
line. Always: a line that is too long is read past, and only its beginning is handed out; a compressed file becomes no
more than `limits.EXPANSION` times its size beyond `limits.EXPANSION_FREE_BYTES`.
"""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

from dreamsim.errors import DatasetError
from dreamsim.records import limits

CHUNK: Final = 2**16
"""Compressed bytes read at a time."""


class ExpansionError(OSError):
    """A compressed file becomes too large, or needs too much memory to be read."""


def read_numbered_lines(path: Path, most_bytes: int = limits.LINE_BYTES) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, with their numbers; of one longer than `most_bytes` the first `most_bytes` + 1.

    Raises:
        DatasetError: the file cannot be read; names the line it is at.
    """
    number = 0
    try:
        with open_compressed(path) as stream:
            while line := stream.readline(most_bytes + 1):
                number += 1
                part = line
                while len(part) > most_bytes and not part.endswith(b"\n"):
                    part = stream.readline(most_bytes + 1)
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, line
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise DatasetError(path, number + 1, f"the file cannot be read: {error}") from error


def open_compressed(path: Path) -> IO[bytes]:
    """The decompressed content of a file, as its name says. Blocks.

    Raises:
        OSError: it cannot be read; an `ExpansionError` while reading where it becomes too large.
        EOFError, lzma.LZMAError, zlib.error: while reading, where it is damaged.
    """
    if path.suffix not in (".gz", ".xz"):
        return path.open("rb")
    file = path.open("rb")
    most = limits.EXPANSION_FREE_BYTES + limits.EXPANSION * os.fstat(file.fileno()).st_size
    inner = gzip.GzipFile(fileobj=file, mode="rb") if path.suffix == ".gz" else _XzStream(file)
    return cast(IO[bytes], io.BufferedReader(_Bounded(cast(Any, inner), file, most), CHUNK))


class _Bounded(io.RawIOBase):
    """Counts what comes out of a decompressor."""

    def __init__(self, inner: IO[bytes], file: IO[bytes], most: int) -> None:
        self._inner = inner
        self._file = file
        self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._inner.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise ExpansionError(f"it becomes more than {limits.EXPANSION:,} times as large when it is decompressed")
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
            self._file.close()
        super().close()


class _XzStream(io.RawIOBase):
    """`lzma.LZMAFile` takes no limit of memory; its decompressor does."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor: lzma.LZMADecompressor | None = self._begin()

    @staticmethod
    def _begin() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=limits.XZ_MEMORY_BYTES)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; nothing at the end."""
        while (decompressor := self._decompressor) is not None:
            raw = b""
            if decompressor.eof:
                # Streams may follow each other, with zeros between them.
                raw = decompressor.unused_data.lstrip(b"\0") or self._file.read(CHUNK).lstrip(b"\0")
                self._decompressor = self._begin() if raw else None
                if self._decompressor is None:
                    break
                decompressor = self._decompressor
            elif decompressor.needs_input:
                raw = self._file.read(CHUNK)
                if not raw:
                    raise EOFError("the compressed file ends before its end mark")
            if content := self._decompressed(decompressor, raw, size):
                return content
        return b""

    @staticmethod
    def _decompressed(decompressor: lzma.LZMADecompressor, raw: bytes, size: int) -> bytes:
        try:
            return decompressor.decompress(raw, max_length=size)
        except lzma.LZMAError as error:
            if "Memory usage limit" in str(error):
                raise ExpansionError(f"reading it needs more than {limits.XZ_MEMORY_BYTES:,} bytes of memory") from None
            raise
