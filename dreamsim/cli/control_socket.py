"""The socket through which a live run is controlled.

In: connections of the same user. Out: one answer each. Always:
- the socket has mode 0600 in a directory with mode 0700, `control/` in the run's directory; where the path would be
  longer than a socket's may be, it is in a temporary directory of that mode; `control/address` holds its path;
- the socket of a run that is dead is replaced; a run that is alive in the same directory is an error;
- what `control/address` names is removed only if it is a socket of this user in one of those two places;
- one line in, one line out, both bounded, within `EXCHANGE_S`; whatever comes over it cannot end the run by itself.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import anyio
from anyio import to_thread
from anyio.abc import SocketListener, SocketStream, TaskGroup

from dreamsim.cli.control_words import LINE_BYTES, answer
from dreamsim.errors import UsageError
from dreamsim.flow.control import RunControl
from dreamsim.runtime.boundary import Boundary
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.runtime.whole_files import write_whole

EXCHANGE_S: Final = 5.0
AT_ONCE: Final = 8
LONGEST_PATH: Final = 107
"""Bytes of a socket's path that every system takes; Linux has 108 with the end mark."""
ANSWER_BYTES: Final = 1 << 20
TEMPORARY: Final = "dreamsim-"
"""Beginning of the names of sockets' folders in the temporary directory."""


class controlled(AbstractAsyncContextManager[Path]):  # noqa: N801 - used like a function
    """Listen while the context is open; gives the socket's path. An error of the block leaves it as it is."""

    def __init__(self, directory: Path, control: RunControl, telemetry: Telemetry) -> None:
        self._directory = directory
        self._serving = partial(_serve, control, telemetry, anyio.Semaphore(AT_ONCE))
        self._path: Path
        self._listener: SocketListener
        self._tasks: TaskGroup

    async def __aenter__(self) -> Path:
        """Begin to listen.

        Raises:
            UsageError: another run is alive in the directory, or nothing can be made there.
        """
        home = self._directory / "control"
        try:
            listening, self._path = await to_thread.run_sync(_listen, self._directory)
            self._listener = await SocketListener.from_socket(listening)
        except OSError as error:
            raise UsageError(f"{home}: no socket can be made ({error.strerror})") from error
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._listener.serve, self._serving, name="dreamsim control")
        return self._path

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._tasks.cancel_scope.cancel()
        try:
            if kind is not None and issubclass(kind, anyio.get_cancelled_exc_class()):
                return await self._tasks.__aexit__(kind, error, trace)
            # The block's own error is not given to the group, which would wrap it.
            await self._tasks.__aexit__(None, None, None)
            return None
        finally:
            with anyio.CancelScope(shield=True):
                await self._listener.aclose()
                await to_thread.run_sync(_remove, self._directory, self._path)


def _listen(directory: Path) -> tuple[socket.socket, Path]:
    """A socket that listens, and its path; in a temporary directory where the run's cannot hold one. Blocks."""
    home = _prepare(directory)
    listening, path = None, home / "socket"
    if len(os.fsencode(path)) <= LONGEST_PATH:
        with suppress(OSError):  # not every network file system holds sockets
            listening = _bound(path)
    if listening is None:
        path = Path(tempfile.mkdtemp(prefix=TEMPORARY)) / "socket"  # mkdtemp makes it 0700
        listening = _bound(path)
    write_whole(home / "address", f"{path}\n")
    return listening, path


def _bound(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.setblocking(False)
        listening.bind(str(path))  # nobody else can enter its directory meanwhile
        path.chmod(0o600)
        listening.listen(AT_ONCE)
    except OSError:
        listening.close()
        raise
    return listening


def _prepare(directory: Path) -> Path:
    """Make the private directory, and clear it of what a dead run has left there.

    Raises:
        UsageError: the run that left it is alive.
    """
    home = directory / "control"
    home.mkdir(mode=0o700, exist_ok=True)
    home.chmod(0o700)  # it may have been there, or the process may have a mask of its own
    try:
        old = socket_of(directory)
    except UsageError:
        pass
    else:
        if _alive(old):
            raise UsageError(f"{directory} is in use by a run that is alive: see `dreamsim ctl {directory} status`")
        _remove(directory, old)
    _unlink_socket(home / "socket")  # the address may have named it otherwise: relative to another directory
    return home


def _alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as tried:
        tried.settimeout(EXCHANGE_S)
        try:
            tried.connect(str(path))
        except OSError:
            return False
    return True


def _remove(directory: Path, path: Path) -> None:
    """Remove a run's socket, its folder in the temporary directory and its address; `path` may come from a file."""
    home = directory / "control"
    in_temporary = _is_our_temporary(path.parent)
    if path.parent == home or in_temporary:
        _unlink_socket(path)
    with suppress(OSError):
        (home / "address").unlink()
    if in_temporary:
        with suppress(OSError):  # something else is in it
            path.parent.rmdir()


def _unlink_socket(path: Path) -> None:
    with suppress(OSError):
        found = path.lstat()
        if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid():
            path.unlink()


def _is_our_temporary(folder: Path) -> bool:
    """Whether a run of this user has made `folder` for its socket."""
    # Compared as written: a way through `..` or a link is none that a run has written.
    if folder.parent != Path(tempfile.gettempdir()).absolute() or not folder.name.startswith(TEMPORARY):
        return False
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


async def _serve(control: RunControl, telemetry: Telemetry, places: anyio.Semaphore, stream: SocketStream) -> None:
    # Whoever leaves in the middle, or says nothing, is left to himself.
    with suppress(OSError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        async with stream, places:
            with anyio.fail_after(EXCHANGE_S):
                line = await _line(stream)
                await stream.send(_answer(line, control, telemetry) + b"\n")


def _answer(line: bytes, control: RunControl, telemetry: Telemetry) -> bytes:
    """What is said to `line`. A bug in the looking is told to whoever looks: the run is not to end with it."""
    with Boundary() as caught:
        return json.dumps(answer(line, control, telemetry) if line else _refused("no line of JSON")).encode()
    return json.dumps(_refused("it cannot be told" if caught.failure is None else caught.failure.message)).encode()


def _refused(said: str) -> dict[str, Any]:
    return {"ok": False, "error": said}


async def _line(stream: SocketStream) -> bytes:
    """What came up to the first end of line; empty if that is too much."""
    line = b""
    while b"\n" not in line:
        if len(line) > LINE_BYTES:
            return b""
        line += await stream.receive(LINE_BYTES)
    return line.partition(b"\n")[0] if len(line) <= LINE_BYTES else b""


def socket_of(place: Path) -> Path:
    """The socket of a run, from its directory or its own path.

    Raises:
        UsageError: nobody has listened there.
    """
    with suppress(OSError):
        if stat.S_ISSOCK(place.stat().st_mode):
            return place
    address = place / "control" / "address"
    try:
        with address.open("rb") as file:
            told = file.read(LINE_BYTES).decode("utf-8", "surrogateescape").strip()
    except OSError:
        told = ""
    if not told or "\0" in told:
        raise UsageError(f"no run listens in {place}: it has ended, is setting up, or is another directory")
    return Path(told)


def ask(path: Path, wish: dict[str, Any]) -> dict[str, Any]:
    """Say `wish` to the run that listens at `path`; returns its answer. Blocks.

    Raises:
        UsageError: nobody listens, or what answers is no run.
    """
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(2 * EXCHANGE_S)
        try:
            asking.connect(str(path))
            asking.sendall(json.dumps(wish).encode() + b"\n")
            told = b""
            while not told.endswith(b"\n") and len(told) < ANSWER_BYTES:
                part = asking.recv(1 << 16)
                if not part:
                    break
                told += part
            said = json.loads(told)
        except OSError as error:
            raise UsageError(f"no run listens at {path} ({error.strerror or error}): it has ended") from None
        except ValueError:
            raise UsageError(f"what listens at {path} does not answer as a run does") from None
    if not isinstance(said, dict):
        raise UsageError(f"what listens at {path} does not answer as a run does")
    return said
