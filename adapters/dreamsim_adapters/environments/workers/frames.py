"""What goes between the event loop and a worker process, and the loop inside the worker that answers.

In: requests on standard input. Out: one answer each, in order, on standard output; both are JSON objects preceded by
their length (four bytes, big endian). Every request has an `id`, and its answer the same.

    {"id": 1, "op": "open", "session": 7, ...}     a session begins; the answer is what it shows
    {"id": 2, "op": "step", "session": 7, "action": "open fridge"}
    {"id": 3, "op": "close", "session": 7}

What else can be asked is the environment's own.

Always: the first answer has the id 0 and says that the worker is ready; an error that is expected is answered with
`{"id": .., "error": ..}` and the process lives on; the process ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final

FRAME_LIMIT: Final = 64 * 2**20
"""Most bytes of one message."""
ERROR_LENGTH: Final = 500
"""Characters of an error's message that are passed on."""
JsonObject = dict[str, Any]


def read_frame(stream: BinaryIO) -> JsonObject | None:
    """The next request, or None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    size = int.from_bytes(head, "big")
    body = stream.read(size) if size <= FRAME_LIMIT else b""
    if len(body) < size:
        return None
    frame: JsonObject = json.loads(body)
    return frame


def frame_bytes(message: JsonObject) -> bytes:
    """A message as it goes over the wire."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return len(body).to_bytes(4, "big") + body


def serve(
    requests: BinaryIO,
    answers: BinaryIO,
    answer: Callable[[JsonObject], JsonObject],
    *,
    hello: JsonObject,
    expected: tuple[type[Exception], ...],
    fatal: tuple[type[Exception], ...] = (),
) -> None:
    """Answer requests until there are no more.

    Args:
        requests: where they come from.
        answers: where the answers go.
        answer: what a request comes to.
        hello: what is told once the worker is ready.
        expected: errors that are answered.
        fatal: errors, `expected` ones among them, that end the process.
    """
    answers.write(frame_bytes({"id": 0, "ready": os.getpid(), **hello}))
    answers.flush()
    while (request := read_frame(requests)) is not None:
        try:
            told = answer(request)
        except fatal:
            raise
        except expected as error:
            told = {"error": f"{type(error).__name__}: {str(error)[:ERROR_LENGTH]}"}
        answers.write(frame_bytes({**told, "id": request["id"]}))
        answers.flush()


def standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Requests and answers of this process; whatever else prints goes to standard error from now on."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdin.close()
    return requests, answers
