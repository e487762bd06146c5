"""What an engine has done so far.

In: one call per request. Out: `EngineStatistics`. Always: every request that was begun is counted once, as answered,
aborted or failed; recording costs less than a microsecond.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """Counts since the engine was opened."""

    requests: int = 0
    """Requests answered."""
    prompt_tokens: int = 0
    """Tokens of their prompts."""
    cached_tokens: int = 0
    """Of these, tokens that were served from a prefix cache."""
    generated_tokens: int = 0
    """Tokens of their answers."""
    aborted: int = 0
    """Requests that were cancelled."""
    failed: int = 0
    """Requests that ended in an error."""
    retried: int = 0
    """Tries beyond the first, of all requests (servers only)."""
    in_flight: int = 0
    """Requests being worked on now, waiting ones included."""


class EngineCounters:
    """Counts; of one event loop."""

    __slots__ = ("aborted", "cached", "failed", "generated", "in_flight", "prompt", "requests", "retried")

    def __init__(self) -> None:
        self.requests = self.prompt = self.cached = self.generated = 0
        self.aborted = self.failed = self.retried = self.in_flight = 0

    def answered(self, *, prompt: int, generated: int, cached: int = 0) -> None:
        """A request was answered."""
        self.requests += 1
        self.prompt += prompt
        self.generated += generated
        self.cached += cached

    def statistics(self) -> EngineStatistics:
        """The counts as they are now."""
        return EngineStatistics(
            requests=self.requests,
            prompt_tokens=self.prompt,
            cached_tokens=self.cached,
            generated_tokens=self.generated,
            aborted=self.aborted,
            failed=self.failed,
            retried=self.retried,
            in_flight=self.in_flight,
        )
