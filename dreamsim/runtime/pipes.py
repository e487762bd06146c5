"""Pipes: bounded channels with a name and statistics.

In: items of one type. Out: the same items in order. Always:
- a pipe holds at most `capacity` items; a sender that must wait is counted in `blocked_s`;
- receiving ends (EndOfStream) once every clone of the sending side is closed and the pipe is empty;
- sending ends (BrokenResourceError) once every clone of the receiving side is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeStatistics:
    """A pipe at one moment."""

    name: str
    """The pipe's name."""
    capacity: int
    """Most items it holds."""
    depth: int
    """Items in it now."""
    sent: int
    """Items sent so far."""
    blocked_s: float
    """Time senders have waited for room so far, seconds, summed over senders."""
    blocked_now: int
    """Senders waiting now."""


class PipeSender(Generic[T]):
    """The sending side; `clone` one for every task that sends."""

    __slots__ = ("_pipe", "_stream")

    def __init__(self, pipe: Pipe[T], stream: MemoryObjectSendStream[T]) -> None:
        self._pipe = pipe
        self._stream = stream

    def send_nowait(self, item: T) -> None:
        """Send if there is room.

        Raises:
            anyio.WouldBlock: the pipe is full.
        """
        self._stream.send_nowait(item)
        self._pipe.sent += 1

    async def send(self, item: T) -> None:
        """Send, waiting for room."""
        try:
            self._stream.send_nowait(item)
        except anyio.WouldBlock:
            begun = self._pipe.now()
            try:
                await self._stream.send(item)
            finally:
                self._pipe.blocked_s += self._pipe.now() - begun
        self._pipe.sent += 1

    def clone(self) -> PipeSender[T]:
        """Another sender of the same pipe, closed on its own."""
        return PipeSender(self._pipe, self._stream.clone())

    def close(self) -> None:
        """Send no more. Idempotent."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PipeReceiver(Generic[T]):
    """The receiving side; iterate it, or `receive` one item at a time."""

    __slots__ = ("_stream",)

    def __init__(self, stream: MemoryObjectReceiveStream[T]) -> None:
        self._stream = stream

    async def receive(self) -> T:
        """The next item.

        Raises:
            anyio.EndOfStream: every sender is closed and the pipe is empty.
        """
        return await self._stream.receive()

    def clone(self) -> PipeReceiver[T]:
        """Another receiver of the same pipe; each item goes to one of them."""
        return PipeReceiver(self._stream.clone())

    def close(self) -> None:
        """Receive no more. Idempotent."""
        self._stream.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._stream.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Pipe(Generic[T]):
    """A bounded channel: `sender` and `receiver` are its two ends."""

    __slots__ = ("_stream", "blocked_s", "capacity", "name", "now", "receiver", "sender", "sent")

    def __init__(self, name: str, capacity: int, *, now: Callable[[], float]) -> None:
        """A pipe for `capacity` items; `now` is the monotonic time of a clock."""
        if capacity < 1:
            raise ValueError(f"pipe {name!r}: capacity must be at least 1, or nothing could ever wait in it")
        send, receive = anyio.create_memory_object_stream[T](capacity)
        self.name = name
        self.capacity = capacity
        self.now = now
        self.sent = 0
        self.blocked_s = 0.0
        self._stream = send
        self.sender: PipeSender[T] = PipeSender(self, send)
        self.receiver: PipeReceiver[T] = PipeReceiver(receive)

    def statistics(self) -> PipeStatistics:
        """The pipe now."""
        inside = self._stream.statistics()
        return PipeStatistics(
            name=self.name,
            capacity=self.capacity,
            depth=inside.current_buffer_used,
            sent=self.sent,
            blocked_s=self.blocked_s,
            blocked_now=inside.tasks_waiting_send,
        )

    @property
    def spent(self) -> bool:
        """Whether nobody will receive anything that is in it now: it is empty, or every receiver is closed."""
        inside = self._stream.statistics()
        return inside.current_buffer_used == 0 or inside.open_receive_streams == 0

    def close(self) -> None:
        """Close both ends. Idempotent."""
        self.sender.close()
        self.receiver.close()
