"""An engine in a process of its own that is killed, again and again, while a run asks it.

In: a port, a seed. Out: an OpenAI-compatible server on loopback whose process gets SIGKILL at seeded moments and is
started again, and the roles of a run that plays against it. Always: what it answers depends on the request alone, so a
request that is asked again gets the same answer; the run's own part is the real one: HTTP engine, policy, store.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from dreamsim.engines.http_client import Retries
from dreamsim.engines.scripted import ByteTokenizer
from dreamsim.runtime.seeds import generator

MODEL: Final = "scripted"
TOKENIZER: Final = ByteTokenizer()
PATIENCE: Final = Retries(tries=4, first_wait_s=0.02, longest_wait_s=0.2)
"""Shorter than some of the times that the engine is away, so that some episodes fail and have to be accounted for."""
LONGEST_ALIVE_S: Final = 0.6
LONGEST_AWAY_S: Final = 0.25


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve(port: int) -> None:
    """Answer until killed."""
    from aiohttp import web

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": MODEL, "owned_by": "vllm", "max_model_len": 8192}]})

    async def completions(request: web.Request) -> web.Response:
        asked = await request.json()
        ids = TOKENIZER.encode(answer(TOKENIZER.decode(np.array(asked["prompt"], np.int32)), int(asked["seed"])))
        told = {"token_logprobs": [-0.5] * len(ids), "tokens": [""] * len(ids)}
        choice = {"token_ids": ids.tolist(), "text": "", "finish_reason": "stop", "logprobs": told}
        return web.json_response(
            {"model": MODEL, "choices": [choice], "usage": {"prompt_tokens": len(asked["prompt"])}}
        )

    application = web.Application()
    application.router.add_get("/v1/models", models)
    application.router.add_post("/v1/completions", completions)
    web.run_app(application, host="127.0.0.1", port=port, print=None, handle_signals=False, reuse_address=True)


def answer(prompt: str, seed: int) -> str:
    """One of the possible actions, by the request's seed."""
    actions = prompt.rpartition("Possible actions: ")[2].partition("\n")[0].split("; ")
    return f"<action> {actions[seed % len(actions)]}\n<end>"


def keep_killing(port: int, seed: int, number: int, counted: Path) -> int:
    """Start a process that starts the engine, kills it and starts it again; returns its id, to be killed at the end.

    The engine is the keeper's only child; `stop` ends both. Each kill adds a byte to the file `counted`.
    """
    keeper = os.fork()
    if keeper == 0:
        os.setpgid(0, 0)
        draw = generator(seed, "kill9 engine", number)
        while True:
            engine = os.fork()
            if engine == 0:
                _quietly(lambda: serve(port))
            time.sleep(0.2 + float(draw.uniform(0, LONGEST_ALIVE_S)))
            os.kill(engine, signal.SIGKILL)
            os.waitpid(engine, 0)
            with counted.open("ab") as file:
                file.write(b".")
            time.sleep(float(draw.uniform(0, LONGEST_AWAY_S)))
    return keeper


def _quietly(work: Callable[[], None]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    try:
        work()
    finally:
        os._exit(1)


def stop(keeper: int) -> None:
    """Kill the keeper and its engine."""
    os.killpg(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)


def wait_for(port: int, seconds: float = 60.0) -> None:
    """Wait until something listens on a port.

    Raises:
        RuntimeError: nothing does.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError(f"the engine did not come up on port {port} within {seconds:g} s")


def play_against(port: int) -> Callable[[], None]:
    """What a sitting does first: its roles are the engine's policy in the scripted world."""

    def prepare() -> None:
        import dreamsim.cli.assemble
        from dreamsim.agents.language_model import LanguageModelPolicy, PolicySettings
        from dreamsim.cli.models import Roles
        from dreamsim.engines.openai_http import HttpSettings, open_http_engine
        from dreamsim.runtime.measured import MeasuredEngine
        from dreamsim.testing.environment import ScriptedEnvironment

        @asynccontextmanager
        async def open_roles(
            settings: Any, _: object, telemetry: Any, *__: object, **___: object
        ) -> AsyncIterator[Roles]:
            server = HttpSettings(url=f"http://127.0.0.1:{port}/v1", model=MODEL, retries=PATIENCE, concurrency=64)
            async with open_http_engine(server, tokenizer=TOKENIZER) as engine:
                asked = MeasuredEngine(engine, telemetry)
                yield Roles(
                    environment=ScriptedEnvironment(latency_s=settings.scripted.latency_s),
                    policy=LanguageModelPolicy(asked, TOKENIZER, PolicySettings(window=0, max_tokens=200)),
                )

        dreamsim.cli.assemble.open_roles = open_roles  # type: ignore[assignment]  # a stand-in

    return prepare
