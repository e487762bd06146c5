"""The process that vLLM computes in: where its output goes, and that it never outlives us.

In: the path of a log. Out: what vLLM is told to run instead of its own entry point.
Always: everything the process prints, from its first import on, goes to the log; when its parent dies, by whatever
signal, or gives up on it, it ends within seconds, and the worker processes under it with it.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import util
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Final

GRACE_S: Final = 3.0
LOOKED_AT: Final = 200_000
ERROR_LINE: Final = re.compile(r"^(?:\(.*?\) )?(?:ERROR .*?\] )?((?:\w+\.)*\w*(?:Error|Exception): .+)$", re.MULTILINE)
CORES: Final = "DREAMSIM_ENGINE_CORES"


class Leash:
    """Held by the parent: when it is let go, by `cut` or by the parent's death, the process ends."""

    def __init__(self, log_path: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is set in the process before vLLM is imported there."""
        self.log_path = log_path
        self.environment = dict(environment or {})
        self.started = False
        self.child_end, self._parent_end = Pipe(duplex=False)

    def cut(self) -> None:
        """End the process, if it is still there. May be called again."""
        self.child_end.close()
        self._parent_end.close()


class _Entry:
    """Stands in for vLLM's entry point. What it pickles to depends on who starts a process: see `leashed`."""

    def __init__(self, original: Callable[..., None], starting: threading.local) -> None:
        self._original = original
        self._starting = starting

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self._original(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        leash: Leash | None = getattr(self._starting, "leash", None)
        if leash is None:
            return (_plain_entry, ())
        return (_enter, (str(leash.log_path), leash.child_end, leash.environment))


# Set while engines start, and read by vLLM in its process as well, before and after it is imported.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "VLLM_NO_USAGE_STATS": "1",
    # Forking a process that has threads and an event loop ends in deadlocks.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # Its records go to the log by our handler.
    "VLLM_CONFIGURE_LOGGING": "0",
}
# vLLM preloads OpenMP and its allocator into its process by our environment; they are not for our other children.
RESTORED: Final = (*ENVIRONMENT, "LD_PRELOAD", "VLLM_ENABLE_V1_MULTIPROCESSING")


CONFIGURING: Final = threading.Lock()
"""Held while vLLM turns arguments into a configuration, which reads the environment."""


class _Starts:
    """How many engines are starting now, and what the environment was before the first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.before: dict[str, str | None] = {}


# State of the module, against our rule, because what it describes is state of the process: its environment, and the
# entry point that vLLM looks up in its own module.
_STARTS = _Starts()
_LOCK = threading.Lock()
_STARTING = threading.local()


def root_cause(log_path: Path) -> str | None:
    """The last error in a log: where vLLM says only that its process failed, this says why."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log_path.stat().st_size - LOOKED_AT))
            told = log.read().decode("utf-8", "replace")
    except OSError:
        return None
    found = ERROR_LINE.findall(told)
    return str(found[-1]).strip() if found else None


def has_gpu() -> bool:
    """Whether this machine shows an NVIDIA or AMD GPU; asks the file system, not a library."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


@contextmanager
def start_environment(log_path: Path) -> Iterator[None]:
    """The environment that engines start in, put back when the last of them has started."""
    with _STARTS.lock:
        if _STARTS.count == 0:
            _STARTS.before = {name: os.environ.get(name) for name in RESTORED}
            os.environ.update(ENVIRONMENT)
        _STARTS.count += 1
        _log_to(log_path)
    try:
        yield
    finally:
        _end_progress_thread()
        with _STARTS.lock:
            _STARTS.count -= 1
            if _STARTS.count == 0:
                for name, value in _STARTS.before.items():
                    os.environ.pop(name, None)
                    if value is not None:
                        os.environ[name] = value


def _end_progress_thread() -> None:
    """End the thread that tqdm keeps once any library has shown a progress bar; the next bar begins another."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is not None and tqdm.tqdm.monitor is not None:
        tqdm.tqdm.monitor.exit()
        tqdm.tqdm.monitor = None


def _log_to(log_path: Path) -> None:
    """Send what vLLM logs in this process to the log of the engine started last."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    for handler in logging.getLogger("vllm").handlers[:]:
        logging.getLogger("vllm").removeHandler(handler)
        handler.close()
    _log_with(logging.FileHandler(log_path))


def _log_with(handler: logging.Handler) -> None:
    logger = logging.getLogger("vllm")
    handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [%(name)s] %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextmanager
def leashed(leash: Leash) -> Iterator[None]:
    """Engine processes that this thread starts inside are on `leash`.

    vLLM names no way to say what its process does first, so its entry point is replaced: for good, because another
    thread may be starting an engine too, and by one that does exactly the same for everyone else.
    """
    from vllm.v1.engine.core import EngineCoreProc

    with _LOCK:
        if not isinstance(EngineCoreProc.run_engine_core, _Entry):
            EngineCoreProc.run_engine_core = _Entry(EngineCoreProc.run_engine_core, _STARTING)
    _STARTING.leash = leash
    try:
        yield
    finally:
        del _STARTING.leash


def _plain_entry() -> Callable[..., None]:
    from vllm.v1.engine.core import EngineCoreProc

    entry: Callable[..., None] = EngineCoreProc.run_engine_core
    return entry


def _enter(log_path: str, leash: Connection, environment: Mapping[str, str]) -> Callable[..., None]:
    """Runs in the new process while its arguments are unpickled, before anything of vLLM is imported."""
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.update(environment)
    # A terminal sends Ctrl-C to the whole process group: the parent ends episodes in order, and then this process.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    _log_with(logging.StreamHandler())
    threading.Thread(target=_end_with, args=(leash,), name="leash", daemon=True).start()
    return _run


def _run(*args: Any, **kwargs: Any) -> None:
    code = 1
    try:
        _bind_threads()
        _plain_entry()(*args, **kwargs)
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
    except BaseException:
        logging.getLogger("vllm").exception("the engine's process failed")
    # Without taking the interpreter apart, which takes seconds: only what would outlive the process is freed.
    # (`_exit_function` is not in the type stubs: multiprocessing registers it, and has no public name for it.)
    atexit.unregister(util._exit_function)  # type: ignore[attr-defined]
    util._exit_function()  # type: ignore[attr-defined]
    logging.shutdown()
    os._exit(code)


def _bind_threads() -> None:
    """Where vLLM computes in this process, it leaves the threads to whoever started it."""
    cores = os.environ.get(CORES)
    if cores is None:
        return
    if cores:
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    import torch

    # OpenMP has read its variable when it was loaded: too early for what was set since.
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def _end_with(leash: Connection) -> None:
    with suppress(EOFError, OSError):
        leash.recv_bytes()
    # First the way vLLM knows, which ends its workers; then the way that always works (workers watch their parent).
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(1)
