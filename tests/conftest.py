"""What holds in every test: no network, no blocked event loop, the same examples from Hypothesis every time.

Coroutine tests need no mark: anyio's plugin runs them on asyncio.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

# Before any test module imports these libraries: each reads its switch at import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["VLLM_NO_USAGE_STATS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# A shell that starts tests in the background has SIGINT ignored, and whoever is started from here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `ci` repeats itself exactly, `explore` looks for something new: HYPOTHESIS_PROFILE=explore make test.
settings.register_profile("ci", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("explore", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the real engine come last: what vLLM leaves to the garbage collector is then nobody else's surprise."""
    items.sort(key=lambda item: item.get_closest_marker("vllm") is not None)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio only: vLLM runs on nothing else."""
    return "asyncio"


@pytest.fixture(scope="session")
def loop_guard() -> BlockBuster:
    """Knows the calls that block; blames those that come through our packages, not a test's own set-up."""
    return BlockBuster(["dreamsim", "dreamsim_adapters", "dreamsim_trainers"])


@pytest.fixture(autouse=True)
def event_loop_never_blocks(request: pytest.FixtureRequest, loop_guard: BlockBuster) -> Iterator[None]:
    """A call that blocks the running event loop raises BlockingError where it happens.

    Not in tests marked `vllm` (the engine reads files and loads libraries while it starts) or `may_block`.
    """
    if request.node.get_closest_marker("vllm"):
        yield
        gc.collect()  # vLLM's sockets and loops, in the thread that made them
        return
    if request.node.get_closest_marker("may_block"):
        yield
        return
    loop_guard.activate()
    try:
        yield
    finally:
        loop_guard.deactivate()
