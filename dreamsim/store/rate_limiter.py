"""Samples per insert: neither the actors nor the learner runs away from the other.

In: requests to insert and to sample. Out: permission, at once or after a wait. Always, once there are
`min_size_to_sample` items,

    |D| <= error_buffer,    D = samples_per_insert * (inserts - min_size_to_sample) - samples

so that each item is sampled `samples_per_insert` times on average, give or take a buffer that does not grow. Before
that there are inserts only. This is the contract of Reverb's `SampleToInsertRatio` (Cassirer et al. 2021, arXiv
2102.04736), with requests for several items and with the exact bound under which nobody can be stuck:

- inserting m is refused while D > B - m * spi, and sampling n while D < n - B. D is a multiple of 1/q, with spi = p/q;
  a multiple at which both are refused, m and n at their largest, can only be there if n + m * spi > 2 B;
- an insert that crosses `min_size_to_sample` adds up to (m - 1) * spi, which must fit the buffer by itself, because
  nobody may sample before it.

Settings that break either are refused when they are made. All counting is exact (fractions), so rounding cannot
undo that. Requests of one kind are served in the order of asking: a large one is not overtaken by small ones for ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import anyio

from dreamsim.errors import ConfigurationError

Side = Literal["insert", "sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesPerInsert:
    """How often what is inserted is to be sampled."""

    samples_per_insert: float
    """Samples for each inserted item, on average: the spi of the formula."""
    min_size_to_sample: int = 1
    """Inserted items before the first sample."""
    error_buffer: float
    """Greatest |D|, in samples: the B of the formula."""
    largest_insert: int = 1
    """Most items that one request inserts."""
    largest_sample: int = 1
    """Most items that one request samples."""

    def __post_init__(self) -> None:
        """Refuse settings under which somebody would wait for ever.

        Raises:
            ConfigurationError: they would; the message says who and what to change.
        """
        for name in ("min_size_to_sample", "largest_insert", "largest_sample"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1")
        if not 0 < self.samples_per_insert < float("inf"):
            raise ConfigurationError("samples_per_insert must be positive and finite")
        if not 0 < self.error_buffer < float("inf"):
            raise ConfigurationError("error_buffer must be positive and finite; leave the limiter out for no limit")
        per_insert, buffer = _exact(self.samples_per_insert), _exact(self.error_buffer)
        crossing = (self.largest_insert - 1) * per_insert
        if crossing > buffer:
            raise ConfigurationError(
                f"error_buffer is {self.error_buffer:g}, but the insert that reaches min_size_to_sample can add "
                f"{float(crossing):g}: it would wait for samples, and those for it, for ever. "
                f"Set error_buffer to at least {float(crossing):g}, or insert fewer at a time"
            )
        # The first multiple of 1/q that can come about and at which the largest insert is refused.
        unit = per_insert.denominator
        above = math.floor((buffer - self.largest_insert * per_insert) * unit) + 1
        refused = Fraction(max(above, math.ceil(-buffer * unit)), unit)
        if refused <= buffer and refused < self.largest_sample - buffer:
            needed = (self.largest_sample + self.largest_insert * per_insert) / 2
            raise ConfigurationError(
                f"error_buffer is {self.error_buffer:g}: with {self.largest_insert} items an insert, "
                f"{self.largest_sample} a sample and {self.samples_per_insert:g} samples per insert both sides can "
                f"come to wait for each other for ever. Set error_buffer to at least {float(needed):g}, "
                "or make the requests smaller"
            )


class SampleInsertCounts:
    """The synchronous half: the counts, and who may go on. Every decision is here; nothing waits."""

    __slots__ = ("_buffer", "_per_insert", "inserts", "limit", "samples")

    def __init__(self, limit: SamplesPerInsert, *, inserts: int = 0, samples: int = 0) -> None:
        """Count on from `inserts` and `samples`, as a resumed run does.

        Raises:
            ConfigurationError: these counts cannot have come about under `limit`.
        """
        self.limit = limit
        self.inserts = inserts
        self.samples = samples
        self._per_insert = _exact(limit.samples_per_insert)
        self._buffer = _exact(limit.error_buffer)
        low = inserts < limit.min_size_to_sample
        if min(inserts, samples) < 0 or (samples > 0 if low else abs(self._difference) > self._buffer):
            raise ConfigurationError(
                f"{inserts} inserts and {samples} samples do not keep {limit.samples_per_insert:g} samples per insert: "
                "count on with the limit that they were counted with, or from 0"
            )

    @property
    def _difference(self) -> Fraction:
        return self._per_insert * (self.inserts - self.limit.min_size_to_sample) - self.samples

    @property
    def difference(self) -> float:
        """D: positive when samples are behind, negative when inserts are."""
        return float(self._difference)

    def can_insert(self, n: int = 1) -> bool:
        """Whether `n` items may be inserted now.

        Raises:
            ConfigurationError: more than `largest_insert`, or fewer than one.
        """
        self._check(n, self.limit.largest_insert, "insert")
        after = self._difference + n * self._per_insert
        return self.inserts + n <= self.limit.min_size_to_sample or after <= self._buffer

    def can_sample(self, n: int = 1) -> bool:
        """Whether `n` items may be sampled now.

        Raises:
            ConfigurationError: more than `largest_sample`, or fewer than one.
        """
        self._check(n, self.limit.largest_sample, "sample")
        return self.inserts >= self.limit.min_size_to_sample and self._difference - n >= -self._buffer

    def insert_nowait(self, n: int = 1) -> None:
        """Count `n` inserts.

        Raises:
            anyio.WouldBlock: samples are too far behind.
        """
        if not self.can_insert(n):
            raise anyio.WouldBlock
        self.inserts += n

    def sample_nowait(self, n: int = 1) -> None:
        """Count `n` samples.

        Raises:
            anyio.WouldBlock: there are too few items, or samples are too far ahead.
        """
        if not self.can_sample(n):
            raise anyio.WouldBlock
        self.samples += n

    def _check(self, n: int, largest: int, side: Side) -> None:
        if not 1 <= n <= largest:
            raise ConfigurationError(
                f"asked to {side} {n} items at once; from 1 to {largest} were agreed on (largest_{side})"
            )


def _exact(number: float) -> Fraction:
    """The decimal number that was meant: 0.1 is a tenth."""
    return Fraction(str(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStatistics:
    """A limiter at one moment."""

    inserts: int
    """Items inserted."""
    samples: int
    """Items sampled."""
    difference: float
    """D of the formula: positive when samples are behind."""
    inserting_waits: int
    """Requests to insert that wait now."""
    sampling_waits: int
    """Requests to sample that wait now."""
    insert_blocked_s: float
    """Time that requests to insert have waited, summed; those that wait now are not counted yet."""
    sample_blocked_s: float
    """The same for requests to sample."""


class _Queue:
    """The requests of one side."""

    __slots__ = ("blocked_s", "over", "turn", "waiting")

    def __init__(self) -> None:
        self.turn = anyio.Lock()
        """Held by the request that is first in line."""
        self.waiting = 0
        self.blocked_s = 0.0
        self.over = False
        """Whether this side asks no more."""


class RateLimiter:
    """The asynchronous half: waits until the counts allow it. Made inside the event loop."""

    def __init__(
        self, limit: SamplesPerInsert, *, now: Callable[[], float], inserts: int = 0, samples: int = 0
    ) -> None:
        """Count on from `inserts` and `samples`; `now` is the monotonic time of a clock."""
        self._counts = SampleInsertCounts(limit, inserts=inserts, samples=samples)
        self._now = now
        self._changed = anyio.Condition()
        self._inserting = _Queue()
        self._sampling = _Queue()

    async def insert(self, n: int = 1) -> None:
        """Wait until `n` items may be inserted, and count them. Cancelled while waiting, it counts nothing.

        Raises:
            anyio.BrokenResourceError: nobody will sample any more, and without that it may not be inserted.
            anyio.ClosedResourceError: `end_inserts` was called.
            ConfigurationError: more than `largest_insert`.
        """
        await self._ask(
            self._inserting, self._sampling, lambda: self._counts.insert_nowait(n), anyio.BrokenResourceError
        )

    async def sample(self, n: int = 1) -> None:
        """Wait until `n` items may be sampled, and count them. Cancelled while waiting, it counts nothing.

        Raises:
            anyio.EndOfStream: nothing will be inserted any more, and without that it may not be sampled.
            anyio.ClosedResourceError: `end_samples` was called.
            ConfigurationError: more than `largest_sample`.
        """
        await self._ask(self._sampling, self._inserting, lambda: self._counts.sample_nowait(n), anyio.EndOfStream)

    async def end_inserts(self) -> None:
        """Nothing will be inserted any more; who waits to sample is told. Idempotent."""
        await self._end(self._inserting)

    async def end_samples(self) -> None:
        """Nothing will be sampled any more; who waits to insert is told. Idempotent."""
        await self._end(self._sampling)

    def statistics(self) -> RateStatistics:
        """The limiter now."""
        return RateStatistics(
            inserts=self._counts.inserts,
            samples=self._counts.samples,
            difference=self._counts.difference,
            inserting_waits=self._inserting.waiting,
            sampling_waits=self._sampling.waiting,
            insert_blocked_s=self._inserting.blocked_s,
            sample_blocked_s=self._sampling.blocked_s,
        )

    async def _ask(self, mine: _Queue, theirs: _Queue, count: Callable[[], None], left_alone: type[Exception]) -> None:
        begun = self._now()
        mine.waiting += 1
        try:
            async with mine.turn, self._changed:
                while True:
                    if mine.over:
                        raise anyio.ClosedResourceError
                    try:
                        count()
                    except anyio.WouldBlock:
                        if theirs.over:
                            raise left_alone from None
                        await self._changed.wait()
                    else:
                        self._changed.notify_all()
                        return
        finally:
            mine.waiting -= 1
            mine.blocked_s += self._now() - begun

    async def _end(self, side: _Queue) -> None:
        with anyio.CancelScope(shield=True):  # nobody holds the condition for longer than a count takes
            async with self._changed:
                side.over = True
                self._changed.notify_all()
