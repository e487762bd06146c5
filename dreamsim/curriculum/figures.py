"""What a curriculum does, in numbers, for metrics.

In: a curriculum. Out: named numbers.

    name                    formula
    groups                  groups given
    synthetic_share         groups of written tasks / groups
    chosen_<why>            groups whose task was chosen for that / groups
    competence              mean success of groups of real tasks not chosen for their value, over the last `memory`
    target                  success aimed at: target_first - (target_first - target_last) * competence
    value_mean              mean of V over all cells that have a result
    written_<standing>      written tasks that are now candidate, feasible or retired
    written_depth_mean      mean generations from a real task to a feasible written one; 0 without any
    refused_<reason>        answers of the writer that were not let through, by the first word of the reason
"""

from __future__ import annotations

from collections import Counter
from typing import get_args

from dreamsim.curriculum.choice import Why
from dreamsim.curriculum.source import Curriculum
from dreamsim.curriculum.written import Standing


def curriculum_figures(curriculum: Curriculum) -> dict[str, float]:
    """All of them, as they are now."""
    groups = max(1, curriculum.planned)
    written = curriculum.written
    standings = Counter(one.standing for one in written)
    depths = [one.task.lineage.depth for one in written if one.standing == "feasible" and one.task.lineage is not None]
    values = [one.value for one in curriculum.results.values()]
    refused: Counter[str] = Counter()
    for reason, count in curriculum.refused.items():
        refused[reason.partition(":")[0]] += count
    return {
        "groups": curriculum.planned,
        "synthetic_share": curriculum.synthetic / groups,
        **{f"chosen_{why}": curriculum.chosen[why] / groups for why in get_args(Why)},
        "competence": curriculum.competence,
        "target": curriculum.target,
        "value_mean": sum(values) / max(1, len(values)),
        **{f"written_{standing}": standings[standing] for standing in get_args(Standing)},
        "written_depth_mean": sum(depths) / max(1, len(depths)),
        **{f"refused_{reason}": count for reason, count in sorted(refused.items())},
    }
