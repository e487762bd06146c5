"""Engine against trainer, on the scripted engine: what is compared, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsim.agents.language_model import LanguageModelPolicy, PolicyPrompt, PolicySettings
from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.errors import ConfigurationError
from dreamsim.flow.agreement import LogprobAgreement, logprob_agreement, policy_agreement
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.sample import TokenSample
from dreamsim.testing import scripted_tasks

SETTINGS = PolicySettings(window=None, begin_action=True, max_tokens=12)
TOKENIZER = ByteTokenizer()
TASKS = scripted_tasks(3)
PROMPTS = [PolicyPrompt(TOKENIZER, SETTINGS, task).ask() for task in TASKS]


class OffBy:
    """Agrees with the engine but for what is added to each token in turn."""

    def __init__(self, *differences: float) -> None:
        self._differences = differences
        self.samples: Sequence[TokenSample] = ()

    def logprobs(self, samples: Sequence[TokenSample]) -> NDArray[np.float32]:
        self.samples = samples
        told = np.concatenate([sample.logprobs[sample.loss_mask] for sample in samples])
        return np.asarray(told + np.resize(self._differences, len(told)), dtype=np.float32)


class Silent(ScriptedEngine):
    """Tells no log-probabilities."""

    async def generate(self, request: GenerationRequest) -> Completion:
        answer = await super().generate(request)
        nothing = np.full(len(answer.token_ids), np.nan, dtype=np.float32)
        return Completion(
            token_ids=answer.token_ids, logprobs=nothing, finish_reason="stop", prompt_tokens=answer.prompt_tokens
        )


def engine() -> ScriptedEngine:
    return ScriptedEngine(lambda request: "wait", TOKENIZER, version="4")


async def compared(scorer: OffBy) -> LogprobAgreement:
    return await policy_agreement(engine(), scorer, TOKENIZER, SETTINGS, TASKS)


async def test_the_mean_and_the_greatest_difference_are_told() -> None:
    found = await compared(OffBy(0.01, -0.03))
    assert (found.tokens, found.completions, found.version) == (12, 3, "4")
    assert found.mean == pytest.approx(0.02, abs=1e-6)
    assert found.maximum == pytest.approx(0.03, abs=1e-6)
    assert [len(one) for one in found.differences] == [4, 4, 4]


async def test_what_is_scored_is_what_the_engine_read_and_wrote() -> None:
    scorer = OffBy(0.0)
    await compared(scorer)
    for prompt, sample in zip(PROMPTS, scorer.samples, strict=True):
        assert np.array_equal(sample.token_ids, np.concatenate([prompt, TOKENIZER.encode("wait")]))
        assert np.array_equal(np.flatnonzero(sample.loss_mask), len(prompt) + np.arange(4))


async def test_a_disagreement_is_refused_with_what_to_look_at() -> None:
    found = await compared(OffBy(0.5))
    with pytest.raises(ConfigurationError, match=r"0\.5000 over 12 tokens .* above 0\.02.*same temperature"):
        found.require()
    assert found.problem(limit=1.0) is None


async def test_an_engine_without_logprobs_cannot_be_compared() -> None:
    silent = Silent(lambda request: "wait", TOKENIZER)
    with pytest.raises(ConfigurationError, match="tells no log-probabilities"):
        await logprob_agreement(silent, OffBy(0.0), PROMPTS, Sampling(max_tokens=4))


async def test_the_policy_is_asked_as_it_will_be_asked_in_training() -> None:
    asked: list[GenerationRequest] = []

    def respond(request: GenerationRequest) -> str:
        asked.append(request)
        return "wait\n"

    listening = ScriptedEngine(respond, TOKENIZER)
    await policy_agreement(listening, OffBy(0.0), TOKENIZER, SETTINGS, TASKS[:1])
    actor = LanguageModelPolicy(listening, TOKENIZER, SETTINGS).actor(TASKS[0], episode_id="e", seed=0)
    await actor.act(TASKS[0].first_state, ())
    assert np.array_equal(asked[0].prompt_token_ids, asked[1].prompt_token_ids)
    assert asked[0].sampling == asked[1].sampling
