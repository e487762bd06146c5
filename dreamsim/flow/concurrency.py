"""How many episodes may be alive: a limit below the user's ceiling that follows the load of the engines.

In: what engines told at two looks. Out: the next limit, as a pure function.

    observe -> decide -> (limit, episodes to requeue) -> observe

Always: 1 <= limit <= ceiling; without pressure the limit at least doubles at every look until it is the ceiling; a
steady load settles instead of swinging, because between `AIM` and `FULL` nothing is changed; a look at which no engine
tells anything changes nothing.

What is pressure. A running request holds blocks of the key-value cache for its prompt and what it wrote. When none is
free, vLLM takes a running request's blocks away (a preemption) and computes it again from its first token later: with
too many episodes it mostly computes what it had computed before. A preemption is therefore pressure, and so is a cache
that is full while requests wait for it. A queue alone costs nothing but time: it is pressure only where it is so long
that one more episode could not be answered any sooner (`QUEUE`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dreamsim.records.load import EngineLoad

LOOK_S: Final = 0.5
"""Seconds between two looks: longer than a step of an engine, so that a look sees the effect of the one before, and
short enough that a few of them open the limit."""
START: Final = 256
"""First limit: as many requests as vLLM computes in one step by default, so that the start fills the engine. The first
look at these tells how much cache an episode takes, before thousands are there."""
GROWTH: Final = 2.0
"""Most that the limit is multiplied by at one look: 256 become 2,048 in three looks."""
AIM: Final = 0.80
"""Share of the cache to grow towards. Episodes' prompts get longer with every step, so some of it must stay free."""
FULL: Final = 0.95
"""Share from which the cache counts as full: vLLM begins no request that does not fit into the rest."""
SHED: Final = 0.10
"""Share of the running requests that a cut takes away, beside all that wait: those do not hold cache."""
FLOOR: Final = 0.5
"""A cut leaves at least this share: one look may see a moment that is not typical."""
COOL_LOOKS: Final = 4
"""Looks after a cut in which nothing is decided: what it does shows once requests in flight have ended."""
BELOW_WALL: Final = 0.9
"""Share of the number of episodes at which the last cut came that is grown to again quickly."""
WALL_RISE: Final = 1.002
"""That number is forgotten by so much at every look, 27 % in a minute: loads change, and asking again must be rare."""
QUEUE: Final = 16
"""Requests waiting for each running one beyond which nothing more is begun: an answer then takes the time of 17."""
FAR: Final = 1.25
"""A limit so far below what is alive is not waited for: the youngest episodes are cut off and played again later."""

Reason = Literal["growing", "held", "cut", "cooling", "ceiling"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One engine at a look."""

    load: EngineLoad
    """What it told."""
    preempted: int = 0
    """Preemptions since the look before."""

    @classmethod
    def since(cls, before: EngineLoad | None, now: EngineLoad) -> Look:
        """The engine now, with what has happened since `before`; the first look counts nothing."""
        counted = now.preemptions if before is None else before.preemptions
        # An engine that was started again counts from zero.
        preempted = now.preemptions - counted if now.preemptions >= counted else now.preemptions
        return cls(load=now, preempted=preempted)

    @property
    def pressed(self) -> bool:
        """Whether fewer episodes would be better."""
        return self.preempted > 0 or (self.load.waiting > 0 and (self.load.cache_use or 0.0) >= FULL)

    @property
    def crowded(self) -> bool:
        """Whether more episodes would not be better."""
        return self.load.waiting > QUEUE * max(1, self.load.running)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """What is known from one look to the next."""

    limit: int
    """Most episodes alive."""
    cool: int = 0
    """Looks to let pass."""
    wall: float = math.inf
    """Episodes at which pressure last showed, forgotten slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from a look."""

    state: LimitState
    """The limit, and what to remember."""
    requeue: int
    """Of the youngest episodes, so many are to be cut off and played again later."""
    reason: Reason
    """Why."""


def first_state(ceiling: int, *, alive: int = 0) -> LimitState:
    """Where to begin, at a moment at which `alive` episodes are being played: with none of them cut off."""
    return LimitState(limit=min(ceiling, max(START, alive)))


def decide(state: LimitState, looks: Sequence[Look], *, alive: int, ceiling: int) -> Decision:
    """The next limit.

    Args:
        state: what the decision before has left.
        looks: the engines that tell their load, as they are now; while there are none, nothing is changed.
        alive: episodes being played.
        ceiling: most episodes that the user allows, now.
    """
    limit = max(1, min(state.limit, ceiling))
    if not looks:  # engines that are being started again: no pressure is seen, and none may be concluded from that
        return _decided("held", limit, wall=state.wall, cool=state.cool)
    preempted = any(look.preempted for look in looks)
    if state.cool:
        return _decided("cooling", limit, cool=state.cool - 1, wall=state.wall)
    if any(look.pressed for look in looks):
        if alive > limit:  # an earlier cut has not been carried out yet: another one would be too much
            return _decided("held", limit, wall=state.wall, requeue=alive - limit if preempted else 0, cool=COOL_LOOKS)
        lower = min(_cut(look, alive, limit) for look in looks if look.pressed)
        far = preempted and alive > FAR * lower
        return _decided("cut", lower, cool=COOL_LOOKS, wall=float(alive), requeue=alive - lower if far else 0)
    wall = state.wall * WALL_RISE
    if limit == ceiling:
        return _decided("ceiling", limit, wall=wall)
    higher = min([ceiling, math.floor(max(limit, BELOW_WALL * wall) if wall < math.inf else ceiling)])
    higher = min([higher, math.ceil(limit * GROWTH), *(_room(look, alive, limit) for look in looks)])
    if higher <= limit:
        return _decided("held", limit, wall=wall)
    return _decided("growing", higher, wall=wall)


def _decided(reason: Reason, limit: int, *, wall: float, cool: int = 0, requeue: int = 0) -> Decision:
    return Decision(state=LimitState(limit=limit, cool=cool, wall=wall), requeue=requeue, reason=reason)


def _cut(look: Look, alive: int, limit: int) -> int:
    """Episodes that an engine under pressure can serve: without those that wait, and some of those that run."""
    served = alive - look.load.waiting - math.ceil(SHED * look.load.running)
    return max(1, math.ceil(FLOOR * alive), served) if alive > 1 else min(limit, max(1, alive))


def _room(look: Look, alive: int, limit: int) -> int:
    """Episodes at which an engine without pressure would be used as it should be, if they took what those alive do."""
    if look.crowded:
        return limit
    use = look.load.cache_use
    if not use or not alive:
        return math.ceil(limit * GROWTH)
    return math.floor(alive * AIM / use)
