"""Episodes that are owed: admitted or about to be, and what was asked of them.

In: assignments. Out: records that the collector keeps. Always: an assignment is owed once, from when it is taken out of
its source until its one episode is stored, however often it is begun.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import anyio

from dreamsim.protocols import Assignment
from dreamsim.runtime.telemetry import LiveEpisode


@dataclass(slots=True, kw_only=True, eq=False)
class Flight:
    """One episode that is owed."""

    id: str
    """The episode's id."""
    assignment: Assignment
    """What is to be played."""
    live: LiveEpisode | None = None
    """Where it is, while it is being played; None while it waits for a slot."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    """Around its playing."""
    asked: Literal["", "again", "end"] = ""
    """Why `scope` was cancelled: to play it `again` later, or to `end` it; empty if neither was asked."""
    begun: int = 0
    """Times that it was begun."""

    @property
    def ending(self) -> bool:
        """Whether it was asked to end."""
        return self.asked == "end"

    def end(self) -> None:
        """Have it end as cancelled."""
        self.asked = "end"
        self.scope.cancel()

    def play_again(self) -> None:
        """Have it cut off now and played again from its beginning, later."""
        if not self.asked:
            self.asked = "again"
            self.scope.cancel()

    def reset(self) -> None:
        """It was cut off, and waits to be begun again."""
        self.asked, self.live, self.scope = "", None, anyio.CancelScope()
