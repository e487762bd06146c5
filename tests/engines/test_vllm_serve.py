"""The HTTP engine against the server it is made for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import numpy as np
import pytest

from dreamsim.engines.openai_http import HttpEngine, HttpSettings, open_http_engine
from dreamsim.errors import ConfigurationError
from dreamsim.testing import check_engine
from tests.engines.models import CONTEXT, byte_tokenizer, random_llama

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
pytest.importorskip("vllm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A vLLM server that was begun."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A vLLM server; it may still be starting."""
    model = byte_tokenizer(random_llama(tmp_path_factory.mktemp("model")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "tiny", "--enforce-eager"]
    arguments += ["--kv-cache-memory-bytes", str(2**27), "--enable-prompt-tokens-details"]
    arguments += ["--block-size", "32"]  # of blocks as large as by default, the prompt would not fill one
    log = tmp_path_factory.mktemp("log") / "serve.log"
    # What `vllm serve` does, too; but that does not run where vLLM's distribution has another name, as its CPU build's.
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        ) as process,
    ):
        try:
            yield Server(url=f"http://127.0.0.1:{port}/v1", process=process, log=log)
        finally:
            process.terminate()


async def test_a_vllm_server_keeps_the_contract_of_an_engine(server: Server) -> None:
    with anyio.fail_after(500):
        while True:
            try:
                await _check(HttpSettings(url=server.url, model="tiny"))
            except ConfigurationError as error:
                assert "cannot be reached" in str(error)  # noqa: PT017 - the server is still starting
                assert server.process.poll() is None, server.log.read_text(errors="replace")[-2000:]
                await anyio.sleep(0.5)
            else:
                break


async def _check(settings: HttpSettings) -> None:
    prompt = np.arange(2, 102, dtype=np.int32)
    async with open_http_engine(settings) as engine:
        assert engine.max_model_len == CONTEXT
        await check_engine(engine, prompt)
        await _check_counts(engine)


async def _check_counts(engine: HttpEngine) -> None:
    statistics = engine.statistics()
    assert statistics.cached_tokens > 0
    assert statistics.aborted == 4, "the contract check cancels four"
    assert statistics.in_flight == 0
