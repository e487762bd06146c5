"""What is refused before vLLM is asked, and what vLLM is asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dreamsim.engines.vllm_process import root_cause
from dreamsim.engines.vllm_settings import (
    GIB,
    PromptLookup,
    VllmSettings,
    engine_arguments,
    process_environment,
)
from dreamsim.errors import ConfigurationError


def adapter(path: Path, *, rank: int = 12, cut: int = 0, **config: Any) -> Path:
    """A directory in peft's layout; `cut` bytes are missing at the end of its weights."""
    path.mkdir(exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps({"r": rank, **config}))
    header = json.dumps({"lora_A": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(8)
    (path / "adapter_model.safetensors").write_bytes(weights[: len(weights) - cut])
    return path


def test_the_name_is_the_models_last_part() -> None:
    assert VllmSettings(model="/models/tiny/").display_name == "tiny"
    assert VllmSettings(model="someone/some-model").display_name == "some-model"
    assert VllmSettings(model="someone/some-model", name="policy").display_name == "policy"


def test_the_cache_has_a_size_of_its_own_for_each_engine() -> None:
    sizes = [
        engine_arguments(VllmSettings(model="m", kv_cache_gib=gib), on_cpu=on_cpu).get("kv_cache_memory_bytes")
        for gib, on_cpu in ((0.5, True), (None, True), (None, False))
    ]
    assert sizes == [GIB // 2, 2 * GIB, None]


def test_blocks_are_small_on_a_cpu_unless_told_otherwise() -> None:
    assert engine_arguments(VllmSettings(model="m"), on_cpu=True)["block_size"] == 32
    assert engine_arguments(VllmSettings(model="m", block_size=64), on_cpu=True)["block_size"] == 64
    assert "block_size" not in engine_arguments(VllmSettings(model="m"), on_cpu=False)


def test_seeded_prompts_are_computed_whole_on_a_cpu() -> None:
    seeded = VllmSettings(model="m", seeded=True)
    assert engine_arguments(seeded, on_cpu=True)["enable_chunked_prefill"] is False
    assert "enable_chunked_prefill" not in engine_arguments(seeded, on_cpu=False)
    assert "enable_chunked_prefill" not in engine_arguments(VllmSettings(model="m"), on_cpu=True)


def test_a_step_that_holds_no_whole_prompt_is_refused_with_seeds_on_a_cpu() -> None:
    small = VllmSettings(model="m", seeded=True, max_model_len=1024, max_num_batched_tokens=512)
    with pytest.raises(ConfigurationError, match="max_num_batched_tokens = 512"):
        engine_arguments(small, on_cpu=True)
    assert engine_arguments(small, on_cpu=False)["max_num_batched_tokens"] == 512


def test_prompt_lookup_is_vllms_ngram_method() -> None:
    told = engine_arguments(VllmSettings(model="m", speculative=PromptLookup(tokens=3)), on_cpu=True)
    assert told["speculative_config"]["method"] == "ngram"
    assert told["speculative_config"]["num_speculative_tokens"] == 3


def test_adapters_make_room_for_their_highest_rank(tmp_path: Path) -> None:
    adapters = {"policy": adapter(tmp_path / "a", rank=4), "experience": adapter(tmp_path / "b", rank=12)}
    told = engine_arguments(VllmSettings(model="m", adapters=adapters), on_cpu=False)
    assert (told["enable_lora"], told["max_loras"], told["max_lora_rank"]) == (True, 2, 16)


def test_an_adapter_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"adapter 'policy'.*no readable adapter_config\.json"):
        VllmSettings(model="m", adapters={"policy": tmp_path / "nowhere"})


def test_an_adapter_whose_weights_are_cut_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="truncated"):
        VllmSettings(model="m", adapters={"policy": adapter(tmp_path / "a", cut=3)})
    with pytest.raises(ConfigurationError, match="no readable adapter_model"):
        VllmSettings(model="m", adapters={"policy": adapter(tmp_path / "a", cut=40)})


@pytest.mark.parametrize(("rank", "config"), [(0, {}), (4096, {}), (8, {"modules_to_save": ["lm_head"]})])
def test_an_adapter_that_vllm_cannot_load_is_refused(tmp_path: Path, rank: int, config: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="adapter 'policy'"):
        VllmSettings(model="m", adapters={"policy": adapter(tmp_path / "a", rank=rank, **config)})


def test_one_core_is_left_to_this_process() -> None:
    cores = len(os.sched_getaffinity(0))
    told = process_environment(VllmSettings(model="m"), on_cpu=True)
    assert told["OMP_NUM_THREADS"] == str(max(1, cores - 1))
    assert process_environment(VllmSettings(model="m", cpu_threads=3), on_cpu=True)["OMP_NUM_THREADS"] == "3"
    assert process_environment(VllmSettings(model="m"), on_cpu=False) == {}


@pytest.mark.parametrize("cores", ["all", "1-", "99999"])
def test_cores_that_are_none_are_refused(cores: str) -> None:
    with pytest.raises(ConfigurationError, match="cpu_cores"):
        process_environment(VllmSettings(model="m", cpu_cores=cores), on_cpu=True)


def test_the_root_cause_is_the_last_error_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "INFO fine\n"
        "ValueError: an early one\n"
        "(EngineCore pid=7) Traceback (most recent call last):\n"
        "(EngineCore pid=7) torch.OutOfMemoryError: no room for 3 GiB\n"
        "INFO [shutdown] done\n"
    )
    assert root_cause(log) == "torch.OutOfMemoryError: no room for 3 GiB"
    assert root_cause(tmp_path / "nowhere") is None


def test_an_adapter_that_will_be_replaced_has_room_for_the_old_and_the_new(tmp_path: Path) -> None:
    fixed = {"experience": adapter(tmp_path / "a", rank=4), "policy": adapter(tmp_path / "b", rank=4)}
    wanted = VllmSettings(model="m", adapters=fixed, swapped_adapters={"policy": 24, "tasks": 8})
    told = engine_arguments(wanted, on_cpu=False)
    assert (told["enable_lora"], told["max_loras"], told["max_lora_rank"]) == (True, 5, 32)


@pytest.mark.parametrize("rank", [0, 4096])
def test_room_for_a_rank_that_vllm_cannot_load_is_refused(rank: int) -> None:
    with pytest.raises(ConfigurationError, match="adapter 'policy': rank"):
        VllmSettings(model="m", swapped_adapters={"policy": rank})
