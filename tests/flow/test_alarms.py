"""Every alarm: a history that rings it, and near ones that do not."""

from __future__ import annotations

from typing import Any

import pytest

from dreamsim.flow.alarms import CHECKS, alarms
from dreamsim.records.training import Line

QUIET: dict[str, Any] = {
    "version": 1,
    "updates": 1,
    "episodes": 32,
    "episodes_failed": 0,
    "groups_real": 0,
    "groups_dreamed": 4,
    "groups_not_viable": 0,
    "success_dreamed": 0.5,
    "return_dreamed": 0.5,
    "informative_share": 0.5,
    "entropy": 1.0,
    "kl_reference": 0.01,
    "kl_step": 0.0,
    "logprob_difference": 0.01,
    "staleness": 0,
    "skipped_updates": 0,
    "waited_s": 9.0,
    "worked_s": 1.0,
    "delivered_s": 0.1,
    "evaluation_success": None,
    "evaluation_low": None,
}


def run(*changes: dict[str, Any], before: int = 4) -> list[Line]:
    """Quiet updates, then one for each of `changes`."""
    return [QUIET] * before + [{**QUIET, **change} for change in changes]


def evaluated(success: float, dreamed: float) -> dict[str, Any]:
    return {"evaluation_success": success, "evaluation_low": success - 0.1, "success_dreamed": dreamed}


def names(history: list[Line]) -> list[str]:
    return [alarm.name for alarm in alarms(history)]


RINGING = {
    "reward hacking": run(evaluated(0.4, 0.5), *[evaluated(0.29, 0.6)] * 3),
    "entropy collapse": run(*[{"entropy": 0.09}] * 3),
    "KL blow-up": run(*[{"kl_reference": 0.51}] * 3),
    "gradient not finite": run({"skipped_updates": 1}),
    "no variance": run(*[{"informative_share": 0.0}] * 3),
    "trainer starving": run(*[{"waited_s": 100.0}] * 3),
    "failing episodes": run(*[{"episodes": 20, "episodes_failed": 12}] * 3),
    "engine and trainer disagree": run(*[{"logprob_difference": 0.06}] * 3),
}


@pytest.mark.parametrize("name", RINGING)
def test_it_rings_alone_and_says_what_to_do(name: str) -> None:
    (alarm,) = alarms(RINGING[name])
    assert alarm.name == name
    assert alarm.seen
    assert alarm.advice


def test_every_check_has_a_history_that_rings_it() -> None:
    assert len(RINGING) == len(CHECKS)


@pytest.mark.parametrize(
    "history",
    [
        [],
        run(before=1),
        run(),
        run(evaluated(0.4, 0.5), *[evaluated(0.31, 0.7)] * 3),  # within the interval: chance
        run(evaluated(0.4, 0.5), *[evaluated(0.2, 0.5)] * 3),  # both fall: not the dream's kindness
        run(evaluated(0.4, 0.5), *[evaluated(0.6, 0.9)] * 3),
        run(*[{"entropy": 0.11}] * 3),
        run({"entropy": 0.0, "updates": 0}),  # nothing was learned, so nothing is known
        run(*[{"kl_reference": None, "kl_step": None}] * 3),
        run(*[{"informative_share": 0.0}] * 2),
        run({"skipped_updates": 1}, *[{}] * 3),  # long ago
        run(*[{"waited_s": 50.0}] * 3),
        run(*[{"episodes_failed": 13}] * 3),
        run(*[{"logprob_difference": 0.06, "staleness": 1}] * 3),  # older weights: that is what they differ by
        run(*[{"logprob_difference": 0.9, "staleness": 2}] * 3),  # two updates may move the policy that far
        run(*[{"logprob_difference": 0.6, "logprob_difference_fresh": 0.01, "staleness": 1}] * 3),
        run(*[{"informative_share": 0.0, "teaching_share": 0.1}] * 3),  # steps from the same state differ
    ],
)
def test_it_stays_quiet(history: list[Line]) -> None:
    assert names(history) == []


def test_a_fall_below_what_the_policy_began_with_is_seen_too() -> None:
    start = {"evaluation_success": 0.4, "evaluation_low": 0.3}
    history = [start, *run(*[evaluated(0.2, 0.9)] * 3)]
    assert names(history) == ["reward hacking"]


def test_most_groups_lost_starves_a_trainer_that_is_busy() -> None:
    assert names(run(*[{"groups_not_viable": 3, "waited_s": 0.0}] * 3)) == ["trainer starving"]


def test_steps_that_are_all_skipped_are_told_although_nothing_was_learned() -> None:
    (alarm,) = alarms(run({"skipped_updates": 4, "updates": 0}))
    assert alarm.name == "gradient not finite"
    assert "4 of 6 optimizer steps" in alarm.seen


LATE = [
    {"logprob_difference": 0.3, "logprob_difference_fresh": 0.06, "staleness": 1},
    {"logprob_difference": 0.51, "logprob_difference_fresh": None, "staleness": 1},
    {"logprob_difference": 0.96, "logprob_difference_fresh": None, "staleness": 2},
]


@pytest.mark.parametrize("line", LATE)
def test_disagreement_is_seen_where_what_is_learned_from_is_older_too(line: dict[str, Any]) -> None:
    assert names(run(*[line] * 3)) == ["engine and trainer disagree"]


def test_no_variance_is_of_steps_too_where_they_are_compared() -> None:
    assert names(run(*[{"informative_share": 0.0, "teaching_share": 0.0}] * 3)) == ["no variance"]


def test_advice_depends_on_whether_everything_or_nothing_is_solved() -> None:
    (solved,) = alarms(run(*[{"informative_share": 0.0, "return_dreamed": 1.0}] * 3))
    (failed,) = alarms(run(*[{"informative_share": 0.0, "return_dreamed": 0.0}] * 3))
    assert "harder" in solved.advice
    assert "easier" in failed.advice
