"""What a policy learns is what it is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsim.agents.language_model import LanguageModelPolicy, PolicySettings
from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import Episode
from dreamsim_trainers.experience_data import IGNORED, Sample
from dreamsim_trainers.policy_data import policy_samples
from tests.trainers.played import several

TOKENIZER = ByteTokenizer()
EPISODES = several(3)
LONG = 100_000
GROWING = PolicySettings(window=None, begin_action=True, samples=1, max_tokens=LONG)
FREE = replace(GROWING, begin_action=False)
WINDOWED = PolicySettings(window=2, samples=1, max_tokens=LONG)
LAYOUTS = {
    "growing": GROWING,
    "growing, the tag to be written": FREE,
    "windowed": WINDOWED,
    "windowed without admissible actions": replace(WINDOWED, show_admissible=False, begin_action=True),
    "no window": replace(WINDOWED, window=0),
    "framed": replace(WINDOWED, head=np.array([1, 2], np.int32), tail=np.array([3], np.int32)),
}
each_layout = pytest.mark.parametrize("settings", LAYOUTS.values(), ids=list(LAYOUTS))


def stretches(sample: Sample) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """What stands before each stretch that loss falls on, and the stretch."""
    on = sample.labels != IGNORED
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on, [0]]))).reshape(-1, 2)
    return [(sample.input_ids[:begin], sample.labels[begin:end]) for begin, end in edges]


async def played_again(episode: Episode, settings: PolicySettings) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Prompts and answers of a policy that decides as `episode` did, admissible actions told as they were."""
    asked: list[NDArray[np.int32]] = []
    tag = "" if settings.begin_action else "<action> "
    written = iter([f"{tag}{step.action}\n<end>" for step in episode.transitions])

    def respond(request: GenerationRequest) -> str:
        asked.append(request.prompt_token_ids)
        return next(written)

    engine = ScriptedEngine(respond, TOKENIZER, max_model_len=3 * LONG)
    actor = LanguageModelPolicy(engine, TOKENIZER, settings).actor(episode.task, episode_id="e", seed=0)
    state, admissible = episode.task.first_state, tuple[str, ...]()
    answers = []
    for step in episode.transitions:
        decision = await actor.act(state, admissible)
        assert decision.action == step.action
        assert decision.completion is not None
        answers.append(decision.completion.token_ids)
        state, admissible = step.state, step.admissible
    return list(zip(asked, answers, strict=True))


@each_layout
async def test_what_is_learned_is_what_is_asked(settings: PolicySettings) -> None:
    for episode in EPISODES:
        made = policy_samples([episode], TOKENIZER, settings, max_tokens=LONG)
        learned = [stretch for sample in made for stretch in stretches(sample)]
        again = await played_again(episode, settings)
        assert len(learned) == len(again) == len(episode.transitions)
        for (before, answer), (prompt, written) in zip(learned, again, strict=True):
            assert np.array_equal(before, prompt)
            assert np.array_equal(answer, written)


@each_layout
def test_loss_falls_on_the_decisions_alone(settings: PolicySettings) -> None:
    made = policy_samples(EPISODES, TOKENIZER, settings, max_tokens=LONG)
    said = [TOKENIZER.decode(answer) for sample in made for _, answer in stretches(sample)]
    actions = [answer.removeprefix("<action> ").removesuffix("\n<end>") for answer in said]
    assert actions == [step.action for episode in EPISODES for step in episode.transitions]
    assert all(answer.startswith("<action>") is not settings.begin_action for answer in said)


@pytest.mark.parametrize("settings", [GROWING, FREE], ids=["tag in the prompt", "tag to be written"])
def test_a_growing_episode_is_one_sample(settings: PolicySettings) -> None:
    assert len(list(policy_samples(EPISODES, TOKENIZER, settings, max_tokens=LONG))) == len(EPISODES)


@each_layout
def test_no_sample_is_too_long_and_what_fits_is_kept(settings: PolicySettings) -> None:
    whole = [s for sample in policy_samples(EPISODES, TOKENIZER, settings, max_tokens=LONG) for s in stretches(sample)]
    lengths = sorted(len(before) + len(answer) for before, answer in whole)
    limit = lengths[len(lengths) // 2]
    short = list(policy_samples(EPISODES, TOKENIZER, settings, max_tokens=limit))
    assert max(len(sample.input_ids) for sample in short) <= limit
    assert sum(len(stretches(sample)) for sample in short) == sum(length <= limit for length in lengths)


def test_an_episode_without_steps_teaches_nothing() -> None:
    empty = replace(EPISODES[0], transitions=(), outcome="truncated")
    for settings in LAYOUTS.values():
        assert list(policy_samples([empty], TOKENIZER, settings)) == []
