"""What a training is made of and how far it is.

In: settings, parts, the JSON of a state. Out: records. Always: a setting that makes no sense is refused when made;
`Progress.from_json(one.to_json(...))` is that one again; what a part raises leaves a training as a `DreamsimError`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamsim.errors import ConfigurationError, DreamsimError
from dreamsim.evaluation.success import PolicyReport
from dreamsim.flow.archive import EpisodeArchive
from dreamsim.flow.batches import Continuation
from dreamsim.flow.failures import RECORD, FailurePolicy
from dreamsim.flow.mixing import ShareSchedule
from dreamsim.flow.planning import PlannedGroup, TaskChooser
from dreamsim.protocols import Environment, Policy, Trainer, WeightsReceiver
from dreamsim.records.episode import Source
from dreamsim.records.weights import InFlight
from dreamsim.runtime.watchdog import STUCK_SECONDS

Evaluate = Callable[[int], Awaitable[PolicyReport]]
"""Plays held-out games with the weights of now; the argument is their version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """The training as a whole."""

    run: str
    """Its name: part of every episode's id."""
    steps: int
    """Updates to make."""
    group_size: int = 8
    """Episodes of a group: attempts at one task that are compared with each other."""
    batch_groups: int = 8
    """Groups of an update."""
    minimum: int = 2
    """Episodes that a group needs to be learned from."""
    group_deadline_s: float | None = None
    """Time from a group's first finished episode to its closing, seconds; None waits for all of them."""
    failures: FailurePolicy = RECORD
    """What is done about training episodes that fail."""
    lag: int = 0
    """Rounds that may be played ahead of the trainer; 0 is strictly on-policy."""
    in_flight: InFlight = "drain"
    """What becomes of requests that an engine is answering when new weights come; with lag 0 there are none."""
    max_steps: int = 20
    """Longer episodes are truncated."""
    max_tokens: int | None = None
    """Longest sequence learned from."""
    real_share: ShareSchedule = field(default_factory=ShareSchedule)
    """Share of groups that are real, by update."""
    max_real_transitions: int | None = None
    """Real transitions that training may make; evaluations are counted apart."""
    evaluate_every: int = 10
    """Updates from one evaluation to the next; there is one before the first update and one after the last."""
    save_every: int = 1
    """Updates from one checkpoint to the next."""
    concurrency: int = 1024
    """Most dreamed episodes at once."""
    real_concurrency: int = 128
    """Most real episodes at once."""
    episode_seconds: float | None = None
    """Most time for the steps of one episode."""
    stall_s: float = STUCK_SECONDS
    """An episode that awaits one thing so long is named in the log."""
    seed: int = 0
    """Root of all seeds."""

    @property
    def most_transitions(self) -> int:
        """Transitions that one episode can make at most, failed tries included."""
        return self.max_steps * self.failures.tries

    def __post_init__(self) -> None:
        if min(self.steps, self.group_size, self.batch_groups, self.evaluate_every, self.save_every) < 1:
            raise ConfigurationError("steps, group_size, batch_groups, evaluate_every and save_every: at least 1")
        if self.lag < 0:
            raise ConfigurationError("lag must not be negative: weights cannot learn from what comes after them")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingParts:
    """What a training is made of."""

    environments: Mapping[Source, Environment]
    """Entered; those that the schedule asks for."""
    policy: Policy
    """Who plays, on engines that `receivers` stand for."""
    receivers: Sequence[WeightsReceiver]
    """Take the new weights."""
    trainer: Trainer
    """Learns; new, also where a training goes on."""
    tasks: TaskChooser
    """Says what to play."""
    archive: EpisodeArchive
    """Keeps every episode."""
    evaluate: Evaluate | None = None
    """Measures the weights of now in the real environment; None: nothing is kept as best."""
    continuation: Continuation | None = None
    """For trainers that value the state a truncated episode ended in (`flow.batches.continuation_of`)."""
    generation: int = 1
    """Of dreamed episodes."""
    engines: Sequence[object] = ()
    """What dreamed episodes ask, where their number is to follow the load (`Simulator.engines`)."""
    curriculum: Callable[[], Mapping[str, float]] = dict
    """What the source of tasks does, in numbers (`curriculum.figures`)."""
    check: Callable[[], Awaitable[None]] | None = None
    """Asked once engine and trainer have the same weights, before anything is played."""
    describe: Callable[[Path], None] = lambda path: None
    """Writes what is to stand beside weights that are kept. Blocks."""


@dataclass(slots=True)
class Progress:
    """What a training has done so far."""

    updates: int = 0
    """Updates made."""
    seconds: float = 0.0
    """Wall time of earlier sittings."""
    planned: deque[tuple[PlannedGroup, ...]] = field(default_factory=deque)
    """Rounds that are not learned from yet."""
    late: dict[str, Source] = field(default_factory=dict)
    """Ids of episodes whose round is over without them, and where they are played."""
    totals: Counter[str] = field(default_factory=Counter)
    """`real`, `dreamed` and `evaluation` transitions, `episodes`."""
    best_success: float | None = None
    """Success of the best evaluation."""
    best_update: int | None = None
    """When it was."""

    def to_json(self, *, seconds: float) -> dict[str, Any]:
        """As JSON."""
        return {
            "updates": self.updates,
            "seconds": seconds,
            "planned": [[group.to_json() for group in one] for one in self.planned],
            "late": self.late,
            "totals": dict(self.totals),
            "best_success": self.best_success,
            "best_update": self.best_update,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Progress:
        """From JSON."""
        return cls(
            updates=told["updates"],
            seconds=told["seconds"],
            planned=deque(tuple(map(PlannedGroup.from_json, one)) for one in told["planned"]),
            late=dict(told.get("late", {})),
            totals=Counter(told["totals"]),
            best_success=told["best_success"],
            best_update=told["best_update"],
        )


@contextmanager
def plainly() -> Iterator[None]:
    """What a part raises inside, as an error that says what a training's user can do.

    Raises:
        DreamsimError: as it was raised, or with the part's own error as its cause.
    """
    try:
        yield
    except DreamsimError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise DreamsimError(f"the training could not go on ({said}); what is on disk can be gone on with") from error
