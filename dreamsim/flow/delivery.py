"""The station that brings new weights to the engines that serve the policy.

In: the pipe of weights that `flow.learning` fills. Out: engines that answer with them, and a report of every delivery.
Always:
- all engines get every version, at the same time; the next one is not begun before all have this one;
- versions only grow: what is not newer than what was delivered last is refused;
- when no more weights come, or an engine cannot take them, whoever waits for weights (`Pace`) is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio

from dreamsim.errors import UsageError
from dreamsim.flow.staleness import Pace
from dreamsim.protocols import WeightsReceiver
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.runtime.pipes import PipeReceiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Weights that all engines answer with."""

    update: WeightsUpdate
    """The weights."""
    seconds: float
    """From when they came to when the last engine answered with them: requests finished, weights read, caches
    emptied."""
    waited_s: float
    """Time this station waited for them."""


@dataclass(slots=True)
class DeliveryStatistics:
    """What a station has delivered so far."""

    versions: list[int] = field(default_factory=list)
    """Versions, in order."""
    swap_s: float = 0.0
    """Time of all deliveries."""
    slowest_s: float = 0.0
    """Time of the slowest one."""

    def add(self, delivered: Delivered) -> None:
        """Count one delivery."""
        self.versions.append(delivered.update.version)
        self.swap_s += delivered.seconds
        self.slowest_s = max(self.slowest_s, delivered.seconds)


async def deliver(
    updates: PipeReceiver[WeightsUpdate],
    receivers: Sequence[WeightsReceiver],
    *,
    in_flight: InFlight = "drain",
    pace: Pace | None = None,
    report: Callable[[Delivered], None] = lambda delivered: None,
    now: Callable[[], float] = anyio.current_time,
) -> DeliveryStatistics:
    """Load all weights that come into all of `receivers`, until no more come.

    Args:
        updates: ends the station when its senders are closed.
        receivers: the engines (or adapters of engines) that serve the policy.
        in_flight: what becomes of requests that are being answered.
        pace: is told of versions, and that it is over.
        report: is told of every delivery, on the event loop.
        now: monotonic time, seconds.

    Raises:
        EngineError: an engine could not take the weights.
        UsageError: versions do not grow.
    """
    done = DeliveryStatistics()
    try:
        with updates:
            while True:
                begun = now()
                update = await anext(updates, None)
                if update is None:
                    return done
                if done.versions and update.version <= done.versions[-1]:
                    raise UsageError(f"weights of version {update.version} came after {done.versions[-1]}")
                came = now()
                if pace is not None:
                    pace.loading()
                await load_everywhere(update, receivers, in_flight=in_flight)
                if pace is not None:
                    pace.delivered(update.version)
                delivered = Delivered(update=update, seconds=now() - came, waited_s=came - begun)
                done.add(delivered)
                report(delivered)
    finally:
        if pace is not None:
            pace.close()


async def load_everywhere(
    update: WeightsUpdate, receivers: Sequence[WeightsReceiver], *, in_flight: InFlight = "drain"
) -> None:
    """Load `update` into all receivers at the same time; the first failure is raised as it is.

    Raises:
        EngineError: an engine could not take the weights.
    """
    failures: list[Exception] = []

    async def load(receiver: WeightsReceiver) -> None:
        try:
            await receiver.load_weights(update, in_flight=in_flight)
        except Exception as error:  # noqa: BLE001 - raised below, outside the group that would wrap it
            failures.append(error)

    async with anyio.create_task_group() as group:
        for receiver in receivers:
            group.start_soon(load, receiver)
    if failures:
        raise failures[0]
