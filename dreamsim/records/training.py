"""One update of a training, in numbers: what its metrics file says beside `UpdateMetrics`.

In: the training loop. Out: `TrainingStep`, and the flat line that is written for it.
Always: every number has its formula beside it (docs/training.md is checked against these texts); real and dreamed are
counted apart; a number that does not exist is None, not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

from dreamsim.records.learning import UpdateMetrics

Number: TypeAlias = int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """One update and what led to it."""

    update: int
    """Updates so far, this one included; it is the version of the weights. 0 is before training."""
    elapsed_s: float
    """Wall time of the training so far, all sittings, seconds."""
    real_share: float
    """Share of groups that the schedule wants real at this update."""
    groups_real: int
    """Groups of this update that were played in the real environment."""
    groups_dreamed: int
    """Groups of this update that were dreamed."""
    groups_not_viable: int
    """Of these, groups with too few episodes to learn from, which are left out."""
    episodes_failed: int
    """Episodes of these groups that ended in an error; they are in no mean."""
    success_real: float | None
    """Solved / played real training episodes of this update."""
    success_dreamed: float | None
    """Solved / played dreamed training episodes of this update, by what the dream says."""
    return_real: float | None
    """Mean undiscounted return of the real training episodes of this update."""
    return_dreamed: float | None
    """Mean undiscounted return of the dreamed training episodes of this update."""
    length_real: float | None
    """Mean steps of the real training episodes of this update."""
    length_dreamed: float | None
    """Mean steps of the dreamed training episodes of this update."""
    total_real_transitions: int
    """Transitions of all real training episodes so far, failed and late ones and failed tries included: the budget is
    of these."""
    total_dreamed_transitions: int
    """Transitions of all dreamed training episodes so far, failed and late ones and failed tries included."""
    total_evaluation_transitions: int
    """Real transitions of all evaluations so far: not learned from, and not in the budget."""
    total_episodes: int
    """Training episodes so far."""
    waited_s: float
    """Time the trainer waited for the groups of this update, seconds."""
    worked_s: float
    """Time it took to lay them out and learn from them, seconds."""
    delivered_s: float
    """Time it took to publish the weights and have the engines load them, seconds."""
    evaluated_s: float
    """Time of the evaluation after this update, seconds; 0 without one."""
    engine_idle_s: float
    """Time since the last update in which no training episode was being played, evaluations left out, seconds."""
    evaluation_success: float | None
    """Solved / played held-out real games after this update; None without an evaluation."""
    evaluation_low: float | None
    """Lower end of its 95 % interval."""
    evaluation_high: float | None
    """Upper end."""
    evaluation_return: float | None
    """Mean undiscounted return of these games."""
    evaluation_length: float | None
    """Mean steps of these games."""
    best_success: float | None
    """Best `evaluation_success` so far: that of the weights kept as best."""
    best_update: int | None
    """The update it was measured after."""
    curriculum_synthetic_share: float | None
    """Groups of written tasks / groups, so far; None without a curriculum, here and below."""
    curriculum_competence: float | None
    """Mean success of groups of real tasks not chosen for their value, over the last `curriculum.memory`."""
    curriculum_target: float | None
    """Success aimed at: target_first - (target_first - target_last) * competence."""
    curriculum_value_mean: float | None
    """Mean of V, the variance of a group's returns, over all tasks (or clusters) that have a result."""
    curriculum_written_feasible: float | None
    """Written tasks that somebody has solved."""
    alarms: int = 0
    """Alarms that ring after this update; `alarms.jsonl` says which began when."""

    def line(self, metrics: UpdateMetrics | None) -> dict[str, Number]:
        """As it is written: these numbers, then those of `UpdateMetrics` (before the first update there are none)."""
        return {**asdict(self), **({} if metrics is None else asdict(metrics))}


Line: TypeAlias = Mapping[str, Number]
"""One line of a metrics file."""
