"""Trainings in which trainer, environment and store fail now and then: what is learned is what would have been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dreamsim.errors import DreamsimError
from dreamsim.flow.failures import FailurePolicy
from dreamsim.records.training import Line
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import open_store
from dreamsim.testing import Fault, FaultSchedule, FaultyEnvironment
from dreamsim.testing.environment import ScriptedEnvironment
from dreamsim.testing.faulty_trainer import TRAINER_FAULTS, FaultyTrainer
from dreamsim.training.loop import Training
from tests.training.worlds import SETTINGS, RememberingTrainer, numbers, parts, train, without_times

pytestmark = pytest.mark.anyio
STEPS = replace(SETTINGS, steps=8, evaluate_every=4)
MOST_SITTINGS = 200
AROUND: Mapping[Fault, float] = {"error": 0.01, "bug": 0.01, "disconnect": 0.01, "foreign": 0.01, "slow": 0.01}


async def sitting(directory: Path, seed: int, world: Mapping[Fault, float]) -> tuple[list[Line], RememberingTrainer]:
    """One sitting, with a trainer that fails in one call of eight and an environment by `world`."""
    trainer = RememberingTrainer()
    schedule = FaultSchedule(seed, dict.fromkeys(TRAINER_FAULTS, 0.03), slow_s=0.001)
    around = FaultSchedule(seed, world, slow_s=0.001)
    async with open_store(directory / "store.sqlite", encoder=None) as store:
        made = parts(store, trainer, evaluate=False)
        environments = {
            source: FaultyEnvironment(ScriptedEnvironment(source=source), around) for source in made.environments
        }
        made = replace(made, trainer=FaultyTrainer(trainer, schedule), environments=environments)
        settings = replace(STEPS, failures=FailurePolicy(on_failure="retry", retries=20))
        return await Training(made, settings, directory=directory).run(), trainer


@pytest.mark.parametrize("world", [{}, AROUND], ids=["trainer", "trainer and environment"])
@pytest.mark.parametrize("seed", range(3))
async def test_a_training_that_fails_and_is_gone_on_with_loses_nothing(
    tmp_path: Path, seed: int, world: Mapping[Fault, float]
) -> None:
    whole, other = await train(tmp_path / "whole", STEPS, evaluate=False)
    cut = tmp_path / "cut"
    for failures in range(MOST_SITTINGS):
        try:
            history, trainer = await sitting(cut, 1000 * seed + failures, world)
            break
        except DreamsimError:
            continue
    else:
        pytest.fail("it never ends")
    assert failures
    assert numbers(history, "update") == numbers(whole, "update")
    async with open_store(cut / "store.sqlite", encoder=None, read_only=True) as store:
        found = [(one.task.key, one.repeat) async for one in store.episodes(EpisodeFilter(run="t"))]
    assert len(found) == len(set(found)) == 8 * 2 * 3
    if not world:  # another try has other draws
        assert trainer.weights == other.weights
        assert without_times(history) == without_times(whole)
