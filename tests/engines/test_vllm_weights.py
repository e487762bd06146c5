"""New weights in a running vLLM: it answers as if it had been started with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import pytest

from dreamsim.cli.engines import opened_together
from dreamsim.engines.adapted import AdaptedEngine
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Engine
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.testing import check_weights_receiver
from tests.engines.models import CONTEXT, random_llama

if TYPE_CHECKING:
    from dreamsim.engines.vllm_local import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]
pytest.importorskip("vllm")
PROMPT = np.arange(2, 102, dtype=np.int32)
RANK = 4


def settings(model: Path, **changes: object) -> VllmSettings:
    given: dict[str, object] = {
        "model": str(model),
        "dtype": "float32",
        "max_num_seqs": 16,
        "kv_cache_gib": 0.125,
        "seeded": True,
        "max_num_batched_tokens": CONTEXT,
        **changes,
    }
    return VllmSettings(**given)  # type: ignore[arg-type]  # of several types


def random_adapter(model: Path, path: Path, *, seed: int, rank: int = RANK) -> Path:
    """An adapter that changes what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    shape = LoraConfig(r=rank, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(LlamaForCausalLM.from_pretrained(model), shape)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # zero otherwise, and so without effect
            torch.nn.init.normal_(parameter, std=0.5)
    adapted.save_pretrained(path)
    return path


def greedy_words(model: Path, adapter: Path | None = None) -> list[int]:
    """What transformers and peft make of the prompt."""
    import torch
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    loaded = LlamaForCausalLM.from_pretrained(model)
    if adapter is not None:
        loaded = PeftModel.from_pretrained(loaded, adapter)
    prompt = torch.tensor(PROMPT[None].astype(np.int64))
    told = loaded.generate(input_ids=prompt, max_new_tokens=12, do_sample=False, pad_token_id=0)
    return [int(token) for token in told[0, len(PROMPT) :]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = tmp_path_factory.mktemp("models")
    return random_llama(made / "first"), random_llama(made / "second", seed=1)


@pytest.fixture(scope="module")
async def engines(
    models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, VllmEngine]]:
    """`running` began with the first model and has room for an adapter; `fresh` began with the second one."""
    from dreamsim.engines.vllm_local import open_vllm_engine

    logs = tmp_path_factory.mktemp("logs")
    wanted = {"running": settings(models[0], swapped_adapters={"policy": RANK}), "fresh": settings(models[1])}
    openings = {name: open_vllm_engine(one, log_path=logs / f"{name}.log") for name, one in wanted.items()}
    async with opened_together(openings) as opened:
        yield opened


async def answers(
    engine: Engine, *, temperature: float = 1.0, max_tokens: int = 12, count: int = 4
) -> list[Completion]:
    """What `engine` says to `count` prompts asked one after the other."""
    return [
        await engine.generate(
            GenerationRequest(
                request_id=f"r{number}",
                prompt_token_ids=np.roll(PROMPT, number),
                sampling=Sampling(max_tokens=max_tokens, temperature=temperature),
                seed=number,
            )
        )
        for number in range(count)
    ]


def full(version: int, path: Path) -> WeightsUpdate:
    return WeightsUpdate(version=version, path=path, kind="full")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_it_answers_exactly_as_an_engine_that_was_started_with_the_weights(
    engines: dict[str, VllmEngine], models: tuple[Path, Path], temperature: float
) -> None:
    running, fresh = engines["running"], engines["fresh"]
    before = await answers(running, temperature=temperature)
    await running.load_weights(full(1, models[1]))
    after = await answers(running, temperature=temperature)
    await running.load_weights(full(2, models[0]))
    again = await answers(running, temperature=temperature)
    expected = await answers(fresh, temperature=temperature)
    for one, two in [*zip(after, expected, strict=True), *zip(again, before, strict=True)]:
        assert np.array_equal(one.token_ids, two.token_ids)
        assert np.abs(one.logprobs - two.logprobs).max() < 1e-4
    assert not np.array_equal(before[0].token_ids, after[0].token_ids)
    assert ({one.version for one in after}, {one.version for one in again}) == ({"1"}, {"2"})
    assert after[0].cached_tokens == again[0].cached_tokens == 0  # nothing of the old weights is used


@pytest.mark.parametrize("in_flight", ["drain", "keep", "abort"])
async def test_requests_in_flight_end_well_and_say_what_they_were_begun_with(
    engines: dict[str, VllmEngine], models: tuple[Path, Path], in_flight: InFlight
) -> None:
    running = engines["running"]
    await running.load_weights(full(3, models[1]))
    alone = (await answers(running, temperature=0.0, max_tokens=100, count=1))[0]
    ended: list[Completion] = []

    async def ask() -> None:
        ended.extend(await answers(running, temperature=0.0, max_tokens=100, count=1))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        with anyio.fail_after(60):
            while running.statistics().in_flight == 0:
                await anyio.lowlevel.checkpoint()
        await running.load_weights(full(4, models[0]), in_flight=in_flight)
    other = (await answers(running, temperature=0.0, max_tokens=100, count=1))[0]
    old, new = alone.token_ids.tolist(), other.token_ids.tolist()
    found = ended[0].token_ids.tolist()
    if in_flight == "keep":  # begun by one and ended by the other
        assert (ended[0].version, ended[0].finish_reason) in (("3", "stop"), ("3", "length"))
    else:
        by_one = [("3", old), ("4", new)] if in_flight == "abort" else [("3", old)]
        assert (ended[0].version, found) in by_one
    assert (other.version, old == new) == ("4", False)


async def test_adapters_are_replaced_while_it_runs(
    engines: dict[str, VllmEngine], models: tuple[Path, Path], tmp_path: Path
) -> None:
    running = engines["running"]
    policy = AdaptedEngine(running, "policy")
    await running.load_weights(full(5, models[0]))
    first, second = tmp_path / "v1", tmp_path / "v2"
    await anyio.to_thread.run_sync(lambda: random_adapter(models[0], first, seed=1))
    await anyio.to_thread.run_sync(lambda: random_adapter(models[0], second, seed=2))
    said = [(await answers(policy, temperature=0.0, count=1))[0]]
    for version, path in enumerate((first, second), start=1):
        await policy.load_weights(WeightsUpdate(version=version, path=path, kind="lora"))
        said += await answers(policy, temperature=0.0, count=1)
    expected = [await anyio.to_thread.run_sync(greedy_words, models[0], one) for one in (None, first, second)]
    assert [one.token_ids.tolist() for one in said] == expected
    assert [one.version for one in said] == ["5", "policy-v1", "policy-v2"]
    assert running.version == "5"
    assert set(await running._llm.list_loras()) == {2}  # the old one is gone


async def test_it_keeps_the_contract_of_what_takes_weights(
    engines: dict[str, VllmEngine], models: tuple[Path, Path]
) -> None:
    updates = [full(6 + number, models[(number + 1) % 2]) for number in range(3)]
    await check_weights_receiver(engines["running"], updates, PROMPT)


async def test_what_would_break_it_is_refused_and_it_serves_on(
    engines: dict[str, VllmEngine], models: tuple[Path, Path], tmp_path: Path
) -> None:
    running = engines["running"]
    wide = await anyio.to_thread.run_sync(lambda: random_llama(tmp_path / "wide", vocabulary=300))
    steep = await anyio.to_thread.run_sync(lambda: random_adapter(models[0], tmp_path / "steep", seed=1, rank=8))
    with pytest.raises(ConfigurationError, match="vocab_size 300 instead of 256"):
        await running.load_weights(full(9, wide))
    with pytest.raises(ConfigurationError, match="rank 8 cannot be loaded"):
        await AdaptedEngine(running, "policy").load_weights(WeightsUpdate(version=9, path=steep, kind="lora"))
    assert len(await answers(running, count=1)) == 1
