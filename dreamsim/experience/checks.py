"""What runs beside a dream so that it does not lie where it can know better: ledger, verifier, gate, cache.

In: transitions as the experience model sampled them. Out: what contradicts in them, their verified outcome, counts.
Always:
- nothing here makes up a transition: a sample is taken, corrected in outcome and reward by the verifier, or refused;
  where samples go on contradicting books that know what must come, the books' state takes the place of the samples';
- looking at a transition changes nothing: only `entered` moves the books on;
- what is found is counted and goes with the transition as its `Trust`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dreamsim.errors import ConfigurationError, VerificationError
from dreamsim.experience.cache import TransitionCache
from dreamsim.experience.uncertainty import Gate
from dreamsim.protocols import AmendingLedger, Environment, GoalLedger, LedgerSession, StateLedger, Verifier
from dreamsim.records.episode import StepOutcome, Transition
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction, Trust, Verdict
from dreamsim.runtime.trust_counts import TrustCounter

OnContradiction = Literal["resample", "flag", "off"]
OnDisagreement = Literal["trust", "drop", "flag"]
VerifyWhen = Literal["every", "ends"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """The run-time checks of an experience model; all of them are off where nothing is given."""

    ledgers: Callable[[str], StateLedger] | None = None
    """Environment name -> its ledger; asked once for each name."""
    on_contradiction: OnContradiction = "resample"
    """A transition that contradicts the books is sampled again (and fails the episode in the end), kept and marked, or
    not looked at."""
    amend_after: int = 0
    """After so many samples of a step that contradict, the step is as the books say, where they decide it; 0: never."""
    verifiers: Callable[[str], Verifier | None] | None = None
    """Environment name -> who verifies outcomes there, if anybody; asked once for each name."""
    on_disagreement: OnDisagreement = "trust"
    """The verifier's outcome replaces the model's, and the reward goes with it; or the episode fails; or the step is
    kept and marked."""
    verify: VerifyWhen = "every"
    """Which steps the verifier is asked of: with `ends`, successes that the model missed stay missed."""
    gate: Gate | None = None
    """The uncertainty gate."""
    reality: Environment | None = None
    """The real environment that the gate hands doubtful steps to."""
    cache: TransitionCache | None = None
    """Answers identical requests."""
    count: TrustCounter = field(default_factory=TrustCounter)
    """Counts what is found."""

    def __post_init__(self) -> None:
        """Raises: ConfigurationError: settings that cannot work together."""
        if self.amend_after < 0:
            raise ConfigurationError("amend_after must be at least 0")
        if self.gate is not None and self.gate.mode == "real" and self.reality is None:
            raise ConfigurationError(
                "the gate is to hand doubtful steps to the real environment, and none is attached: attach one, "
                "or set experience.gate.mode to resample or truncate"
            )

    @property
    def asks_reality(self) -> bool:
        """Whether reality answers what the dream cannot be trusted with."""
        return self.gate is not None and self.gate.mode == "real"

    def amends(self, samples: int) -> bool:
        """Whether a step may be as the books say after so many samples that contradict; reality knows better."""
        return 0 < self.amend_after <= samples and not self.asks_reality

    @property
    def any(self) -> bool:
        """Whether anything is checked."""
        return not (self.ledgers is None and self.verifiers is None and self.gate is None and self.cache is None)


class EpisodeChecks:
    """The checks of one episode."""

    __slots__ = ("_before", "_books", "_checks", "_ledger", "_maximum_reward", "_remembers", "_task", "_verifier")

    def __init__(
        self,
        checks: Checks,
        task: Task,
        *,
        ledger: StateLedger | None,
        verifier: Verifier | None,
        maximum_reward: float,
    ) -> None:
        self._checks = checks
        self._task = task
        self._ledger = ledger
        self._verifier = verifier
        self._maximum_reward = maximum_reward
        self._books: LedgerSession | None = None if ledger is None else ledger.open(task)
        self._before: list[Transition] = []
        self._remembers = verifier is not None or checks.reality is not None

    @property
    def before(self) -> Sequence[Transition]:
        """The episode's transitions so far, where verifier or reality may be asked: nobody else needs them."""
        return self._before

    def contradictions(self, transition: Transition, *, first: bool) -> tuple[Contradiction, ...]:
        """What the books rule out in `transition`; `first` if it is the first of its step, as it is then counted."""
        if self._books is None or self._checks.on_contradiction == "off":
            return ()
        found = self._books.contradictions(transition)
        if first:
            self._checks.count.first(found)
        return found

    def amended(self, transition: Transition) -> Transition | None:
        """`transition` as the books have it, outcome included; None where they do not decide it."""
        if not isinstance(self._books, AmendingLedger):
            return None
        state = self._books.amended(transition)
        if state is None:
            return None
        told = dataclasses.replace(transition, state=state, reward=0.0, outcome="running", reasoning="")
        outcome = self._books.outcome(told) if isinstance(self._books, GoalLedger) else None
        if outcome is None:
            return None
        reward = self._maximum_reward if outcome == "success" else 0.0
        told = dataclasses.replace(told, outcome=outcome, reward=reward)
        return None if self._books.contradictions(told) else told

    async def verdict(self, transition: Transition) -> Verdict | None:
        """The verifier's word on `transition`; None where it is not to be asked.

        Raises:
            EpisodeError: the verifier could not be asked.
        """
        if self._verifier is None or (self._checks.verify == "ends" and not transition.done):
            return None
        return await self._verifier.verify(self._task, self._before, transition, books=self._books)

    def overruled(self, transition: Transition, verdict: Verdict | None) -> bool:
        """Whether nothing but a claim of `transition` contradicts the books, one that `verdict` replaces anyway."""
        if verdict is None or self._checks.on_disagreement != "trust" or verdict.outcome in (None, transition.outcome):
            return False
        assert self._books is not None, "only the books find contradictions"
        return not self._books.contradictions(self._ruled(transition, verdict))

    def verified(self, transition: Transition, trust: Trust, verdict: Verdict | None) -> Transition:
        """`transition` with the verifier's word, and with `trust`.

        Raises:
            VerificationError: the verifier says otherwise, and such episodes are to be dropped.
        """
        if verdict is None:
            return dataclasses.replace(transition, trust=trust)
        claimed, told = transition.outcome, verdict.outcome
        self._checks.count.verified(claimed, told)
        if told is None or told == claimed or self._checks.on_disagreement == "flag":
            return dataclasses.replace(transition, trust=dataclasses.replace(trust, verdict=verdict))
        if self._checks.on_disagreement == "drop":
            raise VerificationError(
                f"after {transition.action!r} the experience model says {claimed}, {verdict.verifier} says {told}"
                + (f": {verdict.reason}" if verdict.reason else "")
            )
        kept = dataclasses.replace(trust, verdict=verdict, claimed=claimed)
        return dataclasses.replace(self._ruled(transition, verdict), trust=kept)

    def _ruled(self, transition: Transition, verdict: Verdict) -> Transition:
        assert verdict.outcome is not None, "a verdict that decides nothing replaces nothing"
        reward = self._maximum_reward if verdict.outcome == "success" else 0.0
        return dataclasses.replace(transition, outcome=verdict.outcome, reward=reward)

    def entered(self, transition: Transition) -> None:
        """Go on from `transition`."""
        if self._books is not None:
            self._books.see(transition)
        if self._remembers:
            self._before.append(transition)

    def kept(self, transition: Transition) -> None:
        """Count a dreamed step that was kept."""
        if self._books is not None and self._checks.on_contradiction != "off":
            self._checks.count.kept(() if transition.trust is None else transition.trust.contradictions)

    def restart(self, transitions: Sequence[Transition]) -> None:
        """Begin the books again from what really happened."""
        self._before = list(transitions)
        if self._ledger is not None:
            self._books = self._ledger.open(self._task)
            for transition in transitions:
                self._books.see(transition)


def outcome_of(transition: Transition) -> StepOutcome:
    """What the experience model itself claimed of `transition`."""
    claimed = None if transition.trust is None else transition.trust.claimed
    return transition.outcome if claimed is None else claimed
