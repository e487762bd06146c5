"""One pool of real workers for each module of tests: starting Java takes longer than most of them.

Not for the whole session: the event loop of a fixture runs as long as the fixture lives, and tests elsewhere start
loops of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.pool import WorkerPool


@pytest.fixture(scope="module")
async def textworld(anyio_backend: str) -> AsyncIterator[TextWorldExpressEnvironment]:
    """The environment over a pool of one worker."""
    async with WorkerPool(workers=1) as pool:
        yield TextWorldExpressEnvironment(pool=pool)
