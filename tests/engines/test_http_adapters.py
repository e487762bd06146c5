"""Adapters of a server, replaced while it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from dreamsim.engines.adapted import AdaptedEngine
from dreamsim.engines.openai_http import open_http_engine
from dreamsim.errors import ConfigurationError, EngineError
from dreamsim.records.completion import GenerationRequest, Sampling
from dreamsim.records.weights import WeightsUpdate
from tests.engines.server import Server, serving


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


def request() -> GenerationRequest:
    prompt = np.arange(4, dtype=np.int32)
    return GenerationRequest(request_id="r", prompt_token_ids=prompt, sampling=Sampling(max_tokens=8), seed=0)


def adapter(version: int) -> WeightsUpdate:
    return WeightsUpdate(version=version, path=Path(f"/weights/v{version}"), kind="lora")


async def test_every_version_is_a_model_of_its_own_and_the_old_one_goes(server: Server) -> None:
    async with open_http_engine(server.settings(swapped_adapters=("policy",))) as engine:
        policy = AdaptedEngine(engine, "policy")
        answers = [await policy.generate(request())]
        for version in (1, 2):
            await policy.load_weights(adapter(version))
            answers.append(await policy.generate(request()))
        await engine.generate(request())
    assert [one.version for one in answers] == ["0", "policy-v1", "policy-v2"]
    assert [one["model"] for one in server.asked] == ["tiny", "policy-v1", "policy-v2", "tiny"]
    assert server.adapter_calls == [
        ("load_lora_adapter", {"lora_name": "policy-v1", "lora_path": "/weights/v1"}),
        ("load_lora_adapter", {"lora_name": "policy-v2", "lora_path": "/weights/v2"}),
        ("unload_lora_adapter", {"lora_name": "policy-v1"}),
    ]


async def test_a_server_that_takes_no_adapters_says_how_to_start_it(server: Server) -> None:
    async with open_http_engine(server.settings(swapped_adapters=("policy",))) as engine:
        server.first = [web.Response(status=404, text="Not Found")]
        with pytest.raises(EngineError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1") as caught:
            await AdaptedEngine(engine, "policy").load_weights(adapter(1))
    assert not caught.value.recoverable


async def test_the_old_adapter_serves_on_where_the_new_one_cannot_be_loaded(server: Server) -> None:
    async with open_http_engine(server.settings(swapped_adapters=("policy",))) as engine:
        policy = AdaptedEngine(engine, "policy")
        await policy.load_weights(adapter(1))
        server.first = [web.Response(status=400, text="rank 64 is greater than 16")]
        with pytest.raises(EngineError, match="rank 64"):
            await policy.load_weights(adapter(2))
        assert (await policy.generate(request())).version == policy.version == "policy-v1"


async def test_a_whole_model_is_refused_with_what_to_do_instead(server: Server) -> None:
    async with open_http_engine(server.settings()) as engine:
        with pytest.raises(ConfigurationError, match="train a LoRA adapter"):
            await engine.load_weights(WeightsUpdate(version=1, path=Path("v1"), kind="full"))
