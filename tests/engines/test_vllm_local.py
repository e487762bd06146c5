"""The real vLLM, with a tiny random Llama: minutes in all, so few tests that each see much."""

from __future__ import annotations

import multiprocessing.process
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from dreamsim.cli.engines import opened_together
from dreamsim.engines.restarting import RestartingEngine, open_restarting_engine
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.errors import ConfigurationError, ContextOverflowError, EngineError
from dreamsim.protocols import Engine
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.weights import WeightsUpdate
from dreamsim.testing import check_completion, check_engine
from tests.engines.models import CONTEXT, random_llama

if TYPE_CHECKING:
    from dreamsim.engines.vllm_local import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
pytest.importorskip("vllm")
PROMPT = np.arange(2, 102, dtype=np.int32)
PARENT = """
import sys, anyio
from pathlib import Path
from dreamsim.engines.vllm_local import open_vllm_engine
from dreamsim.engines.vllm_settings import VllmSettings

async def main():
    async with open_vllm_engine(VllmSettings(model=sys.argv[1], kv_cache_gib=0.125), log_path=Path(sys.argv[2])):
        print("open", flush=True)
        await anyio.sleep_forever()

if __name__ == "__main__":
    anyio.run(main)
"""


def request(
    name: str, *, seed: int = 0, max_tokens: int = 8, temperature: float = 1.0, prompt: int = len(PROMPT)
) -> GenerationRequest:
    return GenerationRequest(
        request_id=name,
        prompt_token_ids=np.resize(PROMPT, prompt),
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature),
        seed=seed,
    )


def settings(model: Path, **changes: object) -> VllmSettings:
    given: dict[str, object] = {
        "model": str(model),
        "dtype": "float32",
        "max_num_seqs": 64,
        "kv_cache_gib": 0.125,
        **changes,
    }
    return VllmSettings(**given)  # type: ignore[arg-type]  # of several types


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
async def engine(model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    from dreamsim.engines.vllm_local import open_vllm_engine

    log = tmp_path_factory.mktemp("log") / "vllm.log"
    # a step holds one long prompt: more at a time are computed one after the other, or in parts
    wanted = settings(model, seeded=True, max_num_batched_tokens=CONTEXT, tells_load=True)
    async with open_vllm_engine(wanted, log_path=log) as opened:
        yield opened


async def test_it_keeps_the_contract_of_an_engine(engine: VllmEngine) -> None:
    await check_engine(engine, PROMPT)


async def test_it_tells_how_busy_it_is(engine: VllmEngine) -> None:
    await engine.generate(request("busy"))
    load = await engine.load()
    assert load is not None
    assert (load.running <= 1, load.waiting, load.preemptions) == (True, 0, 0)
    assert 0.0 <= (load.cache_use or 0.0) <= 1.0


async def test_the_same_seed_gives_the_same_tokens(engine: VllmEngine) -> None:
    one, two, other = [await engine.generate(request(f"s{n}", seed=seed)) for n, seed in enumerate((1, 1, 2))]
    assert np.array_equal(one.token_ids, two.token_ids)
    assert not np.array_equal(one.token_ids, other.token_ids)


async def test_seeds_survive_more_prompts_than_fit_in_a_step(engine: VllmEngine) -> None:
    await engine.reset_prefix_cache()
    drawn: list[Completion] = []

    async def draw(number: int) -> None:
        wanted = request(f"many-{number}", seed=5, prompt=200)
        varied = replace(wanted, prompt_token_ids=np.roll(wanted.prompt_token_ids, number // 2))
        drawn.append(await engine.generate(varied))

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(draw, number)
    assert len({tuple(completion.token_ids) for completion in drawn}) == 6  # as many as there are prompts


@pytest.mark.parametrize("temperature", [1.0, 0.5])
async def test_logprobs_are_those_of_the_distribution_sampled_from(
    engine: VllmEngine, model: Path, temperature: float
) -> None:
    completion = await engine.generate(request("logprobs", max_tokens=20, temperature=temperature))
    check_completion(completion)
    expected = await anyio.to_thread.run_sync(_logprobs_by_transformers, model, completion, temperature)
    assert np.abs(completion.logprobs - expected).max() < 1e-3


def _logprobs_by_transformers(model: Path, completion: Completion, temperature: float) -> NDArray[np.float32]:
    import torch
    from transformers import LlamaForCausalLM

    ids = np.concatenate([PROMPT, completion.token_ids])
    with torch.no_grad():
        logits = LlamaForCausalLM.from_pretrained(model)(torch.tensor(ids[None].astype(np.int64))).logits[0]
    logprobs = torch.log_softmax(logits[len(PROMPT) - 1 : -1] / temperature, -1).numpy()
    return np.asarray(logprobs[np.arange(len(completion.token_ids)), completion.token_ids])


async def test_a_prompt_seen_before_comes_from_the_cache(engine: VllmEngine) -> None:
    await engine.reset_prefix_cache()
    first, second = [await engine.generate(request(f"cache-{n}")) for n in range(2)]
    assert first.cached_tokens == 0
    assert 64 <= second.cached_tokens < len(PROMPT)


async def test_cancelling_aborts_the_requests(engine: VllmEngine) -> None:
    before = engine.statistics()
    async with anyio.create_task_group() as group:
        for index in range(20):
            group.start_soon(engine.generate, request(f"abort-{index}", max_tokens=150))
        with anyio.fail_after(60):
            while engine.statistics().in_flight < 20:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    after = engine.statistics()
    assert after.in_flight == 0
    assert after.aborted == before.aborted + 20
    check_completion(await engine.generate(request("after")))


async def test_an_answer_that_fills_the_context_overflows_it(engine: VllmEngine) -> None:
    with pytest.raises(ContextOverflowError):
        await engine.generate(request("full", prompt=CONTEXT - 3, max_tokens=200))


async def test_an_adapter_it_does_not_have_is_an_engine_error(engine: VllmEngine) -> None:
    asked = GenerationRequest(
        request_id="adapter", prompt_token_ids=PROMPT, sampling=Sampling(max_tokens=2), seed=0, adapter="policy"
    )
    with pytest.raises(EngineError, match="no adapter 'policy'"):
        await engine.generate(asked)


async def test_new_weights_answer_under_their_version(engine: VllmEngine, tmp_path: Path) -> None:
    old = await engine.generate(request("old", temperature=0.0))
    await anyio.to_thread.run_sync(lambda: random_llama(tmp_path, seed=1))
    await engine.load_weights(WeightsUpdate(version=1, path=tmp_path, kind="full"))
    new = await engine.generate(request("new", temperature=0.0))
    assert (old.version, new.version) == ("0", "1")
    assert not np.array_equal(old.token_ids, new.token_ids)


async def test_two_start_at_the_same_time_and_one_dies_alone_the_other_is_started_again(
    model: Path, tmp_path: Path
) -> None:
    from dreamsim.engines.vllm_local import VllmEngine, open_vllm_engine

    async def start() -> AbstractAsyncContextManager[Engine]:
        return open_vllm_engine(settings(model, kv_cache_gib=0.25), log_path=tmp_path / "two.log")

    before = _below(os.getpid())
    openings: dict[str, AbstractAsyncContextManager[Engine]] = {
        "one": open_vllm_engine(settings(model), log_path=tmp_path / "one.log"),
        "two": open_restarting_engine(start, restarts=1),
    }
    async with opened_together(openings) as engines:
        dying, living = engines["one"], engines["two"]
        assert isinstance(dying, VllmEngine)
        assert isinstance(living, RestartingEngine)
        caught: list[EngineError] = []

        async def wait(index: int) -> None:
            with pytest.raises(EngineError) as error:
                await dying.generate(request(f"wait-{index}", max_tokens=100))
            caught.append(error.value)

        async with anyio.create_task_group() as group:
            for index in range(5):
                group.start_soon(wait, index)
            await dying.generate(request("begun", max_tokens=1))
            _process_of(dying).kill()
        await wait(5)
        assert [error.recoverable for error in caught] == [False] * 6
        async with anyio.create_task_group() as group:
            for index in range(5):
                group.start_soon(_answered, living, request(f"answered-{index}", max_tokens=100))
            await living.generate(request("begun", max_tokens=1))
            _process_of(living.alive).kill()
        assert living.restarts == 1
    assert _below(os.getpid()) <= before


def _process_of(engine: Engine) -> multiprocessing.process.BaseProcess:
    from dreamsim.engines.vllm_local import VllmEngine

    assert isinstance(engine, VllmEngine)
    process: multiprocessing.process.BaseProcess = engine._llm.engine_core.resources.engine_manager.processes[0]
    return process


async def _answered(engine: Engine, asked: GenerationRequest) -> None:
    check_completion(await engine.generate(asked))


async def test_giving_up_on_a_start_leaves_no_process(model: Path, tmp_path: Path) -> None:
    from dreamsim.engines.vllm_local import open_vllm_engine

    before = _below(os.getpid())
    async with anyio.create_task_group() as group:

        async def start() -> None:
            async with open_vllm_engine(settings(model), log_path=tmp_path / "log"):
                pass

        group.start_soon(start)
        with anyio.fail_after(120):
            while not _below(os.getpid()) - before:  # noqa: ASYNC110 - processes begin without an event
                await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    assert _below(os.getpid()) <= before


async def test_what_stopped_it_from_starting_is_said(model: Path, tmp_path: Path) -> None:
    from dreamsim.engines.vllm_local import open_vllm_engine

    with pytest.raises(ConfigurationError, match="memory"):
        async with open_vllm_engine(settings(model, kv_cache_gib=10_000), log_path=tmp_path / "log"):
            pass


async def test_no_process_outlives_a_parent_that_is_killed(model: Path, tmp_path: Path) -> None:
    parent = await anyio.to_thread.run_sync(
        lambda: subprocess.Popen(
            [sys.executable, "-c", PARENT, str(model), str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
        )
    )
    try:
        assert parent.stdout is not None
        assert await anyio.to_thread.run_sync(parent.stdout.readline) == "open\n"
        below = [psutil.Process(pid) for pid in _below(parent.pid)]
        assert below
    finally:
        parent.send_signal(signal.SIGKILL)
        await anyio.to_thread.run_sync(parent.communicate)
    gone, alive = await anyio.to_thread.run_sync(lambda: psutil.wait_procs(below, timeout=30))
    assert (len(gone), alive) == (len(below), [])


def _below(pid: int) -> set[int]:
    """Processes below `pid`, without the tracker that multiprocessing keeps as long as we live."""
    return {
        child.pid
        for child in psutil.Process(pid).children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(child.cmdline())
    }
