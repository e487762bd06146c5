"""The line of metrics of one update.

In: progress, figures of the round, an evaluation, times, figures of the curriculum. Out: a `TrainingStep`. Always: what
was not measured is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from dreamsim.evaluation.success import PolicyReport
from dreamsim.flow.rounds import RoundFigures
from dreamsim.records.training import TrainingStep
from dreamsim.training.parts import Progress


def training_step(
    progress: Progress,
    figures: RoundFigures,
    report: PolicyReport | None,
    times: Mapping[str, float],
    curriculum: Mapping[str, float],
    *,
    real_share: Fraction,
    elapsed_s: float,
) -> TrainingStep:
    """What is told after an update.

    Args:
        progress: with the update.
        figures: of the round that it learned from.
        report: the evaluation after it, if there was one.
        times: seconds by the name of the field; those that are left out are 0.
        curriculum: what the source of tasks does (`curriculum.figures`), as far as it tells.
        real_share: what the schedule wants at this update.
        elapsed_s: wall time of the training so far, seconds.
    """
    found = None if report is None else report.overall
    return TrainingStep(
        update=progress.updates,
        elapsed_s=elapsed_s,
        real_share=float(real_share),
        **figures.numbers(),
        total_real_transitions=progress.totals["real"],
        total_dreamed_transitions=progress.totals["dreamed"],
        total_evaluation_transitions=progress.totals["evaluation"],
        total_episodes=progress.totals["episodes"],
        waited_s=times.get("waited_s", 0.0),
        worked_s=times.get("worked_s", 0.0),
        delivered_s=times.get("delivered_s", 0.0),
        evaluated_s=times.get("evaluated_s", 0.0),
        engine_idle_s=times.get("engine_idle_s", 0.0),
        evaluation_success=None if found is None else found.success.value,
        evaluation_low=None if found is None else found.success.low,
        evaluation_high=None if found is None else found.success.high,
        evaluation_return=None if found is None else found.mean_return.value,
        evaluation_length=None if found is None else found.length.value,
        best_success=progress.best_success,
        best_update=progress.best_update,
        curriculum_synthetic_share=curriculum.get("synthetic_share"),
        curriculum_competence=curriculum.get("competence"),
        curriculum_target=curriculum.get("target"),
        curriculum_value_mean=curriculum.get("value_mean"),
        curriculum_written_feasible=curriculum.get("written_feasible"),
    )
