"""LoRA adapters of a running vLLM: several at once, each under a name whose weights may be replaced.

In: names that requests carry, and weights. Out: vLLM's own requests for an adapter.
Always:
- every version is an adapter of its own to vLLM (`policy-v12`), so that nothing cached with one serves another (vLLM
  salts its prefix cache with that name) and a request ends with the adapter that it began with;
- an old version is removed when the last request that uses it has ended;
- a name that was announced but never loaded means the model itself: a fresh adapter changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.to_thread

from dreamsim.engines.vllm_settings import VllmSettings, lora_rank
from dreamsim.engines.weights_gate import WeightsGate
from dreamsim.errors import ConfigurationError, EngineError
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.runtime.guard import guarded

REMOVAL_TIMEOUT_S: Final = 5.0


@dataclass(slots=True, kw_only=True)
class ServedAdapter:
    """One version of an adapter."""

    request: Any
    """vLLM's `LoRARequest`; None for a name that means the model itself, as yet."""
    version: str | None
    """Stamped on answers; None is the model's version."""
    users: int = 0
    """Requests in flight."""
    replaced: bool = False
    """Whether newer requests get another version."""


class VllmAdapters:
    """The adapters of one engine."""

    def __init__(self, llm: Any, settings: VllmSettings) -> None:
        from vllm.lora.request import LoRARequest

        self._llm = llm
        self._ranks = dict(settings.swapped_adapters)
        self._ids = itertools.count(1)
        self._served: dict[str, ServedAdapter] = {
            name: ServedAdapter(request=None, version=None) for name in self._ranks
        }
        for name, path in sorted(settings.adapters.items()):
            request = LoRARequest(name, next(self._ids), str(path))
            self._served[name] = ServedAdapter(request=request, version=None)
        self._gates = {name: WeightsGate(drain_seconds=settings.drain_s) for name in self._served}

    def served(self, name: str) -> ServedAdapter:
        """What requests for `name` get now.

        Raises:
            EngineError: there is no such adapter.
        """
        try:
            return self._served[name]
        except KeyError:
            known = ", ".join(self._served) or "none"
            raise EngineError(f"no adapter '{name}' in this engine (it has: {known})") from None

    def gate(self, name: str) -> WeightsGate:
        """The gate that requests for `name` pass.

        Raises:
            EngineError: there is no such adapter.
        """
        self.served(name)
        return self._gates[name]

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[ServedAdapter]:
        """The version that `name` means now; it stays until the context is left."""
        served = self.served(name)
        served.users += 1
        try:
            yield served
        finally:
            served.users -= 1
            await self._remove_unused(served)

    async def load(self, name: str, update: WeightsUpdate, *, in_flight: InFlight) -> None:
        """Serve `name` with these weights from now on.

        Raises:
            EngineError: vLLM could not load them; the old ones still serve.
            ConfigurationError: the engine was not started for it, or the files are no adapter of its rank.
        """
        from vllm.lora.request import LoRARequest

        rank = await anyio.to_thread.run_sync(lora_rank, name, update.path)
        if rank > self._ranks.get(name, 0):
            raise ConfigurationError(
                f"adapter '{name}' of rank {rank} cannot be loaded while the engine runs: start it with "
                f"swapped_adapters = {{'{name}': {rank}}}"
            )
        version = f"{name}-v{update.version}"
        request = LoRARequest(version, next(self._ids), str(update.path))
        try:
            await guarded(self._llm.add_lora(request), waiting_for=f"adapter {version}")
        except Exception as error:
            raise EngineError(f"vLLM could not load adapter {version} from {update.path}: {error}") from error
        old = self._served[name]
        async with self._gates[name].closed("abort" if in_flight == "abort" else "keep"):
            self._served[name] = ServedAdapter(request=request, version=version)
            old.replaced = True
        await self._remove_unused(old)

    async def _remove_unused(self, served: ServedAdapter) -> None:
        if not served.replaced or served.users or served.request is None:
            return
        gone, served.request = served.request, None
        with anyio.move_on_after(REMOVAL_TIMEOUT_S, shield=True), suppress(Exception):  # a dead engine has none
            await guarded(self._llm.remove_lora(gone.lora_int_id), waiting_for=f"{gone.lora_name} to go")
