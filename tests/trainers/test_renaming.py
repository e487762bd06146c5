"""Things called something else: consistently, reversibly, and nothing but their names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.records.episode import Episode
from dreamsim.testing.world import CONTAINERS, OBJECTS, scripted_task
from dreamsim_trainers.renaming import carried_names, kind_of, rename_episode, renumber_episode
from tests.trainers.played import numbered, played, several

NAMES = frozenset((*OBJECTS, *CONTAINERS))
SEEDS = st.integers(0, 10_000)


def texts_of(episode: Episode) -> list[str]:
    """Everything that is said in an episode, in order."""
    said = [episode.task.instruction, *episode.task.first_state.lines]
    for step in episode.transitions:
        said += [step.action, *step.state.lines, step.reasoning]
    return said


def names_given(before: Episode, after: Episode) -> dict[str, str]:
    """What each thing is called now, from the states, where the same line speaks of the same thing."""
    given: dict[str, str] = {}
    pairs = [(before.task.first_state, after.task.first_state)]
    pairs += [(one.state, other.state) for one, other in zip(before.transitions, after.transitions, strict=True)]
    for old, new in pairs:
        for name, other in zip(old.elements, new.elements, strict=True):
            assert given.setdefault(name, other) == other, "one name, two other names"
    return given


def renamed_back(text: str, names: Mapping[str, str]) -> str:
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<![\w-])(?:{pattern})(?![\w-])", lambda found: names[found[0]], text)


@given(world=SEEDS, seed=SEEDS)
def test_names_change_consistently_and_can_be_changed_back(world: int, seed: int) -> None:
    episode = played(scripted_task(world))
    renamed = rename_episode(episode, NAMES, np.random.default_rng(seed))
    given = names_given(episode, renamed)
    assert len(set(given.values())) == len(given)
    assert {name for name, other in given.items() if name == other} == set(given) - NAMES
    back = {other: name for name, other in given.items()}
    assert [renamed_back(text, back) for text in texts_of(renamed)] == texts_of(episode)


@given(world=SEEDS, seed=SEEDS)
def test_no_old_name_of_a_thing_is_left(world: int, seed: int) -> None:
    episode = played(scripted_task(world))
    renamed = rename_episode(episode, NAMES, np.random.default_rng(seed))
    invented = {other for name, other in names_given(episode, renamed).items() if name in NAMES}
    said = "\n".join(texts_of(renamed))
    for name in sorted(invented, key=len, reverse=True):
        said = said.replace(name, "")
    assert not re.search(r"(?<![\w-])(?:" + "|".join(NAMES) + r")(?![\w-])", said)


@given(world=SEEDS, seed=SEEDS)
def test_only_names_change(world: int, seed: int) -> None:
    episode = played(scripted_task(world))
    renamed = rename_episode(episode, NAMES, np.random.default_rng(seed))
    for one, other in zip(episode.transitions, renamed.transitions, strict=True):
        assert (one.reward, one.outcome) == (other.reward, other.outcome)
    assert (renamed.id, renamed.task.seed, renamed.task.fold) == (episode.id, episode.task.seed, episode.task.fold)


def test_an_episode_without_such_names_stays_as_it_is() -> None:
    episode = played(scripted_task(0))
    assert rename_episode(episode, {"unicorn"}, np.random.default_rng(0)) is episode


def test_carried_are_the_things_that_were_held() -> None:
    episodes = several(8)
    goals = {episode.task.instruction.split()[2] for episode in episodes}
    assert carried_names(episodes) == goals
    assert carried_names(episodes, keep=["key"]) == goals - {"key"}


@given(seed=SEEDS)
def test_numbers_are_shuffled_within_their_kind_and_the_same_way_throughout(seed: int) -> None:
    episode = numbered()
    shuffled = renumber_episode(episode, np.random.default_rng(seed))
    given = names_given(episode, shuffled)
    assert {kind_of(name) for name in given} == {kind_of(other) for other in given.values()}
    assert set(given.values()) - {"drawer 12"} == set(given) - {"drawer 12"}
    walked = re.fullmatch(r"go to (drawer (?:1|2|3|12))", shuffled.transitions[0].action)
    assert walked is not None
    assert shuffled.transitions[0].state.scene == walked[1]
    assert shuffled.transitions[1].action == f"take {given['mug 1']} from {walked[1]}"
    assert shuffled.task.first_state.lines == episode.task.first_state.lines


def test_numbers_do_change_and_absent_ones_stay_absent() -> None:
    made = [renumber_episode(numbered(), np.random.default_rng(seed)) for seed in range(20)]
    assert len({one.transitions[0].action for one in made}) == 4
    assert all("mug 4" in one.transitions[2].action for one in made)


def test_without_numbers_nothing_is_renumbered() -> None:
    episode = played(scripted_task(1))
    assert renumber_episode(episode, np.random.default_rng(0)) is episode


@given(seed=SEEDS)
def test_a_kind_of_numbered_things_becomes_one_word_everywhere(seed: int) -> None:
    episode = numbered()
    renamed = rename_episode(episode, {"mug"}, np.random.default_rng(seed))
    word = names_given(episode, renamed)["mug 1"].removesuffix(" 1")
    assert " " not in word
    assert renamed.task.instruction == f"put a {word} in drawer"
    assert renamed.transitions[2].action == f"take {word} 4 from drawer 12"
    assert not any("mug" in text for text in texts_of(renamed))
