"""The one way into plain asyncio libraries: what they cancel becomes an error, what we cancel passes.

In: an awaitable of a library that knows asyncio only. Out: its result.
Always, for a CancelledError that comes out of it (anyio swallows one that none of its scopes asked for: siblings
die and their group exits as if all were well):

- a scope around us is cancelled, so it is ours: it passes;
- else somebody called `task.cancel()`. In a task of an anyio group nobody would ever hear of it: it becomes an
  `EpisodeCancelledError`. In a task of the embedding program asyncio itself waits for it: it passes;
- else the library cancelled what we waited for: it becomes an `EngineError`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

import anyio

from dreamsim.errors import EngineError, EpisodeCancelledError

T = TypeVar("T")


async def guarded(awaitable: Awaitable[T], *, waiting_for: str) -> T:
    """Await `awaitable`, with foreign cancellations turned into errors that say what was waited for.

    Raises:
        EngineError: the library cancelled it.
        EpisodeCancelledError: the task was cancelled past anyio.
    """
    try:
        return await awaitable
    except asyncio.CancelledError as cancellation:
        error = foreign(waiting_for)
        if error is None:
            raise
        raise error from cancellation


def foreign(waiting_for: str) -> EngineError | EpisodeCancelledError | None:
    """What a CancelledError just caught in this task stands for; None if it has to pass.

    Where the error returned stands for a cancellation of the task, the task no longer counts as being cancelled.
    """
    if anyio.current_effective_deadline() == -math.inf:
        return None
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return EngineError(f"{waiting_for} was cancelled by the library behind it")
    if anyio.get_current_task().parent_id is None:
        return None
    task.uncancel()
    return EpisodeCancelledError(f"the task was cancelled from outside while waiting for {waiting_for}")
