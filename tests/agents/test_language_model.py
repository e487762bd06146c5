"""The language-model policy over a scripted engine."""

import numpy as np
import pytest

from dreamsim.agents.language_model import LanguageModelPolicy, PolicyPrompt, PolicySettings, parse_decision
from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.state import State, after_nothing
from dreamsim.records.task import Task

pytestmark = pytest.mark.anyio
TOKENIZER = ByteTokenizer()
FIRST = State.of(["at: kitchen", "egg: here"])
AFTER = State.of(["at: kitchen", "egg: held"])
TASK = Task(environment="test/one", instruction="take the egg", first_state=FIRST, fold="train")
GROWING = PolicySettings(window=None, begin_action=True)


def policy(settings: PolicySettings, *answers: str) -> tuple[LanguageModelPolicy, list[GenerationRequest]]:
    requests: list[GenerationRequest] = []

    def respond(request: GenerationRequest) -> str:
        requests.append(request)
        return answers[min(len(requests), len(answers)) - 1]

    return LanguageModelPolicy(ScriptedEngine(respond, TOKENIZER), TOKENIZER, settings), requests


async def test_what_is_written_is_the_action() -> None:
    clone, _ = policy(GROWING, "take egg\n<end>")
    decision = await clone.actor(TASK, episode_id="e", seed=0).act(FIRST, ())
    assert decision.action == "take egg"
    assert decision.completion is not None
    assert len(decision.completion.logprobs) == len(decision.completion.token_ids)


async def test_growing_prompts_begin_with_the_prompt_and_the_ids_before() -> None:
    clone, requests = policy(GROWING, "take egg\n<end>", "wait<end>")
    actor = clone.actor(TASK, episode_id="e", seed=0)
    first = await actor.act(FIRST, ())
    await actor.act(AFTER, ())
    assert first.completion is not None
    before = np.concatenate([first.prompt_token_ids, first.completion.token_ids])
    assert np.array_equal(requests[1].prompt_token_ids[: len(before)], before)
    assert TOKENIZER.decode(requests[1].prompt_token_ids).endswith("<state>\negg: held\n<action> ")


async def test_a_window_shows_the_last_steps_and_the_whole_state() -> None:
    clone, requests = policy(PolicySettings(window=1), "I see.\n<action> take egg", "<action> wait", "<action> wait")
    actor = clone.actor(TASK, episode_id="e", seed=0)
    assert (await actor.act(FIRST, ())).thought == "I see."
    await actor.act(AFTER, ())
    await actor.act(AFTER, ("wait", "drop egg"))
    last = TOKENIZER.decode(requests[2].prompt_token_ids)
    assert "take egg\n" not in last.partition("Step 3")[0]
    assert "Step 3. The state now:\n<state>\nat: kitchen\negg: held" in last
    assert "Possible actions: wait; drop egg" in last


async def test_an_answer_without_an_action_is_sampled_again() -> None:
    clone, requests = policy(PolicySettings(samples=2), "hm", "<action> wait")
    assert (await clone.actor(TASK, episode_id="e", seed=0).act(FIRST, ())).action == "wait"
    assert requests[0].seed != requests[1].seed


async def test_the_last_sample_is_the_decision_also_without_an_action() -> None:
    clone, requests = policy(PolicySettings(samples=2), "hm")
    decision = await clone.actor(TASK, episode_id="e", seed=0).act(FIRST, ())
    assert decision.action == ""
    assert decision.completion is not None
    assert len(requests) == 2


async def test_what_held_no_action_stays_in_a_growing_prompt_as_it_was_written() -> None:
    clone, requests = policy(GROWING, "\n<end>", "wait<end>")
    actor = clone.actor(TASK, episode_id="e", seed=0)
    first = await actor.act(FIRST, ())
    await actor.act(after_nothing(FIRST), ())
    assert first.completion is not None
    before = np.concatenate([first.prompt_token_ids, first.completion.token_ids])
    assert np.array_equal(requests[1].prompt_token_ids[: len(before)], before)
    assert TOKENIZER.decode(requests[1].prompt_token_ids).endswith("<state>\nresult: no action\n<action> ")


@pytest.mark.parametrize("written", ["<action> ", "<action> \n<end>", "no tag", "<action> " + "x" * 400])
def test_what_is_no_action_is_told_by_an_empty_one(written: str) -> None:
    assert parse_decision(written, PolicySettings())[1] == ""


def test_a_prompt_that_was_given_stays_as_it_was_while_the_next_ones_grow() -> None:
    prompt = PolicyPrompt(TOKENIZER, PolicySettings(window=None, begin_action=True), TASK)
    given, kept = [], []
    for step in range(12):
        given.append(prompt.ask())
        kept.append(given[-1].copy())
        prompt.append(f"do {step}", State.of([f"step: {step}"]), TOKENIZER.encode(f"do {step}<end>"))
    assert all(np.array_equal(one, before) for one, before in zip(given, kept, strict=True))
    assert np.array_equal(given[-1][: len(given[0])], given[0])


def test_a_prompt_that_was_given_cannot_be_written_to() -> None:
    asked = PolicyPrompt(TOKENIZER, PolicySettings(window=None), TASK).ask()
    with pytest.raises(ValueError, match="read-only"):
        asked[0] = 1
