"""A small OpenAI-compatible server on loopback, for tests of the HTTP engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiohttp import web

from dreamsim.engines.http_client import Retries
from dreamsim.engines.openai_http import HttpSettings

IMPATIENT = Retries(tries=3, first_wait_s=0.001, longest_wait_s=0.002, longest_asked_s=0.01)
Answering = Callable[[web.Request], Awaitable[web.Response]]


class Server:
    """Answers as vLLM does, unless told otherwise."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.adapter_calls: list[tuple[str, dict[str, Any]]] = []
        self.first: list[web.Response] = []
        """Given before anything else, one per request."""
        self.card: dict[str, Any] = {"id": "tiny", "owned_by": "vllm", "max_model_len": 64}
        self.choice: dict[str, Any] = {
            "token_ids": [5, 6, 7],
            "text": "key",
            "finish_reason": "stop",
            "logprobs": {"token_logprobs": [-0.5, -1.0, None], "tokens": ["k", "e", "y"]},
        }
        self.usage: dict[str, Any] = {"prompt_tokens": 4, "completion_tokens": 3}
        self.connections = 0
        self.most_connections = 0
        self.disconnected = anyio.Event()
        self.hold: anyio.Event | None = None
        """Answers wait for it."""
        self.hold_models: anyio.Event | None = None
        """What it says about its models waits for it."""
        self.metrics = ""
        """Its page of metrics."""
        self.metrics_status = 200
        """What it is answered with; 404 is a server that has no such page."""
        self.metrics_asked = 0

    async def completions(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        self.headers.append(dict(request.headers))
        self.connections += 1
        self.most_connections = max(self.connections, self.most_connections)
        try:
            if self.hold is not None:
                await self.hold.wait()
            return self.first.pop(0) if self.first else web.json_response(self.answer(request.path))
        except anyio.get_cancelled_exc_class():
            self.disconnected.set()
            raise
        finally:
            self.connections -= 1

    def answer(self, path: str) -> dict[str, Any]:
        choice = self.choice
        if path.endswith("chat/completions"):
            choice = {"message": {"role": "assistant", "content": self.choice["text"]}, "finish_reason": "stop"}
        return {"model": "tiny-served", "choices": [choice], "usage": self.usage}

    async def adapters(self, request: web.Request) -> web.Response:
        self.adapter_calls.append((request.path.rpartition("/")[2], await request.json()))
        return self.first.pop(0) if self.first else web.Response(text="Success: done.")

    async def models(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        if self.hold_models is not None:
            await self.hold_models.wait()
        return self.first.pop(0) if self.first else web.json_response({"data": [self.card]})

    async def load(self, request: web.Request) -> web.Response:
        self.metrics_asked += 1
        return web.Response(status=self.metrics_status, text=self.metrics)

    def settings(self, **changes: Any) -> HttpSettings:
        """Settings that reach this server."""
        given = {"url": self.url, "model": "tiny", "retries": IMPATIENT, "api_key_variable": "TEST_KEY", **changes}
        return HttpSettings(**given)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A running server."""
    server = Server()
    application = web.Application()
    application.router.add_post("/v1/completions", server.completions)
    application.router.add_post("/v1/chat/completions", server.completions)
    application.router.add_post("/v1/load_lora_adapter", server.adapters)
    application.router.add_post("/v1/unload_lora_adapter", server.adapters)
    application.router.add_get("/v1/models", server.models)
    application.router.add_get("/metrics", server.load)
    # Without cancellation a handler would not notice that its client is gone.
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()
