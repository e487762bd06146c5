"""An experience: one stored step with what is needed to show it as a demonstration.

In: rows of the store. Out: `Experience`, what a retriever returns.
Always: an experience knows its episode and task, so that a caller can exclude what it must not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamsim.records.balance import NO_BALANCE, Balance
from dreamsim.records.episode import Purpose, Source, StepOutcome
from dreamsim.records.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """One step of a stored episode, as a demonstration."""

    id: str
    """`episode id:step index`."""
    episode_id: str
    """The episode it belongs to."""
    task_key: str
    """The task of that episode."""
    environment: str
    """As in `Task.environment`."""
    fold: str
    """As in `Task.fold`."""
    source: Source
    """Real or dreamed."""
    instruction: str
    """The task's instruction."""
    state: tuple[str, ...]
    """Lines of the state before the action."""
    action: str
    """The action."""
    changes: tuple[str, ...]
    """Lines that changed (`records.state.changes`)."""
    next_state: tuple[str, ...]
    """Lines of the state after the action."""
    reasoning: str
    """Why; may be empty."""
    reward: float
    """Reward of the step."""
    outcome: StepOutcome
    """Outcome of the step."""
    generation: int = 0
    """As in `Episode.generation`."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """The episode's scores, as in `Episode.quality`."""
    policy: str = ""
    """Name and version of the policy that acted."""
    experience_model: str = ""
    """Name and version of the experience model that dreamed the step; empty for real ones."""
    trust: Trust | None = None
    """What the run-time checks found of this step."""
    similarity: float = 0.0
    """Cosine similarity with the query that found it, in [-1, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperienceQuery:
    """What to look for, and what must not be found."""

    state: tuple[str, ...]
    """Lines of the present state."""
    action: str
    """The action about to be taken."""
    k: int
    """How many to return at most."""
    environment: str | None = None
    """Only of this environment; None is any."""
    sources: tuple[Source, ...] = ("real",)
    """Only of these sources."""
    folds: tuple[str, ...] = ("train",)
    """Only of tasks of these folds."""
    purposes: tuple[Purpose, ...] = ("experience", "training")
    """Never `evaluation`."""
    exclude_task: str | None = None
    """Nothing of this task (and so nothing of its own trajectory)."""
    exclude_tasks: frozenset[str] = frozenset()
    """Nothing of these tasks either, such as held-out ones."""
    exclude_folds: frozenset[str] = frozenset()
    """Nothing of tasks of these folds, whatever `folds` says."""
    exclude_episode: str | None = None
    """Nothing of the episode with this id, where its task as a whole is not excluded. A text that it shares with
    other episodes of its task may be left out too."""
    balance: Balance = NO_BALANCE
    """What is preferred among the similar; by default nothing."""


def embedding_text(state: tuple[str, ...], action: str) -> str:
    """The text whose embedding is the retrieval key phi(s, a): the action first, then the state's lines."""
    return action + "\n" + "\n".join(state)
