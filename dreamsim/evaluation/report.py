"""From step records to figures: how often outputs parse, and how often they are true.

In: `StepRecord`s. Out: `FidelityReport`, each figure with its 95 % interval by episode.
Always: a step that could not be foretold is neither exact nor done; figures of nothing have no value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dreamsim.evaluation.fidelity import StepRecord
from dreamsim.evaluation.intervals import NOTHING, Estimate, bootstrap, f1, share

Test = Callable[[StepRecord], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityReport:
    """The figures of one foreteller."""

    parse_first: Estimate
    """Steps whose first output was a transition."""
    parse_resampled: Estimate
    """Steps with a transition within the allowed samples."""
    exact: Estimate
    """Steps whose state was foretold exactly."""
    determined_exact: Estimate
    """The same among steps whose next state the history decides."""
    done_f1: Estimate
    """F1 of foretelling that a step ends the task."""
    success_f1: Estimate
    """F1 of foretelling that a step solves the task."""
    failure_shown: Estimate
    """Real failures foretold as such: the failure line, nothing else changed, no reward."""
    false_failure: Estimate
    """Actions that worked, foretold as failures."""
    determined: Estimate
    """Steps whose next state the history decides."""
    exact_by_verb: Mapping[str, Estimate]
    """Verb -> `determined_exact` of its steps."""
    exact_by_environment: Mapping[str, Estimate]
    """Environment -> `determined_exact` of its steps."""


def fidelity_report(records: Sequence[StepRecord], *, seed: int = 0) -> FidelityReport:
    """The figures of `records`; `seed` is that of the bootstrap."""
    decided = [record for record in records if record.determined]
    return FidelityReport(
        parse_first=_share(records, lambda r: r.samples == 1),
        parse_resampled=_share(records, lambda r: r.samples > 0),
        exact=_share(records, lambda r: r.exact),
        determined_exact=_share(decided, lambda r: r.exact),
        done_f1=_f1(
            records, lambda r: r.outcome != "running", lambda r: r.foretold_outcome in ("success", "failure"), seed=seed
        ),
        success_f1=_f1(records, lambda r: r.outcome == "success", lambda r: r.foretold_outcome == "success", seed=seed),
        failure_shown=_share([r for r in records if r.failure], lambda r: r.failure_shown),
        false_failure=_share([r for r in records if not r.failure], lambda r: r.failure_shown),
        determined=_share(records, lambda r: r.determined),
        exact_by_verb=_by(decided, lambda r: r.verb),
        exact_by_environment=_by(decided, lambda r: r.environment),
    )


def _by(records: Iterable[StepRecord], key: Callable[[StepRecord], str]) -> dict[str, Estimate]:
    groups: dict[str, list[StepRecord]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    most_first = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {name: _share(group, lambda r: r.exact) for name, group in most_first}


def _share(records: Iterable[StepRecord], test: Test) -> Estimate:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        counts[record.episode_id][0] += test(record)
        counts[record.episode_id][1] += 1
    return share([k for k, _ in counts.values()], [n for _, n in counts.values()])


def _f1(records: Iterable[StepRecord], true: Test, foretold: Test, *, seed: int) -> Estimate:
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for record in records:
        is_true, is_foretold = true(record), foretold(record)
        counts[record.episode_id][0] += is_true and is_foretold
        counts[record.episode_id][1] += is_foretold and not is_true
        counts[record.episode_id][2] += is_true and not is_foretold
    if not counts:
        return NOTHING
    return bootstrap(np.array(list(counts.values())), f1, seed=seed)
