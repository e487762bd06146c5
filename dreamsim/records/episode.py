"""An episode: a task, the transitions that happened, how it ended and where it comes from.

In: what the rollout loop saw. Out: `Episode`, the unit that is stored, retrieved from and learned from.
Always:
- `id` depends on run, task and repeat alone, so storing an episode twice stores it once.
- Only the last transition can end the task; an episode is `truncated` when its steps ran out first and
  `error` when something failed, in which case `error_kind` and `error_message` are set.
- Nothing is made up: reward and outcome are those the environment or experience model gave.
- `generation` is 0 if and only if the episode is real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dreamsim.errors import RecordError
from dreamsim.records.completion import Decision
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Trust

Source = Literal["real", "dreamed"]
StepOutcome = Literal["running", "success", "failure"]
EpisodeOutcome = Literal["success", "failure", "truncated", "error"]
Purpose = Literal["experience", "training", "evaluation"]

SOURCES: tuple[Source, ...] = ("real", "dreamed")
STEP_OUTCOMES: tuple[StepOutcome, ...] = ("running", "success", "failure")
EPISODE_OUTCOMES: tuple[EpisodeOutcome, ...] = ("success", "failure", "truncated", "error")
PURPOSES: tuple[Purpose, ...] = ("experience", "training", "evaluation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """What one action led to."""

    action: str
    """The action as it was given."""
    state: State
    """The state after it."""
    reward: float
    """As the task defines it: by default 1 when the task is solved by this step, else 0."""
    outcome: StepOutcome
    """`running` unless this step ended the task."""
    reasoning: str = ""
    """Why the state changed so: the experience model's reasoning, or a teacher's annotation of a real step."""
    admissible: tuple[str, ...] = ()
    """Actions that can be taken in `state`, where the environment tells them."""
    score: float | None = None
    """The environment's own running score, where it has one; information only, never the reward."""
    decision: Decision | None = None
    """How the policy came to the action; None when it was not recorded."""
    samples: int = 1
    """Outputs the experience model needed for this transition: 1 is the first try."""
    retrieved: tuple[str, ...] = ()
    """Ids (`episode id:step index`) of the experiences shown to the experience model."""
    trust: Trust | None = None
    """What the run-time checks found; None for real steps, and for dreams without checks."""

    @property
    def done(self) -> bool:
        """Whether this step ended the task."""
        return self.outcome != "running"

    def decided(self, decision: Decision) -> Transition:
        """The same, with how the policy came to the action."""
        return Transition(  # written out, because every step comes by: `dataclasses.replace` takes three times as long
            action=self.action,
            state=self.state,
            reward=self.reward,
            outcome=self.outcome,
            reasoning=self.reasoning,
            admissible=self.admissible,
            score=self.score,
            decision=decision,
            samples=self.samples,
            retrieved=self.retrieved,
            trust=self.trust,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One finished episode, whatever its end."""

    id: str
    """`episode_id(run, task key, repeat)`."""
    run: str
    """The run it belongs to."""
    task: Task
    """What was asked."""
    repeat: int
    """Which of the task's episodes in this run, from 0."""
    source: Source
    """Whether the environment was real or dreamed."""
    purpose: Purpose
    """`evaluation` episodes are never retrieved from or learned from."""
    transitions: tuple[Transition, ...]
    """In order."""
    outcome: EpisodeOutcome
    """How it ended."""
    error_kind: str | None = None
    """`EpisodeError.kind` when the outcome is `error`."""
    error_message: str | None = None
    """What happened, for a person."""
    policy: str = ""
    """Name and version of the policy."""
    experience_model: str = ""
    """Name and version of the experience model; empty for real episodes."""
    started_at: float = 0.0
    """Unix time, seconds."""
    duration_s: float = 0.0
    """Wall time from admission to the last transition, seconds."""
    generation: int = 0
    """0 for real episodes; a dreamed one is 1 + the greatest generation of what its experience model was trained on
    or shown. One given as 0 becomes 1: nothing dreamed is known to be behind it."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """Named scores in [0, 1], higher is better: `consistency`, `certainty`, `agreement` (`records.quality`), or a
    judge's (`judge.causality`). What was not looked at has no score."""

    def __post_init__(self) -> None:
        if self.generation < 0 or (self.source == "real" and self.generation):
            raise RecordError("generation", f"is {self.generation}, but the episode is {self.source}")
        if self.source == "dreamed" and not self.generation:
            object.__setattr__(self, "generation", 1)
        for name, score in self.quality.items():
            if not 0 <= score <= 1:
                raise RecordError(f"quality.{name}", f"is {score}: a score is a number from 0 to 1")

    @property
    def total_reward(self) -> float:
        """Undiscounted return."""
        return float(sum(transition.reward for transition in self.transitions))

    @property
    def disagreements(self) -> int:
        """Steps on which verifier and experience model disagree, corrected ones included."""
        return sum(step.trust is not None and step.trust.disagrees(step.outcome) for step in self.transitions)


def episode_id(run: str, task_key: str, repeat: int) -> str:
    """The id of an episode: 20 hexadecimal digits, the same for the same run, task and repeat."""
    return hashlib.blake2b(f"{run}\0{task_key}\0{repeat}".encode(), digest_size=10).hexdigest()
