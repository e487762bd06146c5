"""Whether a run is well, as one word for whoever restarts what is not.

In: a `Snapshot`. Out: `Health`. Always: a few episodes that hang do not make a run ill, because the others go on; a run
that is paused or waits for its consumer is well.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamsim.runtime.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of a run."""

    good: bool
    """Whether the run can go on by itself."""
    reason: str
    """`running`, `paused`, or what is wrong."""


def health_of(snapshot: Snapshot, *, stall_s: float) -> Health:
    """Ill if an engine is dead, or if nothing has moved for `stall_s` although episodes are alive."""
    if snapshot.engine_dead is not None:
        return Health(good=False, reason=f"engine dead: {snapshot.engine_dead}")
    if snapshot.still_s >= stall_s:
        waiting = snapshot.stuck[0] if snapshot.stuck else None
        said = "" if waiting is None else f"; episode {waiting.episode_id} awaits {waiting.what}"
        return Health(good=False, reason=f"stalled: nothing has moved for {snapshot.still_s:.0f} s{said}")
    return Health(good=True, reason="paused" if snapshot.paused else "running")
