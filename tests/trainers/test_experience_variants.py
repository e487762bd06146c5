"""What an experience model is trained on: every episode as often as asked for, in other words each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.experience.prompt import PromptLayout
from dreamsim.store.encoders import encoder_from_name
from dreamsim_trainers.causal_lm import TrainSettings
from dreamsim_trainers.experience_model import (
    ExperienceTraining,
    build_tokenizer,
    train_experience_model,
    training_samples,
)
from tests.trainers.played import numbered


def wanted(output: Path, *, variants: int, share: float, seed: int = 0) -> ExperienceTraining:
    train = TrainSettings(output=output, steps=1, seed=seed)
    layout = PromptLayout(retrieve="off")
    return ExperienceTraining(train=train, layout=layout, variants=variants, renumber_share=share)


def said(output: Path, *, variants: int, share: float, seed: int = 0) -> list[str]:
    """Every sample of one episode with numbered things, in words."""
    build_tokenizer([numbered()], output)
    tokenizer = load_tokenizer(str(output))
    made = training_samples([numbered()], None, tokenizer, wanted(output, variants=variants, share=share, seed=seed))
    return [tokenizer.decode(sample.input_ids) for sample in made]


def test_every_variant_has_numbers_of_its_own(tmp_path: Path) -> None:
    assert len(set(said(tmp_path, variants=12, share=1.0))) > 4


def test_without_shuffling_all_variants_are_the_episode_itself(tmp_path: Path) -> None:
    made = said(tmp_path, variants=3, share=0.0)
    assert len(made) == 3
    assert len(set(made)) == 1


def test_the_same_seed_gives_the_same_variants_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (said(tmp_path, variants=8, share=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("variants", "share"), [(0, 0.5), (1, 1.5)])
def test_impossible_numbers_are_refused(tmp_path: Path, variants: int, share: float) -> None:
    with pytest.raises(ConfigurationError, match="variants"):
        train_experience_model(
            [numbered()], [], encoder_from_name("lexical"), wanted(tmp_path, variants=variants, share=share)
        )
