"""What a failed episode means: for itself, and for the run.

In: a `FailurePolicy`. Out: a rollout that plays an episode again, or says that the run is over.
Always:
- an episode that is played again is the same assignment with the same id: one episode is stored, that of the last try;
  the steps of the others happened all the same, and are counted (`retried_steps`);
- only what failed around an episode is tried again (`RETRIED`), never what its models made of it: an answer that could
  not be used, an episode that used up its time or its context is a finding, and trying until it does not happen would
  make the models look better than they are;
- a try has seeds, request ids and a time limit of its own; the first try has those that it has without a policy;
- an episode that the run itself cut off counts neither as a failure nor as a reason to try again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import anyio

from dreamsim.errors import (
    ConfigurationError,
    EngineError,
    EnvironmentFailure,
    EpisodeCancelledError,
    RetrievalError,
    TooManyFailuresError,
    UnexpectedError,
)
from dreamsim.flow.rollout import Rollout, RolloutSettings
from dreamsim.protocols import Assignment, Environment, Policy
from dreamsim.records.episode import Episode, Source
from dreamsim.runtime.boundary import Boundary
from dreamsim.runtime.limits import Gate
from dreamsim.runtime.seeds import seed_of
from dreamsim.runtime.telemetry import LiveEpisode, Telemetry

OnFailure = Literal["record", "retry", "fail_fast"]
RETRIED = frozenset(
    error.kind for error in (EngineError, EnvironmentFailure, RetrievalError, EpisodeCancelledError, UnexpectedError)
)
"""Kinds of errors that another try may not meet."""
LONGEST_BACKOFF_S = 60.0
BACKING_OFF = "backing off"
"""Where a live episode is between two tries."""


def retried_steps(source: Source) -> str:
    """The counter of the steps of failed tries that were not the last one, in an environment of `source`."""
    return f"retried_{source}_steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """What is done about episodes that fail."""

    on_failure: OnFailure = "record"
    """`record` stores it and goes on; `retry` plays it again first; `fail_fast` ends the run with it."""
    retries: int = 2
    """Tries beyond the first, for `retry`."""
    backoff_s: float = 1.0
    """Wait before the second try, seconds; doubled before each further one, at most `LONGEST_BACKOFF_S`."""
    most: int | None = None
    """Failed episodes that a run may have; one more, and nothing new is begun. None is any number."""

    def __post_init__(self) -> None:
        if self.retries < 1:
            raise ConfigurationError("retries must be at least 1; for none, record failures instead of retrying")
        if self.backoff_s < 0:
            raise ConfigurationError("backoff_s must not be negative")
        if self.most is not None and self.most < 0:
            raise ConfigurationError("the number of failures allowed must not be negative")

    @property
    def tries(self) -> int:
        """Times that an episode is played at most."""
        return 1 + self.retries if self.on_failure == "retry" else 1

    def wait_s(self, seed: int, failures: int) -> float:
        """Wait after so many failed tries, seconds: half of it by chance, so that thousands do not return at once."""
        share = 0.5 + seed_of(seed, "backoff", failures) % 1000 / 1000
        return min(LONGEST_BACKOFF_S, self.backoff_s * 2.0 ** min(failures - 1, 16)) * share


RECORD = FailurePolicy()
"""Store what failed and go on."""


class PolicedRollout(Rollout):
    """A rollout that goes by a failure policy."""

    def __init__(
        self,
        *,
        environment: Environment,
        policy: Policy,
        settings: RolloutSettings,
        telemetry: Telemetry,
        gate: Gate | None = None,
        failures: FailurePolicy = RECORD,
    ) -> None:
        """Ready to `play`; any number at once."""
        super().__init__(environment=environment, policy=policy, settings=settings, telemetry=telemetry, gate=gate)
        self._failures = failures
        self.failed = 0
        """Episodes that failed, all their tries included as one."""

    async def play(self, assignment: Assignment, live: LiveEpisode, *, attempt: int = 0) -> Episode:
        """Play one episode, as often as the policy allows. Never raises for what the episode did."""
        counters, policy = self._telemetry.counters, self._failures
        while True:
            episode = await super().play(assignment, live, attempt=attempt)
            if episode.outcome != "error" or anyio.current_effective_deadline() == -math.inf:
                return episode
            attempt += 1
            if attempt >= policy.tries or episode.error_kind not in RETRIED or self.halt is not None:
                break
            counters["retried"] += 1
            counters[f"retried after {episode.error_kind}"] += 1
            live.station, live.since = BACKING_OFF, self._telemetry.clock.monotonic()
            with Boundary() as woken:
                await anyio.sleep(policy.wait_s(seed_of(self.settings.seed, live.id), attempt))
            if woken.cancelled:  # what the last try ended with stands
                return episode
            counters[retried_steps(episode.source)] += len(episode.transitions)  # no stored episode has them
        self._judge(episode)
        return episode

    def _judge(self, episode: Episode) -> None:
        self.failed += 1
        policy = self._failures
        if self.halt is not None:
            return
        if policy.on_failure == "fail_fast":
            self.cut = True
            said = f"episode {episode.id} failed ({episode.error_kind}), and the failure policy is to end the run then"
            self.halt = TooManyFailuresError(said)
        elif policy.most is not None and self.failed > policy.most:
            self.halt = TooManyFailuresError(
                f"{self.failed:,} episodes failed and {policy.most:,} are allowed; the last one: {episode.error_kind}"
            )
