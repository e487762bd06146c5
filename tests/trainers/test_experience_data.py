"""What an experience model learns is what it is asked, and only from others' experience."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.errors import ConfigurationError, ExperienceError
from dreamsim.experience.format import transition_answer
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.prompt import PromptLayout, Retrieve
from dreamsim.protocols import Encoder
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import Episode
from dreamsim.records.experience import Experience, ExperienceQuery, embedding_text
from dreamsim.store.encoders import encoder_from_name
from dreamsim.testing.world import scripted_task
from dreamsim_trainers.experience_data import (
    IGNORED,
    DemonstrationPool,
    Renaming,
    Sample,
    experiences_of,
    names_of,
    samples,
)
from tests.trainers.played import played, several

TOKENIZER = ByteTokenizer()
EPISODES = several(6)
LONG = 100_000
RETRIEVE: tuple[Retrieve, ...] = ("episode", "step", "off")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return encoder_from_name("lexical")


@pytest.fixture(scope="module")
def pool(encoder: Encoder) -> DemonstrationPool:
    return DemonstrationPool(EPISODES, encoder)


def answers_of(episode: Episode, *, reasoning: bool = True) -> list[str]:
    steps = zip(episode.transitions, experiences_of(episode), strict=True)
    return [transition_answer(step, known.changes, with_reasoning=reasoning) for step, known in steps]


def learned(sample: Sample) -> list[str]:
    """The stretches of a sample that loss falls on, as text."""
    on = sample.labels != IGNORED
    assert np.array_equal(sample.labels[on], sample.input_ids[on])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on, [0]])))
    return [TOKENIZER.decode(sample.input_ids[begin:end]) for begin, end in edges.reshape(-1, 2)]


@pytest.mark.parametrize("reasoning", [True, False])
def test_loss_falls_on_the_answers_of_an_episode_and_on_nothing_else(pool: DemonstrationPool, reasoning: bool) -> None:
    layout = PromptLayout(retrieve="episode", demonstrations=2, reasoning=reasoning)
    made = list(samples(EPISODES, TOKENIZER, layout, pool, max_tokens=LONG))
    expected = [answers_of(episode, reasoning=reasoning) for episode in EPISODES]
    assert [learned(sample) for sample in made] == expected


def test_loss_falls_on_the_answer_of_a_step_and_not_on_its_demonstrations(pool: DemonstrationPool) -> None:
    layout = PromptLayout(retrieve="step", demonstrations=2)
    made = list(samples(EPISODES, TOKENIZER, layout, pool, max_tokens=LONG))
    assert [learned(sample) for sample in made] == [[said] for episode in EPISODES for said in answers_of(episode)]
    assert all(TOKENIZER.decode(sample.input_ids).count("<example>") == 2 for sample in made)


def test_loss_on_all_leaves_nothing_out(pool: DemonstrationPool) -> None:
    made = samples(EPISODES, TOKENIZER, PromptLayout(retrieve="episode"), pool, loss_on="all", max_tokens=LONG)
    assert all(np.array_equal(sample.labels, sample.input_ids) for sample in made)


@pytest.mark.parametrize("retrieve", RETRIEVE)
def test_long_samples_end_at_a_step_and_keep_their_first_tokens(pool: DemonstrationPool, retrieve: Retrieve) -> None:
    layout = PromptLayout(retrieve=retrieve, demonstrations=1)
    whole = [sample.input_ids for sample in samples(EPISODES, TOKENIZER, layout, pool, max_tokens=LONG)]
    shortened = list(samples(EPISODES, TOKENIZER, layout, pool, max_tokens=700))
    assert 0 < sum(len(sample.input_ids) for sample in shortened) < sum(map(len, whole))
    for sample in shortened:
        assert len(sample.input_ids) <= 700
        assert any(np.array_equal(sample.input_ids, ids[: len(sample.input_ids)]) for ids in whole)
        assert all(said.endswith("<end>") for said in learned(sample))


def test_demonstrations_are_the_nearest_of_other_tasks(encoder: Encoder) -> None:
    # one task played so often that its own steps, the nearest of all, are more than any search would look through
    crowd = [played(scripted_task(0), repeat=number) for number in range(30)]
    searched = DemonstrationPool([*crowd, *EPISODES], encoder)
    steps = [(step.state, step.action, EPISODES[0].task) for step in experiences_of(EPISODES[0])]
    others = [step for episode in EPISODES[1:] for step in experiences_of(episode)]
    keys = encoder.encode([embedding_text(step.state, step.action) for step in others])
    for (state, action, _), found in zip(steps, searched.nearest(steps, 3), strict=True):
        similar = keys @ encoder.encode([embedding_text(state, action)])[0]
        reached = [similar[others.index(shown)] for shown in found]
        assert reached == pytest.approx(sorted(similar, reverse=True)[:3])


def test_demonstrations_are_of_the_same_environment(encoder: Encoder) -> None:
    elsewhere = [replace(episode, task=replace(episode.task, environment="other/world")) for episode in EPISODES]
    searched = DemonstrationPool([*elsewhere, EPISODES[1]], encoder)
    found = searched.nearest([(("at: hall",), "go kitchen", EPISODES[0].task)], 50)[0]
    assert {shown.environment for shown in found} == {EPISODES[0].task.environment}
    assert len(found) == len(EPISODES[1].transitions)


def test_an_empty_pool_shows_nothing(encoder: Encoder) -> None:
    assert DemonstrationPool([], encoder).nearest([((), "wait", EPISODES[0].task)], 4) == [()]


class Searching:
    """A retriever over a pool: the exact search of training, asked as at inference."""

    def __init__(self, pool: DemonstrationPool, episodes: list[Episode]) -> None:
        self._pool = pool
        self._tasks = {episode.task.key: episode.task for episode in episodes}

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        assert query.exclude_task is not None
        return self._pool.nearest([(query.state, query.action, self._tasks[query.exclude_task])], query.k)[0]


async def asked_at_inference(
    layout: PromptLayout, pool: DemonstrationPool, episode: Episode
) -> list[NDArray[np.int32]]:
    """The prompts of an experience model that goes through `episode`, one for each step."""
    prompts: list[NDArray[np.int32]] = []

    def note(request: GenerationRequest) -> str:
        prompts.append(request.prompt_token_ids)
        return "nothing that could be parsed"

    settings = ExperienceSettings(layout=layout, samples=1)
    engine = ScriptedEngine(note, TOKENIZER, max_model_len=LONG)
    model = ExperienceModel(engine, TOKENIZER, settings, Searching(pool, EPISODES))
    dream = await model.dream(episode.task, episode_id="e", seed=0)
    for step in episode.transitions:
        with pytest.raises(ExperienceError):
            await dream.predict(step.action)
        dream.follow(step)
    return prompts


@pytest.mark.parametrize(
    ("retrieve", "history"), [("episode", True), ("step", True), ("step", False), ("off", True), ("off", False)]
)
async def test_what_is_learned_is_what_is_asked(pool: DemonstrationPool, retrieve: Retrieve, history: bool) -> None:
    layout = PromptLayout(retrieve=retrieve, demonstrations=2, history=history)
    for episode in EPISODES[:3]:
        made = list(samples([episode], TOKENIZER, layout, pool, max_tokens=LONG))
        trained = [
            sample.input_ids[:begin]
            for sample in made
            for begin in np.flatnonzero(np.diff(np.concatenate([[0], sample.labels != IGNORED])) == 1)
        ]
        asked = await asked_at_inference(layout, pool, episode)
        assert len(trained) == len(asked) == len(episode.transitions)
        for learned_after, prompt in zip(trained, asked, strict=True):
            assert np.array_equal(learned_after, prompt)


def test_examples_of_a_whole_episode_without_its_history_are_refused(pool: DemonstrationPool) -> None:
    layout = PromptLayout(retrieve="episode", history=False)
    with pytest.raises(ConfigurationError, match="without history"):
        list(samples(EPISODES, TOKENIZER, layout, pool))


def test_steps_that_hang_on_what_names_mean_are_not_learned_from_renamed_episodes() -> None:
    names = frozenset(name for name in names_of(EPISODES) if name in ("key", "apple", "lamp", "rope", "coin", "book"))
    renaming = Renaming(share=1.0, names=names, knowledge="fails")
    made = samples(EPISODES, TOKENIZER, PromptLayout(retrieve="off"), None, max_tokens=LONG, renaming=renaming)
    said = [answer for sample in made for answer in learned(sample)]
    steps = sum(len(episode.transitions) for episode in EPISODES)
    assert len(said) == steps - len(EPISODES)  # each begins with one action that fails
    assert not any("fails" in answer for answer in said)


def test_names_are_those_of_all_states() -> None:
    found = names_of(EPISODES, leave_out=lambda name: name in ("at", "exits", "result"))
    states = [t.state for e in EPISODES for t in e.transitions] + [e.task.first_state for e in EPISODES]
    assert found == sorted({key for state in states for key in state.elements} - {"at", "exits", "result"})
