"""The engine behind a URL, against a server on loopback."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import AsyncIterator

import anyio
import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines.http_client import Retries, asked_wait
from dreamsim.engines.openai_http import HttpEngine, open_http_engine
from dreamsim.engines.scripted import ByteTokenizer
from dreamsim.errors import ConfigurationError, ContextOverflowError, EngineError
from dreamsim.records.completion import GenerationRequest, Sampling
from dreamsim.runtime.own_time import own_time
from tests.engines.server import IMPATIENT, Server, serving

END = 258


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


def request(
    *, prompt: int = 4, max_tokens: int = 8, stop: tuple[int, ...] = (), seed: int = 2**40
) -> GenerationRequest:
    return GenerationRequest(
        request_id="e1-x0-0",
        prompt_token_ids=np.arange(prompt, dtype=np.int32),
        sampling=Sampling(max_tokens=max_tokens, temperature=0.7, top_k=5, stop_token_ids=stop),
        seed=seed,
    )


async def test_token_ids_go_in_and_come_out(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        completion = await engine.generate(request(stop=(7,)))
    asked = server.asked[0]
    assert asked["prompt"] == [0, 1, 2, 3]
    assert asked["stop_token_ids"] == [7]
    assert asked["return_token_ids"] is True
    assert completion.token_ids.tolist() == [5, 6, 7]
    assert completion.logprobs[:2].tolist() == [-0.5, -1.0]
    assert np.isnan(completion.logprobs[2])
    assert completion.finish_reason == "stop"


async def test_nothing_of_the_sampling_is_left_to_the_servers_defaults(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        await engine.generate(request())
    asked = server.asked[0]
    told = {
        name: asked[name] for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")
    }
    assert told == {
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": 5,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": 8,
    }
    assert asked["seed"] == 2**40 % 2**31


async def test_cached_tokens_are_counted_where_the_server_tells(server: Server) -> None:
    server.usage["prompt_tokens_details"] = {"cached_tokens": 3}
    async with open_http_engine(server.settings()) as engine:
        completion = await engine.generate(request())
        statistics = engine.statistics()
    assert completion.cached_tokens == 3
    counted = (statistics.requests, statistics.prompt_tokens, statistics.cached_tokens, statistics.generated_tokens)
    assert counted == (1, 4, 3, 3)


async def test_ids_may_come_as_words_in_the_logprobs(server: Server) -> None:
    del server.choice["token_ids"]
    server.choice["logprobs"]["tokens"] = ["token_id:9", "token_id:8", "token_id:1"]
    async with open_http_engine(server.settings()) as engine:
        assert (await engine.generate(request())).token_ids.tolist() == [9, 8, 1]


async def test_text_is_refused_where_token_ids_are_required(server: Server) -> None:
    del server.choice["token_ids"]
    async with open_http_engine(server.settings(), tokenizer=ByteTokenizer()) as engine:
        with pytest.raises(EngineError, match="gives no token ids") as caught:
            await engine.generate(request())
    assert not caught.value.recoverable


async def test_text_is_tokenized_here_where_that_is_allowed(server: Server) -> None:
    del server.choice["token_ids"]
    server.card["owned_by"] = "someone"
    tokenizer = ByteTokenizer(["<task>", "<state>", "<end>"])
    async with open_http_engine(server.settings(require_token_ids=False), tokenizer=tokenizer) as engine:
        completion = await engine.generate(request(stop=(END,)))
    assert server.asked[0]["stop"] == ["<end>"]
    assert "stop_token_ids" not in server.asked[0]
    assert tokenizer.decode(completion.token_ids) == "key<end>"
    assert np.isnan(completion.logprobs).all()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=status), web.Response(status=status)]
        await engine.generate(request())
        assert engine.statistics().retried == 2


async def test_tries_are_bounded(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=503, text="overloaded") for _ in range(9)]
        with pytest.raises(EngineError, match="503: overloaded") as caught:
            await engine.generate(request())
    assert len(server.asked) == 3
    assert caught.value.recoverable


async def test_a_server_that_asks_for_too_long_a_wait_has_failed(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=429, headers={"Retry-After": "3600"})]
        with pytest.raises(EngineError, match="429"):
            await engine.generate(request())
    assert len(server.asked) == 1


async def test_a_request_that_the_server_refuses_is_not_sent_again(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=400, text="no such parameter")]
        with pytest.raises(EngineError, match="no such parameter"):
            await engine.generate(request())
    assert len(server.asked) == 1


async def test_an_unknown_adapter_ends_the_engines_use(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=404, text="no such model")]
        with pytest.raises(EngineError) as caught:
            await engine.generate(request())
    assert not caught.value.recoverable


async def test_a_prompt_that_is_too_long_is_not_sent(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        with pytest.raises(ContextOverflowError):
            await engine.generate(request(prompt=64))
    assert server.asked == []


async def test_an_answer_that_fills_the_context_overflows_it(server: Server) -> None:
    server.choice["finish_reason"] = "length"
    async with open_http_engine(server.settings()) as engine:
        with pytest.raises(ContextOverflowError):
            await engine.generate(request(prompt=60))
    assert server.asked[0]["max_tokens"] == 4


async def test_a_server_that_finds_the_prompt_too_long_overflows_the_context(server: Server) -> None:
    del server.card["max_model_len"]
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=400, text="This model's maximum context length is 64 tokens")]
        with pytest.raises(ContextOverflowError, match="64 tokens"):
            await engine.generate(request(prompt=100))


@pytest.mark.parametrize("answer", ["[]", "{}", '{"choices": []}', '{"choices": [{"token_ids": "x"}]}', "no JSON"])
async def test_an_answer_of_another_form_is_an_engine_error(server: Server, answer: str) -> None:
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(text=answer)]
        with pytest.raises(EngineError):
            await engine.generate(request())
        assert engine.statistics().failed == 1


async def test_cancelling_closes_the_connection(server: Server) -> None:
    server.hold = anyio.Event()
    async with open_http_engine(server.settings()) as engine:
        async with anyio.create_task_group() as group:
            group.start_soon(engine.generate, request())
            with anyio.fail_after(10):
                while not server.asked:
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        with anyio.fail_after(10):
            await server.disconnected.wait()
        assert engine.statistics().aborted == 1
        assert engine.statistics().in_flight == 0


async def test_as_many_connections_as_allowed(server: Server) -> None:
    server.hold = anyio.Event()
    async with open_http_engine(server.settings(concurrency=3)) as engine, anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(engine.generate, request())
        with anyio.fail_after(10):
            while server.connections < 3:
                await anyio.lowlevel.checkpoint()
        server.hold.set()
    assert server.most_connections == 3
    assert len(server.asked) == 10


async def test_the_key_is_sent_and_never_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-secret")
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=400, text="bad key sk-secret")]
        with pytest.raises(EngineError) as caught:
            await engine.generate(request())
    assert server.headers[-1]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in str(caught.value)
    assert "[key]" in str(caught.value)


async def test_a_refused_key_names_the_variable(server: Server) -> None:
    server.first = [web.Response(status=401)]
    with pytest.raises(ConfigurationError, match="TEST_KEY"):
        async with open_http_engine(server.settings()):
            pass


async def test_a_model_that_the_server_does_not_have_is_refused(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="no model 'other'; it has tiny"):
        async with open_http_engine(server.settings(model="other")):
            pass


async def test_a_server_without_a_list_of_models_is_taken_as_it_is(server: Server) -> None:
    server.first = [web.Response(status=404)]
    async with open_http_engine(server.settings()) as engine:
        assert (await engine.generate(request(prompt=1000))).token_ids.tolist() == [5, 6, 7]


async def test_a_server_that_is_not_there_is_refused() -> None:
    async with serving() as gone:
        settings = gone.settings()
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        async with open_http_engine(settings):
            pass


async def test_a_server_that_hangs_when_it_is_opened_is_refused(server: Server) -> None:
    server.hold_models = anyio.Event()
    with anyio.fail_after(10), pytest.raises(ConfigurationError, match=r"not say within 0\.05 s .* curl http://127"):
        async with open_http_engine(server.settings(start_timeout_s=0.05)):
            pass


async def test_waits_between_tries_at_the_start_are_within_its_time(server: Server) -> None:
    server.first = [web.Response(status=503, headers={"Retry-After": "60"}) for _ in range(3)]
    patient = Retries(tries=3, longest_asked_s=120.0)
    with anyio.fail_after(10), pytest.raises(ConfigurationError, match="not say within"):
        async with open_http_engine(server.settings(start_timeout_s=0.05, retries=patient)):
            pass


async def test_the_wait_before_another_try_is_not_the_episodes_own_time(server: Server) -> None:
    waits = [IMPATIENT.wait_s(request().request_id, failures) for failures in (1, 2)]
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=503), web.Response(status=503)]
        with anyio.CancelScope(deadline=anyio.current_time() + 60) as limit, own_time(limit) as own:
            await engine.generate(request())
    assert own.waited_s == pytest.approx(sum(waits), abs=0.5)
    assert own.waited_s > 0.9 * sum(waits)


async def test_the_wait_that_a_server_asks_for_is_not_the_episodes_own_time(server: Server) -> None:
    async with open_http_engine(server.settings(retries=Retries(longest_asked_s=1.0, first_wait_s=0.001))) as engine:
        server.first = [web.Response(status=429, headers={"Retry-After": "0.05"})]
        with anyio.CancelScope(deadline=anyio.current_time() + 60) as limit, own_time(limit) as own:
            await engine.generate(request())
    assert own.waited_s >= 0.049


async def test_the_wait_for_a_connection_is_not_the_episodes_own_time(server: Server) -> None:
    server.hold = anyio.Event()
    waiting: list[bool] = []

    async def episode(engine: HttpEngine) -> None:
        with anyio.CancelScope(deadline=anyio.current_time() + 60) as limit, own_time(limit):
            async with anyio.create_task_group() as group:
                group.start_soon(engine.generate, request())
                with anyio.fail_after(10):
                    while server.connections < 1:
                        await anyio.lowlevel.checkpoint()
                waiting.append(limit.deadline == math.inf)
                if len(waiting) == 2 and server.hold is not None:
                    server.hold.set()

    async with open_http_engine(server.settings(concurrency=1)) as engine, anyio.create_task_group() as episodes:
        episodes.start_soon(episode, engine)
        episodes.start_soon(episode, engine)
    assert sorted(waiting) == [False, True]


async def test_a_chat_counts_its_tokens(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        answer = await engine.chat(
            [{"role": "user", "content": "why?"}], max_tokens=9, json_schema='{"type": "object"}'
        )
        statistics = engine.statistics()
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("key", 4, 3)
    assert answer.model == "tiny-served"
    assert server.asked[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (statistics.prompt_tokens, statistics.generated_tokens) == (4, 3)


@given(st.text(max_size=20), st.integers(1, 60))
def test_waits_grow_to_a_bound_and_repeat_exactly(name: str, failures: int) -> None:
    retries = Retries(first_wait_s=0.5, longest_wait_s=30.0)
    wait = retries.wait_s(name, failures)
    longest = min(30.0, 0.5 * 2.0 ** (failures - 1))
    assert longest / 2 <= wait <= longest
    assert wait == retries.wait_s(name, failures)


def test_a_wait_may_be_asked_for_as_a_number_or_a_date() -> None:
    assert asked_wait("7") == 7.0
    later = asked_wait(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert later is not None
    assert 95 < later < 101
    assert asked_wait("soon") is None
    assert asked_wait(None) is None
