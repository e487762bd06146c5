"""What others may reach of a run while it goes on: its control socket, and its numbers over HTTP if asked for.

In: settings. Out: both, open until the context is left. Always: what cannot be had is refused before engines start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from dreamsim.cli.control_socket import controlled
from dreamsim.cli.monitoring import serving_metrics
from dreamsim.cli.run_directory import RunDirectory
from dreamsim.flow.control import RunControl
from dreamsim.runtime.config import RunSection
from dreamsim.runtime.telemetry import Telemetry


@asynccontextmanager
async def attended(
    run: RunSection,
    directory: RunDirectory,
    control: RunControl,
    telemetry: Telemetry,
    say: Callable[[str], Awaitable[None]],
) -> AsyncIterator[None]:
    """Open what `run` asks for; `say` is told where the numbers are.

    Raises:
        UsageError: another run is alive in the directory, or the address is taken.
    """
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(controlled(directory.path, control, telemetry))
        if run.metrics_port:
            serving = serving_metrics(
                telemetry.snapshot, host=run.metrics_host, port=run.metrics_port, stall_s=run.stall_s
            )
            await say(f"{await opened.enter_async_context(serving)}/metrics and /health")
        yield
