"""The engine without a model."""

from __future__ import annotations

from functools import partial

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines.scripted import Answer, ByteTokenizer, EngineFault, Latency, ScriptedEngine
from dreamsim.errors import ContextOverflowError, EngineError
from dreamsim.records.completion import GenerationRequest, Sampling
from dreamsim.records.text import END, TAGS
from dreamsim.testing import check_completion, check_engine
from dreamsim.testing.virtual_time import VirtualTimeLoop

TOKENIZER = ByteTokenizer()
PROMPT = TOKENIZER.encode("look around")
END_ID = int(TOKENIZER.encode(END)[0])


def request(name: str = "e-0", *, seed: int = 0, max_tokens: int = 50, stop: tuple[int, ...] = ()) -> GenerationRequest:
    return GenerationRequest(
        request_id=name,
        prompt_token_ids=PROMPT,
        sampling=Sampling(max_tokens=max_tokens, stop_token_ids=stop),
        seed=seed,
    )


def engine(answer: Answer = "take key<end>", fault: EngineFault | None = None) -> ScriptedEngine:
    return ScriptedEngine(lambda _: answer, TOKENIZER, fault=lambda _: fault, max_model_len=100)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.sampled_from(TAGS)))
def test_bytes_and_tags_decode_to_what_was_encoded(text: str, tags: list[str]) -> None:
    written = text.join(["", *tags, ""])
    assert TOKENIZER.decode(TOKENIZER.encode(written)) == written


def test_a_tag_is_one_token() -> None:
    assert [len(TOKENIZER.encode(tag)) for tag in TAGS] == [1] * len(TAGS)
    assert TOKENIZER.vocabulary_size == 256 + len(TAGS)


def test_text_that_is_no_unicode_is_still_encoded() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a?b"


async def test_it_keeps_the_contract_of_an_engine() -> None:
    await check_engine(engine("ab"), PROMPT)


async def test_the_answer_ends_with_the_stop_token() -> None:
    completion = await engine("take key<end> and more").generate(request(stop=(END_ID,)))
    assert TOKENIZER.decode(completion.token_ids) == "take key<end>"
    assert completion.finish_reason == "stop"


async def test_a_long_answer_is_cut() -> None:
    completion = await engine("x" * 20).generate(request(max_tokens=8))
    assert len(completion.token_ids) == 8
    assert completion.finish_reason == "length"


async def test_an_answer_that_does_not_fit_overflows_the_context() -> None:
    with pytest.raises(ContextOverflowError):
        await engine("x" * 200).generate(request(max_tokens=200))


async def test_the_same_seed_gives_the_same_completion() -> None:
    one, two, other = [await engine().generate(request(seed=seed)) for seed in (1, 1, 2)]
    check_completion(one)
    assert np.array_equal(one.logprobs, two.logprobs)
    assert not np.array_equal(one.logprobs, other.logprobs)


async def test_token_ids_may_be_scripted() -> None:
    completion = await engine([1, 2, 3]).generate(request())
    assert completion.token_ids.tolist() == [1, 2, 3]


async def test_a_scripted_failure_can_be_tried_again() -> None:
    with pytest.raises(EngineError) as caught:
        await engine(fault="error").generate(request())
    assert caught.value.recoverable


async def test_a_dead_engine_stays_dead() -> None:
    faults: list[EngineFault | None] = [None, "dead", None]
    dying = ScriptedEngine(lambda _: "ok", TOKENIZER, fault=lambda _: faults.pop(0))
    await dying.generate(request())
    for _ in range(2):
        with pytest.raises(EngineError) as caught:
            await dying.generate(request())
        assert not caught.value.recoverable
    assert dying.statistics().failed == 2


async def test_a_cancelled_request_is_recorded_as_aborted() -> None:
    hanging = engine(fault="hang")
    async with anyio.create_task_group() as group:
        group.start_soon(hanging.generate, request("e-7"))
        await anyio.wait_all_tasks_blocked()
        assert hanging.statistics().in_flight == 1
        group.cancel_scope.cancel()
    assert hanging.aborted == ["e-7"]
    assert hanging.statistics().in_flight == 0


async def test_a_foreign_cancellation_is_not_ours() -> None:
    broken = engine(fault="foreign")
    with pytest.raises(anyio.get_cancelled_exc_class()):
        await broken.generate(request())
    assert broken.aborted == []


def test_latency_is_the_loops_time() -> None:
    async def ask() -> float:
        slow = ScriptedEngine(lambda _: [1, 2], TOKENIZER, latency=Latency(start_s=60, token_s=5, prompt_token_s=1))
        await slow.generate(request())
        return anyio.current_time()

    took = anyio.run(partial(ask), backend_options={"loop_factory": VirtualTimeLoop})
    assert took == 60 + 2 * 5 + len(PROMPT)
