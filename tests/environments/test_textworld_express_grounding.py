"""Doubtful steps of a dream are answered by the real TextWorldExpress, also when only settings ask for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.cli.trust import open_checks
from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.errors import UncertaintyError
from dreamsim.evaluation.returns import play
from dreamsim.experience.checks import Checks
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.format import answer_segment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.uncertainty import Gate, GateCalibration
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.task import Task
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.runtime.telemetry import Telemetry
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.games import GameSpec
from dreamsim_adapters.environments.textworld_express.policies import offline_policy

pytestmark = pytest.mark.anyio
ALWAYS = GateCalibration(features=("mean_logprob",), mean=(0.0,), scale=(1.0,), weight=(0.0,), bias=5.0)
"""Finds everything doubtful."""


def nonsense(request: GenerationRequest) -> str:
    """Whatever is done, a dragon comes."""
    return answer_segment(reasoning="so it is", changed=["dragon: here"], reward=0, outcome="running")


def liar(checks: Checks) -> ExperienceModel:
    tokenizer = ByteTokenizer()
    return ExperienceModel(ScriptedEngine(nonsense, tokenizer), tokenizer, ExperienceSettings(), checks=checks)


async def tasks_of(real: TextWorldExpressEnvironment) -> list[Task]:
    mix = [GameSpec(game="coin", parameters={"numLocations": 2}), GameSpec(game="twc"), GameSpec(game="cookingworld")]
    return await real.tasks(mix, fold="dev", count=3, first=40)


async def test_every_doubtful_step_is_the_real_one(textworld: TextWorldExpressEnvironment) -> None:
    checks = Checks(gate=Gate(mode="real", calibration=ALWAYS), reality=textworld)
    for task in await tasks_of(textworld):
        path = await textworld.gold_path(task)
        async with (
            textworld.session(task, episode_id="real", seed=0) as reality,
            DreamEnvironment(liar(checks)).session(task, episode_id="dreamed", seed=0) as dream,
        ):
            outcomes = []
            for action in path:
                real, dreamed = await reality.step(action), await dream.step(action)
                assert dreamed.state.same_as(real.state)
                assert (dreamed.outcome, dreamed.reward) == (real.outcome, real.reward)
                assert dreamed.trust is not None
                assert dreamed.trust.grounded
                outcomes.append(dreamed.outcome)
            assert outcomes[-1] == "success"


async def test_reality_refuses_what_it_does_not_know(textworld: TextWorldExpressEnvironment) -> None:
    """A dream that is believed once goes on where the real task was over."""
    (task, *_) = await tasks_of(textworld)
    path = await textworld.gold_path(task)
    believed = Checks(gate=Gate(mode="flag", calibration=ALWAYS), reality=textworld)
    dream = await liar(believed).dream(task, episode_id="e", seed=0)
    for action in path:
        await dream.step(action)
    dream._model._checks = Checks(gate=Gate(mode="real", calibration=ALWAYS), reality=textworld)
    with pytest.raises(UncertaintyError, match="the task ended with success"):
        await dream.step("look around")


@pytest.fixture
def gate_file(tmp_path: Path) -> str:
    ALWAYS.save(tmp_path / "gate.json")
    return str(tmp_path / "gate.json")


async def test_settings_are_enough_to_hand_doubtful_steps_to_reality(
    textworld: TextWorldExpressEnvironment, gate_file: str
) -> None:
    asked = ("--experience.gate.mode", "real", "--experience.gate.calibration", gate_file)
    settings = load_settings(parse_arguments((*asked, "--tasks.environment", "textworld_express/coin")), {})
    telemetry = Telemetry()
    tasks = await tasks_of(textworld)
    async with open_checks(settings, telemetry) as checks:
        gold = offline_policy("gold", textworld)
        episodes = await play(DreamEnvironment(liar(checks)), gold, tasks, run="r", max_steps=50, seed=0)
    assert [episode.outcome for episode in episodes] == ["success"] * 3
    assert [episode.source for episode in episodes] == ["dreamed"] * 3
    steps = [transition for episode in episodes for transition in episode.transitions]
    assert all(step.trust is not None and step.trust.grounded for step in steps)
    assert telemetry.counters["gate_grounded"] == len(steps)
