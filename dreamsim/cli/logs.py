"""The run's log: one JSON object a line, in its directory.

In: the log's path. Out: structlog and the standard library's logging both write there. Always: appended to, so a
resumed run's log follows the first; nothing reaches the terminal; a thread writes, so that no line holds the loop.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from dreamsim.cli.visible import visible

_STAMPS: tuple[structlog.typing.Processor, ...] = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
_QUIET = ("urllib3", "httpx", "filelock", "fsspec")


@contextmanager
def run_log(path: Path) -> Iterator[None]:
    """While open, log records of this process go to `path`."""
    sink = logging.FileHandler(path, encoding="utf-8")
    sink.setFormatter(_json_lines())
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(waiting, sink)
    entry = _Entry(waiting)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    before = structlog.get_config()
    root.handlers[:] = [entry]
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            *_STAMPS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(level)
        sink.close()


@contextmanager
def warnings_only() -> Iterator[None]:
    """While open, structlog prints warnings to standard error and nothing else: for verbs without a run."""
    before = structlog.get_config()
    *earlier, renderer = before["processors"]
    structlog.configure(
        processors=[*earlier, _visible_values, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _visible_values(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: visible(value) if isinstance(value, str) else value for name, value in event.items()}


class _Entry(logging.handlers.QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record as it is: it stays in this process, and structlog's message is no string yet."""
        return record


def _json_lines() -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_STAMPS, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
