"""Engines as chat models, and answers held to a schema over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import numpy as np
import pytest
from aiohttp import web

from dreamsim.engines.chat import EngineChat, HttpChat
from dreamsim.engines.openai_http import open_http_engine
from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.engines.tokenizers import ChatFrame
from dreamsim.errors import EngineError
from dreamsim.records.completion import GenerationRequest, Sampling
from tests.engines.server import Server, serving

SCHEMA = json.dumps({"type": "object", "properties": {"score": {"enum": [0, 1, 2]}}, "required": ["score"]})
TOKENIZER = ByteTokenizer()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


def request(schema: str | None = SCHEMA) -> GenerationRequest:
    return GenerationRequest(
        request_id="e1-0",
        prompt_token_ids=np.arange(4, dtype=np.int32),
        sampling=Sampling(max_tokens=8, json_schema=schema),
        seed=0,
    )


async def test_a_request_carries_its_schema(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        await engine.generate(request())
        await engine.generate(request(None))
    told = server.asked[0]["response_format"]
    assert told["type"] == "json_schema"
    assert told["json_schema"]["schema"] == json.loads(SCHEMA)
    assert "response_format" not in server.asked[1]


async def test_a_question_carries_its_schema(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        chat = HttpChat(engine, max_tokens=8, timeout_s=30)
        said = await chat.answer("be brief", "how much?", json_schema=SCHEMA, temperature=0.5, seed=3)
    asked = server.asked[0]
    assert [turn["content"] for turn in asked["messages"]] == ["be brief", "how much?"]
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert (asked["temperature"], asked["seed"], said.text, chat.name) == (0.5, 3, "key", "tiny@0")


@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_that_refuses_schemas_is_asked_without_from_then_on(server: Server, status: int) -> None:
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=status, text="response_format is not supported")]
        await engine.generate(request())
        await engine.generate(request())
    assert ["response_format" in body for body in server.asked] == [True, False, False]


async def test_a_refusal_for_another_reason_is_an_error(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        server.first = [web.Response(status=400, text="the temperature is too high")]
        with pytest.raises(EngineError, match="temperature"):
            await engine.generate(request())


async def test_an_engine_reads_the_frame_and_its_stop_token_is_no_part_of_the_json() -> None:
    asked: list[GenerationRequest] = []

    def respond(got: GenerationRequest) -> str:
        asked.append(got)
        return '{"score": 2}<end>'

    frame = ChatFrame(head=TOKENIZER.encode("[S]be brief[U]"), tail=TOKENIZER.encode("[A]"))
    engine = ScriptedEngine(respond, TOKENIZER)
    chat = EngineChat(engine, TOKENIZER, lambda system: frame, max_tokens=64, timeout_s=30)
    said = await chat.answer("be brief", "how much?", json_schema=SCHEMA, seed=5)
    assert TOKENIZER.decode(asked[0].prompt_token_ids) == "[S]be brief[U]how much?[A]"
    assert (asked[0].sampling.json_schema, asked[0].seed) == (SCHEMA, 5)
    assert said.text == '{"score": 2}'


async def test_without_a_template_the_texts_follow_each_other() -> None:
    engine = ScriptedEngine(lambda got: TOKENIZER.decode(got.prompt_token_ids), TOKENIZER)
    chat = EngineChat(engine, TOKENIZER, lambda system: None, max_tokens=64, timeout_s=30)
    assert (await chat.answer("be brief", "how much?")).text == "be brief\n\nhow much?\n\n"


async def test_an_answer_that_takes_too_long_can_be_asked_for_again() -> None:
    engine = ScriptedEngine(lambda got: "x", TOKENIZER, latency=Latency(start_s=60))
    chat = EngineChat(engine, TOKENIZER, lambda system: None, max_tokens=64, timeout_s=0.01)
    with pytest.raises(EngineError, match=r"within 0\.01 s") as caught:
        await chat.answer("be brief", "how much?")
    assert caught.value.recoverable
