"""What may not be learned from is refused before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dreamsim.errors import ConfigurationError
from dreamsim.experience.prompt import PromptLayout
from dreamsim.records.episode import Episode
from dreamsim.store.encoders import encoder_from_name
from dreamsim.testing.world import scripted_task
from dreamsim_trainers.causal_lm import TrainSettings
from dreamsim_trainers.experience_model import ExperienceTraining, train_experience_model
from dreamsim_trainers.policy import PolicyTraining, train_policy
from tests.trainers.played import played, several

GOOD = several(2)
HELD_OUT = several(1, fold="test")
EVALUATION = [replace(GOOD[0], purpose="evaluation")]
FAILED = [played(scripted_task(0), ["eat the moon"])]
SILENT = [replace(GOOD[0], transitions=tuple(replace(step, reasoning="") for step in GOOD[0].transitions))]

Learn = Callable[[list[Episode], Path], object]


def clone(episodes: list[Episode], output: Path) -> object:
    return train_policy(episodes, PolicyTraining(train=TrainSettings(output=output, steps=1)))


def dream(episodes: list[Episode], output: Path) -> object:
    wanted = ExperienceTraining(train=TrainSettings(output=output, steps=1), layout=PromptLayout(retrieve="off"))
    return train_experience_model(episodes, [], encoder_from_name("lexical"), wanted)


def dream_of(pool: list[Episode], output: Path) -> object:
    wanted = ExperienceTraining(train=TrainSettings(output=output, steps=1))
    return train_experience_model(GOOD, pool, encoder_from_name("lexical"), wanted)


@pytest.mark.parametrize("learn", [clone, dream, dream_of])
@pytest.mark.parametrize(
    ("episodes", "reason"),
    [(GOOD + HELD_OUT, "fold 'test'"), (GOOD + EVALUATION, "for evaluation")],
    ids=["held out", "evaluation"],
)
def test_held_out_and_evaluation_episodes(learn: Learn, episodes: list[Episode], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=reason) as refused:
        learn(episodes, tmp_path / "out")
    assert episodes[-1].id in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_policy_without_successes_to_imitate(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no successful episode"):
        clone(FAILED, tmp_path / "out")


def test_an_experience_model_without_reasoning_to_learn(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="dreamsim annotate"):
        dream(SILENT, tmp_path / "out")


def test_an_experience_model_without_episodes(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no episodes"):
        dream([], tmp_path / "out")
