"""The episode boundary: the only place that catches everything.

In: whatever an episode raised, exception groups included. Out: a `Failure` (kind and message) as data.
Always:
- a typed `EpisodeError` keeps its kind, also from inside a group; anything else is `unexpected`;
- a cancellation is recorded too: `cancelled` tells whether a scope around us asked for it, in which case the
  caller must let it through once the books are kept, or whether it is foreign and ends here;
- KeyboardInterrupt, SystemExit and GeneratorExit pass: they do not belong to an episode.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from dreamsim.errors import EngineError, EpisodeCancelledError, EpisodeError, UnexpectedError

MESSAGE_LIMIT = 2000
CUT_OFF = "cancelled with the run"
"""Message of what a scope around the boundary cancelled, or its beginning: what the end of a run cut off."""
_NEVER_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an episode failed, as it is stored."""

    kind: str
    """`EpisodeError.kind`."""
    message: str
    """For a person; at most `MESSAGE_LIMIT` characters."""
    dead_engine: EngineError | None = None
    """Set when an engine is dead, so that no other episode can succeed either."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside nested groups, in order; an error that is no group is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def failure_of(error: BaseException, *, cancelled_type: type[BaseException]) -> Failure:
    """What to store for `error`: the first typed error of a group gives the kind, the message names all."""
    found = list(leaves(error))
    # A cancellation inside a group is how siblings were told to stop: not the cause when there is another.
    causes = [leaf for leaf in found if not isinstance(leaf, cancelled_type)] or found
    typed = next((leaf for leaf in causes if isinstance(leaf, EpisodeError)), None)
    if typed is not None:
        kind = typed.kind
    elif isinstance(causes[0], cancelled_type):
        kind = EpisodeCancelledError.kind
    else:
        kind = UnexpectedError.kind
    dead = next((leaf for leaf in causes if isinstance(leaf, EngineError) and not leaf.recoverable), None)
    return Failure(kind=kind, message="; ".join(map(_words, causes))[:MESSAGE_LIMIT], dead_engine=dead)


def _words(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # the error's own __str__ is broken; its type still says something
        said = ""
    if isinstance(error, EpisodeError):
        words = said or type(error).__name__
    else:
        words = f"{type(error).__name__}: {said}" if said else type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        if frames:
            words += f" (at {Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})"
    # Lone surrogates (a model can write them) could not be stored.
    return words.encode("utf-8", "backslashreplace").decode()


class Boundary:
    """`with Boundary() as caught: ...` and then look at `caught.failure`."""

    __slots__ = ("cancelled", "error", "failure")

    def __init__(self) -> None:
        self.failure: Failure | None = None
        """None when nothing was raised."""
        self.error: BaseException | None = None
        """What was raised, as it was."""
        self.cancelled = False
        """Whether a scope around the boundary was cancelled: the next checkpoint outside will raise again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        if any(isinstance(leaf, _NEVER_OURS) for leaf in leaves(error)):
            return False
        cancelled_type = anyio.get_cancelled_exc_class()
        self.error = error
        self.failure = failure_of(error, cancelled_type=cancelled_type)
        if all(isinstance(leaf, cancelled_type) for leaf in leaves(error)):
            self.cancelled = anyio.current_effective_deadline() == -math.inf
            said = CUT_OFF if self.cancelled else "hit by a foreign cancellation"
            self.failure = Failure(kind=EpisodeCancelledError.kind, message=said)
        return True
