"""LoRA adapters of a vLLM in this process.

In: a running AsyncLLM and its settings. Out: `AdapterVersions` whose handles are vLLM's `LoRARequest`s.
Always: what vLLM would choke on (files that are no adapter, a rank there is no room for) is refused before it is asked;
numbers are never used twice, because vLLM keeps adapters by number, and its prefix cache apart by name and path.
"""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from dreamsim.engines.adapter_versions import AdapterVersions
from dreamsim.engines.vllm_settings import VllmSettings, lora_rank
from dreamsim.errors import ConfigurationError, EngineError
from dreamsim.records.weights import WeightsUpdate
from dreamsim.runtime.guard import guarded


def adapter_versions(llm: Any, settings: VllmSettings) -> AdapterVersions[Any]:
    """The adapters of `llm`, which was started with `settings`."""
    from vllm.lora.request import LoRARequest

    numbers = itertools.count(1)

    async def add(version: str, path: Path) -> Any:
        request = LoRARequest(version, next(numbers), str(path))
        try:
            await guarded(llm.add_lora(request), waiting_for=f"adapter {version}")
        except Exception as error:
            raise EngineError(f"vLLM could not load adapter {version} from {path}: {error}") from error
        return request

    async def remove(request: Any) -> None:
        await guarded(llm.remove_lora(request.lora_int_id), waiting_for=f"{request.lora_name} to go")

    fixed = {name: LoRARequest(name, next(numbers), str(path)) for name, path in sorted(settings.adapters.items())}
    return AdapterVersions(fixed, settings.swapped_adapters, add=add, remove=remove, drain_seconds=settings.drain_s)


async def check_room(settings: VllmSettings, adapter: str, update: WeightsUpdate) -> None:
    """Refuse an adapter that the engine has no room for.

    Raises:
        ConfigurationError: its files cannot be loaded, or the engine was not started for it.
    """
    rank = await anyio.to_thread.run_sync(partial(lora_rank, adapter, update.path))
    if rank > settings.swapped_adapters.get(adapter, 0):
        raise ConfigurationError(
            f"adapter '{adapter}' of rank {rank} cannot be loaded while the engine runs: start it with "
            f"swapped_adapters = {{'{adapter}': {rank}}}"
        )
