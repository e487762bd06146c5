"""How vLLM runs in this process.

In: nothing. Out: `VllmSettings`, and from it the arguments of vLLM's engine.
Always: what vLLM would only find out by dying (an adapter that is not there, a rank that does not fit) is refused
here; the defaults are what was measured best on two cores (docs/engines.md) and serve on a GPU as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dreamsim.engines.vllm_process import CORES
from dreamsim.engines.vllm_worker import EXTENSION
from dreamsim.errors import ConfigurationError

GIB = 1024**3
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLookup:
    """Speculation without a draft model: guess that what followed the last tokens before follows them again."""

    tokens: int = 4
    """Most tokens guessed at a time."""
    longest: int = 4
    """Longest run of last tokens looked up in the prompt."""
    shortest: int = 2
    """Shortest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSettings:
    """One engine."""

    model: str
    """Directory of a checkpoint, or its Hugging Face name."""
    name: str = ""
    """For provenance; empty is `model`'s last part."""
    version: str = "0"
    """Version of the weights to begin with."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights."""
    max_model_len: int | None = None
    """Most tokens of prompt and answer; None is what the model allows."""
    max_num_seqs: int = 256
    """Requests computed in one step."""
    max_num_batched_tokens: int | None = None
    """Tokens computed in one step; None is vLLM's choice."""
    kv_cache_gib: float | None = None
    """Memory of the key-value cache, GiB. None is 2 on a CPU, and what `gpu_memory_utilization` leaves on a GPU."""
    gpu_memory_utilization: float | None = None
    """Share of the GPU's memory; None is vLLM's 0.9."""
    block_size: int | None = None
    """Tokens of one cache block, the unit in which prefixes are shared; None is 32 on a CPU, else vLLM's choice."""
    enforce_eager: bool = True
    """No CUDA graphs, no compilation: starts in seconds."""
    enable_prefix_caching: bool = True
    """Keep the computed prefixes of prompts."""
    tensor_parallel_size: int = 1
    """GPUs the model is split over."""
    seeded: bool = False
    """Give every request its own seed: the same request answers the same, and large batches get slower. On a CPU,
    prompts are then computed whole: a step must hold the longest."""
    seed: int = 0
    """The engine's own seed, which all requests draw from in turn unless `seeded`."""
    logprobs: bool = True
    """Return the log-probability of every sampled token, after temperature, top-p and top-k."""
    speculative: PromptLookup | None = None
    """Speculative decoding by prompt lookup; None for none. Log-probabilities stay exact."""
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """LoRA adapters that requests may name, as directories in peft's layout."""
    swapped_adapters: Mapping[str, int] = field(default_factory=dict)
    """LoRA adapters whose weights come or are replaced while it runs, and their greatest rank. Until it is loaded, a
    name here that is not in `adapters` means the model itself. Each takes the memory of two: the old and the new."""
    drain_s: float = 120.0
    """Longest time that new weights wait for requests in flight; what is not finished then is begun again."""
    json_schemas: bool = False
    """Whether answers can be held to a JSON schema (`Sampling.json_schema`): vLLM then loads the tokenizer, too."""
    cpu_threads: int | None = None
    """Threads that compute, on a CPU; None is one less than there are cores, and at least 1."""
    cpu_cores: str = ""
    """Cores they are bound to, as in `0-3` or `0,2`; empty leaves that to the system."""
    worker_process: bool = False
    """Compute in a process below vLLM's own, as vLLM would on a CPU: one more start, one more hop per step."""
    async_scheduling: bool | None = None
    """Plan a step while the last one runs; None is vLLM's choice (never on a CPU)."""
    tells_load: bool = False
    """Whether vLLM keeps statistics, so that the number of live episodes can follow its load (`load`)."""
    shutdown_timeout_s: float = 5.0
    """Longest time a closing engine gets before it is killed."""

    def __post_init__(self) -> None:
        for name, path in self.adapters.items():
            lora_rank(name, path)
        for name, rank in self.swapped_adapters.items():
            if rank not in range(1, LORA_RANKS[-1] + 1):
                raise ConfigurationError(f"adapter '{name}': rank {rank}; vLLM takes 1 to {LORA_RANKS[-1]}")

    @property
    def display_name(self) -> str:
        """`name`, or what the model is called."""
        return self.name or self.model.rstrip("/").rpartition("/")[2]


def lora_rank(name: str, path: Path) -> int:
    """The rank of a LoRA adapter, after a look at its files: asking vLLM for one it cannot load kills the engine.

    Raises:
        ConfigurationError: it cannot be loaded.
    """
    problem = f"adapter '{name}': {path} "
    try:
        told = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        rank = int(told["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(problem + f"has no readable adapter_config.json ({error})") from error
    weights = path / "adapter_model.safetensors"
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 100_000_000)))
            begin, end = 8 + length, weights.stat().st_size
        tensors = [entry for key, entry in header.items() if key != "__metadata__"]
        complete = tensors and max(entry["data_offsets"][1] for entry in tensors) == end - begin
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(problem + f"has no readable adapter_model.safetensors ({error})") from error
    if not complete:
        raise ConfigurationError(problem + "has a truncated or empty adapter_model.safetensors")
    if rank not in range(1, LORA_RANKS[-1] + 1):
        raise ConfigurationError(problem + f"has rank {rank}; vLLM takes 1 to {LORA_RANKS[-1]}")
    if told.get("modules_to_save"):
        raise ConfigurationError(problem + "saves whole modules (modules_to_save), which vLLM does not load")
    return rank


def engine_arguments(settings: VllmSettings, *, on_cpu: bool) -> dict[str, Any]:
    """Keyword arguments of vLLM's `AsyncEngineArgs`.

    Raises:
        ConfigurationError: with `seeded` on a CPU, a step does not hold the longest prompt.
    """
    arguments: dict[str, Any] = {
        "model": settings.model,
        "skip_tokenizer_init": not settings.json_schemas,
        "dtype": settings.dtype,
        "seed": settings.seed,
        "max_num_seqs": settings.max_num_seqs,
        "enforce_eager": settings.enforce_eager,
        "enable_prefix_caching": settings.enable_prefix_caching,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "logprobs_mode": "processed_logprobs",
        "disable_log_stats": True,
        "enable_log_requests": False,
        "worker_extension_cls": EXTENSION,
    }
    optional = {
        "max_model_len": settings.max_model_len,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "block_size": settings.block_size,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "async_scheduling": settings.async_scheduling,
    }
    arguments.update({name: value for name, value in optional.items() if value is not None})
    cache_gib = settings.kv_cache_gib
    if on_cpu:
        # vLLM's own 128 leaves half of what a prompt shares outside whole blocks; below 32 there are no kernels.
        arguments.setdefault("block_size", 32)
        cache_gib = 2.0 if cache_gib is None else cache_gib
        if settings.seeded:
            _check_whole_prompts(settings)
            arguments["enable_chunked_prefill"] = False
    if cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(cache_gib * GIB)
    if settings.speculative is not None:
        arguments["speculative_config"] = {
            "method": "ngram",
            "num_speculative_tokens": settings.speculative.tokens,
            "prompt_lookup_max": settings.speculative.longest,
            "prompt_lookup_min": settings.speculative.shortest,
        }
    swapped = settings.swapped_adapters
    if settings.adapters or swapped:
        highest = max([lora_rank(name, path) for name, path in settings.adapters.items()] + list(swapped.values()))
        arguments["enable_lora"] = True
        arguments["max_loras"] = len({*settings.adapters, *swapped}) + len(swapped)
        arguments["max_lora_rank"] = next(rank for rank in LORA_RANKS if rank >= highest)
    return arguments


def _check_whole_prompts(settings: VllmSettings) -> None:
    """A prompt computed in parts makes vLLM rewind its request's generator, which kills the engine: torch's generators
    cannot be rewound on a CPU. So steps must hold whole prompts."""
    step, longest = settings.max_num_batched_tokens, settings.max_model_len
    if step is not None and longest is not None and step < longest:
        raise ConfigurationError(
            f"max_num_batched_tokens = {step} is less than max_model_len = {longest}: on a CPU, seeded requests need "
            "their prompts computed whole; raise the first, lower the second, or switch `seeded` off"
        )


def process_environment(settings: VllmSettings, *, on_cpu: bool) -> dict[str, str]:
    """What is set in vLLM's process before it is imported there."""
    if not on_cpu:
        return {}
    cores = _cores(settings.cpu_cores)
    available = len(os.sched_getaffinity(0))
    threads = settings.cpu_threads or len(cores) or max(1, available - 1)
    if settings.worker_process:
        return {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
            "VLLM_CPU_OMP_THREADS_BIND": settings.cpu_cores or "nobind",
            "OMP_NUM_THREADS": str(threads),
        }
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        CORES: ",".join(map(str, cores)),
        # vLLM leaves the number alone where it stands here.
        "OMP_NUM_THREADS": str(threads),
    }


def _cores(told: str) -> list[int]:
    """The numbers in `0-3` or `0,2`.

    Raises:
        ConfigurationError: not that.
    """
    numbers: list[int] = []
    try:
        for part in told.split(",") if told else ():
            first, dash, last = part.partition("-")
            numbers += range(int(first), int(last if dash else first) + 1)
    except ValueError:
        raise ConfigurationError(f"cpu_cores = {told!r}: write numbers as in 0-3,6") from None
    available = os.sched_getaffinity(0)
    if not set(numbers) <= available:
        raise ConfigurationError(f"cpu_cores = {told!r}: this process may use {sorted(available)}")
    return numbers
