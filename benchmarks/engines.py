"""How many requests a second one engine answers, by setting: the table of docs/engines.md.

In: names of variants (none: all). Out: one JSON line per variant on standard output.

    python benchmarks/engines.py plain no-logprobs

The model is a Llama with random weights (3 M parameters, bfloat16). The load is that of an episode loop: `--episodes`
clients at once, each asking four times; the first prompt has 125 tokens, each further one is the one before plus its
answer (24 tokens) and 26 new ones, so that they have 200 on average.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from dreamsim.cli.engines import opened_together
from dreamsim.engines.vllm_local import VllmEngine, open_vllm_engine
from dreamsim.engines.vllm_settings import PromptLookup, VllmSettings
from dreamsim.records.completion import GenerationRequest, Sampling
from dreamsim.runtime.seeds import generator

VOCABULARY, STEPS, FIRST, ANSWER, NEW = 1500, 4, 125, 24, 26
PLAIN: Mapping[str, Any] = {"max_num_seqs": 512, "kv_cache_gib": 2.0, "max_model_len": 1024}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "no-logprobs": {"logprobs": False},
    "seeded": {"seeded": True},
    "seqs-128": {"max_num_seqs": 128},
    "seqs-256": {"max_num_seqs": 256},
    "seqs-1024": {"max_num_seqs": 1024},
    "block-64": {"block_size": 64},
    "block-128": {"block_size": 128},
    "small-cache": {"kv_cache_gib": 0.25},
    "batched-4096": {"max_num_batched_tokens": 4096},
    "batched-8192": {"max_num_batched_tokens": 8192},
    "threads-2": {"cpu_threads": 2},
    "bound-1": {"cpu_cores": "0"},
    "bound-2": {"cpu_cores": "0-1"},
    "worker-process": {"worker_process": True},
    "compiled": {"enforce_eager": False},
    "lookup": {"speculative": PromptLookup()},
    "two-engines": {},
    "two-engines-bound": {},
    "two-adapters": {},
    "two-adapters-256": {"max_num_seqs": 256},
}


def random_llama(path: Path) -> None:
    """A small Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        intermediate_size=512,
        vocab_size=VOCABULARY,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(path)


def random_adapter(model: Path, path: Path, *, seed: int) -> None:
    """A LoRA adapter of rank 16 with random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=16, lora_alpha=16, target_modules=targets, init_lora_weights=False)
    get_peft_model(LlamaForCausalLM.from_pretrained(model), lora).save_pretrained(path)


def processor_time() -> float:
    """Processor time of this process and all below it so far, seconds."""
    import psutil

    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


async def load(engines: Sequence[VllmEngine], adapters: Sequence[str | None], episodes: int) -> dict[str, float]:
    """Ask, and count."""
    waits: list[float] = []
    cached = prompt_tokens = 0

    async def ask(index: int, step: int, prompt: np.ndarray[Any, np.dtype[np.int32]]) -> Any:
        nonlocal cached, prompt_tokens
        begun = time.perf_counter()
        completion = await engines[index % len(engines)].generate(
            GenerationRequest(
                request_id=f"episode-{index}-{step}",
                prompt_token_ids=prompt,
                sampling=Sampling(max_tokens=ANSWER),
                seed=index,
                adapter=adapters[index % len(adapters)],
            )
        )
        waits.append(time.perf_counter() - begun)
        cached += completion.cached_tokens
        prompt_tokens += completion.prompt_tokens
        return completion.token_ids

    async def episode(index: int) -> None:
        draw = generator(0, "benchmark", index)
        prompt = draw.integers(2, VOCABULARY, FIRST, dtype=np.int32)
        for step in range(STEPS):
            answer = await ask(index, step, prompt)
            new = draw.integers(2, VOCABULARY, NEW + ANSWER - len(answer), dtype=np.int32)
            prompt = np.concatenate([prompt, answer, new])

    begun, cpu, all_cpu = time.perf_counter(), time.process_time(), processor_time()
    async with anyio.create_task_group() as group:
        for index in range(episodes):
            group.start_soon(episode, index)
    seconds, cpu, all_cpu = time.perf_counter() - begun, time.process_time() - cpu, processor_time() - all_cpu
    requests = STEPS * episodes
    return {
        "requests_per_s": round(requests / seconds, 1),
        "tokens_per_s": round((prompt_tokens + ANSWER * requests) / seconds),
        "median_wait_s": round(float(np.median(waits)), 2),
        "cached_share": round(cached / prompt_tokens, 3),
        "own_cpu_ms_per_request": round(1000 * cpu / requests, 2),
        "all_cpu_ms_per_request": round(1000 * all_cpu / requests, 2),
    }


async def measure(name: str, model: Path, scratch: Path, episodes: int) -> dict[str, Any]:
    """Start what `name` stands for and load it."""
    log = Path(f"{scratch}/{name}.log")
    settings = VllmSettings(model=str(model), **{**PLAIN, **VARIANTS[name]})
    several = [settings]
    adapters: list[str | None] = [None]
    if name.startswith("two-engines"):
        cores = ("0", "1") if name.endswith("bound") else ("", "")
        several = [dataclasses.replace(settings, cpu_cores=core, max_num_seqs=256) for core in cores]
    elif name.startswith("two-adapters"):
        paths = {f"adapter-{number}": scratch / f"adapter-{number}" for number in range(2)}
        for number, path in enumerate(paths.values()):
            random_adapter(model, path, seed=number)
        several = [dataclasses.replace(settings, adapters=paths)]
        adapters = list(paths)
    begun = time.perf_counter()
    openings = {str(number): open_vllm_engine(one, log_path=log) for number, one in enumerate(several)}
    async with opened_together(openings) as opened:
        engines = [engine for engine in opened.values() if isinstance(engine, VllmEngine)]
        started = time.perf_counter() - begun
        await load(engines, adapters, 64)
        for engine in engines:
            await engine.reset_prefix_cache()
        result = await load(engines, adapters, episodes)
        begun = time.perf_counter()
    return {
        "variant": name,
        **result,
        "start_s": round(started, 1),
        "stop_s": round(time.perf_counter() - begun, 1),
    }


def main() -> None:
    """Measure the variants named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--episodes", type=int, default=640)
    parser.add_argument("--asyncio", action="store_true", help="Python's own event loop instead of uvloop")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model")
        random_llama(model)
        for name in given.variants:
            result = anyio.run(
                measure, name, model, Path(scratch), given.episodes, backend_options={"use_uvloop": not given.asyncio}
            )
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
