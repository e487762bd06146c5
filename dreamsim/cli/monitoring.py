"""`/metrics` and `/health` over HTTP, while a run goes on.

In: snapshots. Out: a server on one address. Always: it only reads; an address that is taken is refused before the run
begins; requests are short, without a body, and answered from one snapshot each.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dreamsim.errors import UsageError
from dreamsim.runtime.exposition import CONTENT_TYPE, render_metrics
from dreamsim.runtime.health import health_of
from dreamsim.runtime.snapshot import Snapshot


@asynccontextmanager
async def serving_metrics(
    snapshot: Callable[[], Snapshot], *, host: str, port: int, stall_s: float
) -> AsyncIterator[str]:
    """Serve until the context is left; gives the address. Port 0 takes a free one.

    Raises:
        UsageError: the address cannot be used.
    """
    from aiohttp import web

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render_metrics(snapshot()).encode(), headers={"Content-Type": CONTENT_TYPE})

    async def health(_: web.Request) -> web.Response:
        now = health_of(snapshot(), stall_s=stall_s)
        said = {"status": "ok" if now.good else "ill", "reason": now.reason}
        return web.Response(status=200 if now.good else 503, text=json.dumps(said), content_type="application/json")

    application = web.Application(client_max_size=1024)
    application.router.add_get("/metrics", metrics)
    application.router.add_get("/health", health)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise UsageError(f"{host}:{port} cannot be served ({error.strerror}): set run.metrics_port") from error
        at = f"[{host}]" if ":" in host else host
        yield f"http://{at}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
