"""The same demonstrations under other names: what a policy is cloned from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.errors import ConfigurationError
from dreamsim_trainers.causal_lm import TrainSettings
from dreamsim_trainers.policy import PolicyTraining, varied
from tests.trainers.played import several


def wanted(*, variants: int, share: float, keep: tuple[str, ...] = (), seed: int = 0) -> PolicyTraining:
    train = TrainSettings(output=Path("unused"), steps=1, seed=seed)
    return PolicyTraining(train=train, variants=variants, rename_share=share, rename_keep=keep)


def test_without_renaming_every_variant_is_the_episode_itself() -> None:
    episodes = several(3)
    assert list(varied(episodes, wanted(variants=2, share=0.0))) == [*episodes, *episodes]


def test_every_variant_has_its_own_names_and_the_same_length() -> None:
    episodes = several(4)
    made = list(varied(episodes, wanted(variants=3, share=1.0)))
    assert [len(one.transitions) for one in made] == 3 * [len(one.transitions) for one in episodes]
    for place, episode in enumerate(episodes):
        actions = {tuple(step.action for step in one.transitions) for one in made[place :: len(episodes)]}
        assert len(actions) == 3
        assert tuple(step.action for step in episode.transitions) not in actions


def test_the_same_seed_gives_the_same_names_and_another_seed_others() -> None:
    episodes = several(3)
    first, again, other = (list(varied(episodes, wanted(variants=2, share=1.0, seed=seed))) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("variants", "share"), [(0, 0.5), (1, 1.5), (1, -0.1)])
def test_what_makes_no_sense_is_refused(variants: int, share: float) -> None:
    with pytest.raises(ConfigurationError, match="variants must be at least 1"):
        wanted(variants=variants, share=share)
