"""The run-time checks of a run, as the settings ask for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dreamsim.cli import trust
from dreamsim.cli.checks import check_settings
from dreamsim.cli.ledgers import ledger_for
from dreamsim.cli.trust import open_checks
from dreamsim.errors import ConfigurationError
from dreamsim.experience.checks import Checks
from dreamsim.experience.uncertainty import GateCalibration
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.testing.environment import ScriptedEnvironment

pytestmark = pytest.mark.anyio
RULES = """
[[rule]]
name = "egg"
[rule.success]
state = ["egg: held"]
"""


def settings_of(*arguments: str) -> Settings:
    return load_settings(parse_arguments(arguments), {})


async def checks_of(*arguments: str) -> Checks:
    async with open_checks(settings_of(*arguments), Telemetry()) as checks:
        return checks


def calibration(path: Path, *features: str) -> str:
    numbers = (0.5,) * len(features)
    GateCalibration(features=features, mean=numbers, scale=numbers, weight=numbers, bias=0.0).save(path / "gate.json")
    return str(path / "gate.json")


@pytest.fixture
def gate_file(tmp_path: Path) -> str:
    return calibration(tmp_path, "mean_logprob")


async def test_a_run_without_settings_checks_verifies_and_caches_but_has_no_gate() -> None:
    checks = await checks_of()
    assert checks.ledgers is not None
    assert (checks.on_contradiction, checks.on_disagreement, checks.verify) == ("resample", "trust", "every")
    assert checks.verifiers is not None
    assert checks.cache is not None
    assert checks.gate is None


async def test_all_of_it_can_be_switched_off() -> None:
    checks = await checks_of(
        "--experience.check.mode", "off", "--experience.verify.by", "none", "--no-experience.cache.enabled"
    )
    assert not checks.any


async def test_a_ledger_that_only_verifies_is_kept_all_the_same() -> None:
    checks = await checks_of("--experience.check.mode", "off")
    assert checks.ledgers is not None
    assert checks.on_contradiction == "off"


async def test_what_is_counted_is_counted_in_the_run() -> None:
    telemetry = Telemetry()
    async with open_checks(settings_of(), telemetry) as checks:
        checks.count.first(())
    assert telemetry.counters["consistency_first"] == 1


async def test_verifiers_are_asked_in_their_order_by_the_ledger_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(RULES)
    checks = await checks_of(
        "--experience.verify.by", "rules,ledger", "--experience.verify.rules", str(tmp_path / "my.toml")
    )
    assert checks.verifiers is not None
    verifier = checks.verifiers("somewhere/else")
    assert verifier is not None
    assert verifier.name.startswith("rules:my")
    assert verifier.name.endswith("ledger:" + ledger_for("somewhere/else").name)


async def test_the_gate_gets_its_calibration(gate_file: str) -> None:
    checks = await checks_of(
        *("--experience.gate.mode", "truncate", "--experience.gate.threshold", "0.25"),
        *("--experience.gate.calibration", gate_file),
    )
    assert checks.gate is not None
    assert (checks.gate.mode, checks.gate.threshold) == ("truncate", 0.25)


async def test_the_real_environment_is_attached_where_the_gate_asks_it(
    gate_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = ScriptedEnvironment()

    @asynccontextmanager
    async def opened(environment: str) -> AsyncIterator[ScriptedEnvironment]:
        yield house

    monkeypatch.setattr(trust, "_reality", opened)
    gate = ("--experience.gate.mode", "real", "--experience.gate.calibration", gate_file)
    assert (await checks_of(*gate)).reality is house


def test_a_real_environment_that_nobody_has_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"no real environment for 'shop'.*resample or truncate"):
        trust.check_reality("shop")


@pytest.mark.parametrize(
    ("features", "arguments", "said"),
    [
        (("agreement",), ("--experience.gate.mode", "truncate"), "experience.gate.samples"),
        (("similarity",), ("--experience.gate.mode", "real", "--tasks.environment", "shop"), "no real environment"),
        (("similarity",), ("--experience.verify.by", "rules", "--experience.verify.rules", "/no/file.toml"), "file"),
    ],
)
def test_what_a_check_lacks_is_found_before_the_run(
    tmp_path: Path, features: tuple[str, ...], arguments: tuple[str, ...], said: str
) -> None:
    gate = ("--experience.gate.calibration", calibration(tmp_path, *features))
    found = [check for check in check_settings(settings_of(*gate, *arguments)) if check.name == "trust"]
    assert [check.good for check in found] == [False]
    assert said in found[0].text


def test_a_dry_run_says_what_is_checked() -> None:
    (found,) = (check for check in check_settings(settings_of()) if check.name == "trust")
    assert found.text == "ledger resample, verified by ledger, gate off, transition cache on"
