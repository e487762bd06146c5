"""One sitting of a run that is to be killed: `python -m dreamsim.run` in a forked process, with a reaper beside it.

In: the command's arguments, the moment of the kill. Out: a dead process, the acknowledgements it gave, and, if it was
not killed, how often each kind of moment came.
Always: the parent has imported everything and runs no thread, so that a sitting costs what the run itself costs; an
acknowledgement is written after the commit has returned and before anybody in the run is told of it; the kill is
SIGKILL, and nothing in the process can clean up.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from dreamsim.records.episode import Episode

Kind = Literal["time", "commit", "statement", "file"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""When a kill comes: after some seconds; after a commit and its acknowledgement; before a statement of SQL, inside a
transaction or not; before a file or directory is opened for writing, renamed, made or removed."""
SITTING = (
    "aiohttp.web",
    "dreamsim.agents.language_model",
    "dreamsim.cli.display",
    "dreamsim.cli.play",
    "dreamsim.engines.openai_http",
    "dreamsim.run",
    "dreamsim.testing.environment",
    "dreamsim.testing.policies",
    "sklearn.feature_extraction",
    "usearch.index",
)
"""What is imported once, for all sittings."""
FILE_EVENTS = ("os.rename", "os.mkdir", "os.remove")
WRITING = os.O_WRONLY | os.O_RDWR
SAVE_EVERY = 60
"""Texts after which these runs save their index, instead of 50,000: so that some are killed while they do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a sitting is killed."""

    kind: Kind
    """What is counted."""
    at: float
    """Seconds of `time`, else how many of it; the kill comes with that one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sat:
    """How a sitting ended."""

    killed: bool
    """Whether the kill came before the end."""
    code: int
    """Exit code; -9 of a killed one."""
    seconds: float
    """How long it took."""
    counts: dict[str, int]
    """How often each kind of moment came; nothing of a killed one."""


class Reaper:
    """Counts moments in the sitting's process, and kills it at the one that was chosen."""

    def __init__(self, moment: Moment | None, directory: Path, acknowledgements: int) -> None:
        self.counts: Counter[str] = Counter()
        self._moment = moment
        self._directory = str(directory)
        self._acknowledgements = acknowledgements

    def saw(self, kind: Kind) -> None:
        """One more moment of this kind."""
        self.counts[kind] += 1
        moment = self._moment
        if moment is not None and moment.kind == kind and self.counts[kind] >= moment.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def settle_in(self) -> None:
        """Listen to the run: to its statements, its files and its commits."""
        import dreamsim.store.retrieval
        import dreamsim.store.schema
        import dreamsim.store.writer

        sys.addaudithook(self._audited)
        check = dreamsim.store.schema._check_version

        def checked(connection: sqlite3.Connection, path: Path, *, writing: bool) -> None:
            connection.set_trace_callback(lambda _: self.saw("statement"))
            check(connection, path, writing=writing)

        write = dreamsim.store.writer.write_episodes

        def written(connection: sqlite3.Connection, episodes: Iterable[Episode]) -> Any:
            batch = list(episodes)
            new = write(connection, batch)
            os.write(self._acknowledgements, "".join(f"{episode.id}\n" for episode in batch).encode())
            self.saw("commit")
            return new

        dreamsim.store.schema._check_version = checked
        dreamsim.store.writer.write_episodes = written
        dreamsim.store.retrieval.SAVE_EVERY = SAVE_EVERY

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in FILE_EVENTS or (
            event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITING)
        )
        if writes and isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(self._directory):
            self.saw("file")


def load() -> None:
    """Import what a sitting needs, so that it is there when it begins."""
    for name in SITTING:
        importlib.import_module(name)


def sit(
    arguments: Sequence[str],
    place: Path,
    acknowledged: Path,
    moment: Moment | None,
    prepare: Callable[[], None] | None = None,
) -> Sat:
    """Run one sitting in the directory `place`; returns when it is over. `prepare` is called in its process first."""
    counted = place / "counts.json"
    counted.unlink(missing_ok=True)
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _live(arguments, place, acknowledged, moment, counted, prepare)
    if moment is not None and moment.kind == "time":
        _wait(child, begun + moment.at)
        os.kill(child, signal.SIGKILL)  # it is not waited for yet, so the number is still its own
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    counts = json.loads(counted.read_text()) if counted.is_file() else {}
    return Sat(killed=code == -signal.SIGKILL, code=code, seconds=round(time.monotonic() - begun, 4), counts=counts)


def _wait(child: int, until: float) -> None:
    """Wait until a moment, or the end of the child if that comes first."""
    while (left := until - time.monotonic()) > 0:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(min(left, 0.002))


def _live(
    arguments: Sequence[str],
    place: Path,
    acknowledged: Path,
    moment: Moment | None,
    counted: Path,
    prepare: Callable[[], None] | None,
) -> NoReturn:
    code = 70
    try:
        os.chdir(place)
        output = os.open(place / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for number in (1, 2):
            os.dup2(output, number)
        random.seed()  # names of temporary files: the parent's would repeat themselves in every child
        told = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        reaper = Reaper(moment, place / "run", told)
        if prepare is not None:
            prepare()
        reaper.settle_in()
        from dreamsim.run import main

        code = main(arguments)
        reaper.saw = lambda kind: None  # type: ignore[method-assign]  # no kill after the end
        counted.write_text(json.dumps(reaper.counts))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - a child must never go on as its parent
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)
