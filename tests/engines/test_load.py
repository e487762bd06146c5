"""Engines tell how busy they are: from vLLM's own statistics, from a server's metrics, from a modelled cache."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines.http_load import parse_load
from dreamsim.engines.openai_http import open_http_engine
from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.engines.scripted_cache import ScriptedCache
from dreamsim.engines.vllm_load import LoadBook, load_logger
from dreamsim.errors import ContextOverflowError, EngineError
from dreamsim.flow.adapting import LoadTelling
from dreamsim.records.completion import GenerationRequest, Sampling
from dreamsim.records.load import EngineLoad
from tests.engines.server import serving
from tests.flow.runs import in_virtual_time

pytestmark = pytest.mark.anyio

PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 4.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 11.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.75
vllm:num_preemptions_total{engine="0",model_name="tiny"} 1.2e+02
"""


def test_a_servers_engines_are_read_together() -> None:
    assert parse_load(PAGE) == EngineLoad(running=7, waiting=11, cache_use=0.75, preemptions=120)


@given(st.text(max_size=200))
def test_a_page_that_is_not_vllms_tells_nothing(page: str) -> None:
    assert parse_load(page) is None


def test_all_ranks_of_vllm_count_together_and_preemptions_add_up() -> None:
    book = LoadBook()
    for rank, use in ((0, 0.5), (1, 0.9)):
        scheduler = SimpleNamespace(
            num_running_reqs=2, num_waiting_reqs=3, num_skipped_waiting_reqs=1, kv_cache_usage=use
        )
        book.record(scheduler, SimpleNamespace(num_preempted_reqs=5), rank)
    book.record(None, None)
    assert book.load() == EngineLoad(running=4, waiting=8, cache_use=0.9, preemptions=10)


async def test_a_vllm_server_is_asked_beside_its_api() -> None:
    async with serving() as server, open_http_engine(server.settings()) as engine:
        server.metrics = PAGE
        assert isinstance(engine, LoadTelling)
        assert await engine.load() == parse_load(PAGE)


@pytest.mark.parametrize("status", [404, 405])
async def test_a_server_that_has_no_metrics_is_asked_once(status: int) -> None:
    async with serving() as server, open_http_engine(server.settings()) as engine:
        server.metrics_status = status
        assert [await engine.load(), await engine.load()] == [None, None]
        assert server.metrics_asked == 1


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_a_server_that_cannot_tell_now_is_asked_again(status: int) -> None:
    async with serving() as server, open_http_engine(server.settings()) as engine:
        server.metrics, server.metrics_status = PAGE, status
        with pytest.raises(EngineError, match=str(status)):
            await engine.load()
        server.metrics_status = 200
        assert await engine.load() == parse_load(PAGE)


def engine_with(cache: ScriptedCache) -> ScriptedEngine:
    latency = Latency(start_s=0.1, prompt_token_s=0.01, token_s=0.01)
    return ScriptedEngine(lambda request: "x" * 64, ByteTokenizer(), latency=latency, cache=cache)


def request(number: int) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"r{number}",
        prompt_token_ids=np.zeros(32, np.int32),
        sampling=Sampling(max_tokens=64),
        seed=0,
    )


async def ask_all(engine: ScriptedEngine, count: int) -> float:
    """Seconds until all are answered."""
    begun = anyio.current_time()
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(engine.generate, request(number))
    return anyio.current_time() - begun


def test_requests_that_fit_are_not_preempted() -> None:
    cache = ScriptedCache(tokens=960)
    in_virtual_time(partial(ask_all, engine_with(cache), 10))
    assert (cache.preemptions, cache.load()) == (0, EngineLoad(cache_use=0.0))


def test_too_many_requests_preempt_each_other_and_all_are_answered() -> None:
    crowded, narrow = ScriptedCache(tokens=960), ScriptedCache(tokens=960, width=10)
    for cache in (crowded, narrow):
        engine = engine_with(cache)
        in_virtual_time(partial(ask_all, engine, 60))
        assert engine.statistics().requests == 60
    assert crowded.preemptions > narrow.preemptions == 0


def test_what_never_fits_is_refused() -> None:
    with pytest.raises(ContextOverflowError, match="96 tokens in a cache of 90"):
        in_virtual_time(partial(ask_one, engine_with(ScriptedCache(tokens=90))))


async def ask_one(engine: ScriptedEngine) -> None:
    await engine.generate(request(0))


@given(st.lists(st.floats(0, 3), min_size=1, max_size=12), st.integers(96, 400), st.integers(1, 12))
def test_requests_that_are_cancelled_at_any_moment_give_everything_back(
    moments: list[float], tokens: int, width: int
) -> None:
    cache = ScriptedCache(tokens=tokens, width=width)
    engine = engine_with(cache)

    async def give_up(number: int, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await engine.generate(request(number))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number, seconds in enumerate(moments):
                group.start_soon(give_up, number, seconds)

    in_virtual_time(main)
    assert cache.load() == EngineLoad(cache_use=0.0, preemptions=cache.preemptions)


@pytest.mark.vllm
def test_vllms_own_bookkeeping_takes_our_logger_in_place_of_its_prometheus_one() -> None:
    loggers = pytest.importorskip("vllm.v1.metrics.loggers", reason="pip install 'dreamsim-rl[cpu]'")
    stats = pytest.importorskip("vllm.v1.metrics.stats")
    book = LoadBook()
    manager = loggers.StatLoggerManager(
        None, engine_idxs=[0], custom_stat_loggers=[load_logger(book)], enable_default_loggers=False
    )
    manager.log_engine_initialized()
    told = stats.SchedulerStats(num_running_reqs=2, num_waiting_reqs=3, kv_cache_usage=0.5)
    step = stats.IterationStats()
    step.num_preempted_reqs = 4
    manager.record(told, step)
    manager.record(stats.SchedulerStats(), None)
    assert len(manager.stat_loggers) == 1
    assert book.load() == EngineLoad(running=0, waiting=0, cache_use=0.0, preemptions=4)
