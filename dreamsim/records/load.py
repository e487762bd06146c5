"""How busy an engine is.

In: an engine's own statistics. Out: `EngineLoad`. Always: what an engine does not tell is None, never a made-up number;
`preemptions` only grows, so that whoever looks twice knows what happened between.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """An engine at one moment."""

    running: int = 0
    """Requests that are being computed."""
    waiting: int = 0
    """Requests that wait for a place among them."""
    cache_use: float | None = None
    """Share of the key-value cache that running requests hold, 0 to 1; blocks that are only kept to be found again
    count as free."""
    preemptions: int = 0
    """Times that a running request lost its place, and what was computed for it, since the engine was opened."""
