"""How many failures a run may have, as it is written and as it is meant."""

from __future__ import annotations

import pytest

from dreamsim.errors import ConfigurationError
from dreamsim.runtime.failure_settings import allowance_text, allowed_failures
from dreamsim.runtime.settings_sources import load_settings, parse_arguments


def given(*arguments: str) -> float:
    return load_settings(parse_arguments(list(arguments)), {}).run.max_failures


@pytest.mark.parametrize(
    ("written", "allowed"), [("0.15", 15), ("15%", 15), ("20", 20), ("1", 1), ("1.0", 100), ("0", 0), ("0.0", 0)]
)
def test_a_decimal_point_makes_a_share_and_a_whole_number_a_count(written: str, allowed: int) -> None:
    assert allowed_failures(given("--max_failures", written), 100) == allowed


@pytest.mark.parametrize(("written", "said"), [("1.5", "is a share"), ("-1", "negative"), ("many", "max_failures")])
def test_what_is_neither_is_refused_with_its_name(written: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        given(f"--max_failures={written}")


def test_a_share_of_episodes_is_rounded_down_but_not_by_floating_point() -> None:
    assert [allowed_failures(0.1, n) for n in (9, 10, 30)] == [0, 1, 3]


def test_it_reads_as_it_is_meant() -> None:
    assert [allowance_text(one) for one in (0.15, 1, 20)] == ["15.0% of the episodes", "1 episode", "20 episodes"]


@pytest.mark.parametrize("extra", [["--on_failure", "retry", "--retries", "0"], ["--on_failure", "again"]])
def test_a_policy_that_cannot_be_is_refused(extra: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"retries|on_failure"):
        given(*extra)


@pytest.mark.parametrize(
    ("extra", "said"),
    [(["--train.minimum_group", "17"], "no group could ever"), (["--train.minimum_group", "1"], "at least 2 for grpo")],
)
def test_a_group_that_could_never_be_learned_from_is_refused(extra: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        given(*extra)
