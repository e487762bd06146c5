"""What a verb that asks a model has done so far: two files that only grow.

In: finished lines and requests. Out: `OUTPUT` and `OUTPUT.requests.jsonl`. Always: a line is on disk before the
next is written; a line that a crash left unfinished is cut off when the files are opened again; costs are counted over
all sittings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from dreamsim.errors import UsageError
from dreamsim.experience.questions import Exchange, Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One line of `OUTPUT.requests.jsonl`."""

    id: str
    """What was asked about: an id of `OUTPUT`."""
    model: str
    """Who was asked."""
    prompt_tokens: int = 0
    """Tokens read."""
    completion_tokens: int = 0
    """Tokens written."""
    problem: str | None = None
    """Why the answer was not used; None if it was."""


@dataclass(kw_only=True)
class Tally:
    """What happened, in this sitting and in total."""

    done: int = 0
    """Items done in this sitting."""
    known: int = 0
    """Items that were done before."""
    unasked: int = 0
    """Items that needed no asking."""
    failed: int = 0
    """Items given up."""
    requests: int = 0
    """Requests of all sittings."""
    unused: int = 0
    """Requests of all sittings whose answer could not be used, or that got none."""
    prompt_tokens: int = 0
    """Tokens read in all sittings."""
    completion_tokens: int = 0
    """Tokens written in all sittings."""

    def count(self, request: Request) -> None:
        """One request."""
        self.requests += 1
        self.unused += request.problem is not None
        self.prompt_tokens += request.prompt_tokens
        self.completion_tokens += request.completion_tokens


class GrowingFiles:
    """The two files."""

    def __init__(self, output: Path, *, verb: str) -> None:
        """Read what is there; a line that a crash left unfinished is cut off. Blocks.

        Args:
            output: where finished lines go; each has an `id`.
            verb: whose output it is, for messages.

        Raises:
            UsageError: a file cannot be read or holds something else.
        """
        self.output = output
        self.requests = output.with_name(output.name + ".requests.jsonl")
        self.tally = Tally()
        self._lock = anyio.Lock()
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            self.known = {str(line["id"]) for line in whole_lines(output)}
            for line in whole_lines(self.requests):
                self.tally.count(Request(**line))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{output}: not the output of an earlier `dreamsim {verb}`: {error!r}") from error

    async def keep(self, line: Mapping[str, Any]) -> None:
        """Write a finished line, which has an `id`; on disk when this returns."""
        await self._append(self.output, line)
        self.known.add(str(line["id"]))

    def noting(self, id: str, model: str) -> Note:
        """Writes down every request about `id`."""

        async def note(exchange: Exchange) -> None:
            request = Request(
                id=id,
                model=model,
                prompt_tokens=exchange.prompt_tokens,
                completion_tokens=exchange.completion_tokens,
                problem=exchange.problem,
            )
            self.tally.count(request)
            await self._append(self.requests, asdict(request))

        return note

    async def _append(self, path: Path, line: Mapping[str, Any]) -> None:
        async with self._lock:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_append, path, line)


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, none if it is not there; an unfinished last line is cut off the file. Blocks."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("rb+") as file:
            file.truncate(len(whole))
    return [json.loads(line) for line in whole.splitlines() if line.strip()]
