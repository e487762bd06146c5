"""What `dreamsim annotate` has done so far: two files that only grow.

In: annotated episodes and requests. Out: `OUTPUT` and `OUTPUT.requests.jsonl`. Always: a line is on disk before the
next is written; a line that a crash left unfinished is cut off when the files are opened again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from dreamsim.errors import UsageError
from dreamsim.records.codec import episode_to_json
from dreamsim.records.episode import Episode


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One line of `OUTPUT.requests.jsonl`."""

    episode: str
    """Its episode's id."""
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
    """Episodes annotated in this sitting."""
    known: int = 0
    """Episodes that were done before."""
    unasked: int = 0
    """Episodes copied, because every step had its reasoning."""
    failed: int = 0
    """Episodes given up."""
    requests: int = 0
    """Requests of all sittings."""
    prompt_tokens: int = 0
    """Tokens read in all sittings."""
    completion_tokens: int = 0
    """Tokens written in all sittings."""

    def count(self, prompt: int, completion: int) -> None:
        """One request."""
        self.requests += 1
        self.prompt_tokens += prompt
        self.completion_tokens += completion


class Ledger:
    """The two files that only grow."""

    def __init__(self, output: Path) -> None:
        """Read what is there; a line that a crash left unfinished is cut off.

        Raises:
            UsageError: a file cannot be read or holds something else.
        """
        self.output = output
        self.requests = output.with_name(output.name + ".requests.jsonl")
        self.tally = Tally()
        self._lock = anyio.Lock()
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            self.known = {str(line["id"]) for line in _whole_lines(output)}
            for line in _whole_lines(self.requests):
                self.tally.count(int(line["prompt_tokens"]), int(line["completion_tokens"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{output}: not the output of an earlier `dreamsim annotate`: {error!r}") from error

    async def keep(self, episode: Episode) -> None:
        """Write an annotated episode; on disk when this returns."""
        await self._append(self.output, episode_to_json(episode))
        self.known.add(episode.id)

    async def note(self, request: Request) -> None:
        """Write down a request."""
        self.tally.count(request.prompt_tokens, request.completion_tokens)
        await self._append(self.requests, asdict(request))

    async def _append(self, path: Path, line: dict[str, Any]) -> None:
        async with self._lock:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_append, path, line)


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("rb+") as file:
            file.truncate(len(whole))
    return [json.loads(line) for line in whole.splitlines() if line.strip()]
