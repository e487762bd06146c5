"""Contract checks for what models stand behind: engines, encoders and retrievers.

In: an object that claims to follow a protocol, and something to try it on. Out: nothing, or an AssertionError
whose message says which clause is broken. Always: a check leaves no request behind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ContextOverflowError
from dreamsim.protocols import Encoder, Engine, Retriever
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.experience import ExperienceQuery
from dreamsim.testing.contracts import check_completion

ANSWER_TOKENS = 8


async def check_engine(
    engine: Engine, prompt: NDArray[np.int32], *, at_once: int = 16, repeatable: bool = True
) -> None:
    """Check an `Engine`.

    Args:
        engine: what to check; it should be running.
        prompt: token ids it can read, shape [length].
        at_once: requests in flight together.
        repeatable: whether greedy answers to the same prompt are the same.
    """
    assert engine.name, "an engine has a name, for provenance"
    assert engine.max_model_len > ANSWER_TOKENS, f"too short to check: {engine.max_model_len} tokens"
    answers: dict[int, Completion] = {}

    async def ask(index: int) -> None:
        answers[index] = await engine.generate(_request(f"check-{index}", prompt, seed=index))

    async with anyio.create_task_group() as group:
        for index in range(at_once):
            group.start_soon(ask, index)
    for answer in answers.values():
        check_completion(answer)
        assert 1 <= len(answer.token_ids) <= ANSWER_TOKENS, f"asked for {ANSWER_TOKENS} tokens at most: {answer}"
        assert answer.prompt_tokens == len(prompt), f"the prompt had {len(prompt)} tokens: {answer}"
        if answer.finish_reason == "length":
            assert len(answer.token_ids) == ANSWER_TOKENS, f"ended by length, but not full: {answer}"
    if repeatable:
        one, two = [await engine.generate(_request(f"greedy-{n}", prompt, greedy=True)) for n in range(2)]
        assert np.array_equal(one.token_ids, two.token_ids), f"greedy answers differ: {one} and {two}"
    await _check_stop(engine, prompt)
    await _check_cancel(engine, prompt)
    await _check_overflow(engine, prompt)


async def _check_stop(engine: Engine, prompt: NDArray[np.int32]) -> None:
    free = await engine.generate(_request("free", prompt, greedy=True))
    stop = int(free.token_ids[0])
    held = await engine.generate(_request("held", prompt, greedy=True, stop=stop))
    # What an engine without a model answers need not depend on the sampling: then it cannot stop either.
    if held.finish_reason == "stop":
        assert stop in held.token_ids.tolist(), f"the stop token is part of the answer: {held}"


async def _check_cancel(engine: Engine, prompt: NDArray[np.int32]) -> None:
    async with anyio.create_task_group() as group:
        for index in range(4):
            group.start_soon(engine.generate, _request(f"cancelled-{index}", prompt))
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    check_completion(await engine.generate(_request("after", prompt)))


async def _check_overflow(engine: Engine, prompt: NDArray[np.int32]) -> None:
    too_long = np.resize(prompt, engine.max_model_len + 1)
    try:
        await engine.generate(_request("overflow", too_long))
    except ContextOverflowError:
        return
    raise AssertionError("a prompt longer than max_model_len raises ContextOverflowError")


def _request(
    name: str, prompt: NDArray[np.int32], *, seed: int = 0, greedy: bool = False, stop: int | None = None
) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"contract-{name}",
        prompt_token_ids=prompt,
        sampling=Sampling(
            max_tokens=ANSWER_TOKENS,
            temperature=0.0 if greedy else 1.0,
            stop_token_ids=() if stop is None else (stop,),
        ),
        seed=seed,
        role="contract",
    )


def check_encoder(encoder: Encoder, texts: Sequence[str]) -> None:
    """Check an `Encoder` on some texts; odd ones are added."""
    odd = ["", " ", "\n", "take key", "take key", "\u00e9\u4e2d\U0001f600", "a" * 10_000]
    texts = [*texts, *odd]
    vectors = encoder.encode(texts)
    assert encoder.name, "an encoder has a name: vectors of another one are of no use"
    assert vectors.shape == (len(texts), encoder.dimension), f"shape {vectors.shape}"
    assert vectors.dtype == np.float32, f"type {vectors.dtype}"
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = [texts[i] for i in np.flatnonzero(np.abs(lengths - 1) > 1e-3)]
    assert not wrong, f"not of length 1: the vectors of {wrong!r:.300}"
    assert np.array_equal(vectors, encoder.encode(texts)), "the same texts have the same vectors"
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.allclose(vectors, alone, atol=1e-5), "a text's vector does not depend on its neighbours"
    assert encoder.encode([]).shape == (0, encoder.dimension), "no texts, no vectors: shape [0, dimension]"


async def check_retriever(retriever: Retriever, query: ExperienceQuery) -> None:
    """Check a `Retriever` with a query that finds at least one experience of some task."""
    found = await retriever.retrieve(query)
    assert found, "give a query that finds something"
    assert len(found) <= query.k, f"asked for {query.k}, got {len(found)}"
    similarities = [experience.similarity for experience in found]
    assert similarities == sorted(similarities, reverse=True), f"the most similar first: {similarities}"
    assert len({experience.id for experience in found}) == len(found), "no experience twice"
    for experience in found:
        assert -1.001 <= experience.similarity <= 1.001, f"no cosine: {experience.similarity}"
        assert experience.source in query.sources, f"not asked for: {experience.source}"
        assert experience.fold in query.folds, f"not asked for: {experience.fold}"
        assert query.environment in (None, experience.environment), f"not asked for: {experience.environment}"
        assert experience.task_key != query.exclude_task, "an experience of the excluded task"
    without = dataclasses.replace(query, exclude_task=found[0].task_key)
    others = await retriever.retrieve(without)
    assert all(other.task_key != found[0].task_key for other in others), "an excluded task was found"
    assert len(await retriever.retrieve(dataclasses.replace(query, k=1))) == 1, "asked for one"
    assert await retriever.retrieve(dataclasses.replace(query, folds=("no such fold",))) == (), "found in no fold"
