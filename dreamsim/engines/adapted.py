"""One adapter of an engine, as an engine of its own: for a policy that is a LoRA adapter of a model others use as well.

In: an engine that takes adapters while it runs. Out: an `Engine` and `WeightsReceiver` that speaks for the adapter.
Always: its version is the adapter's, and the engine's own as long as the adapter has never been loaded (a fresh adapter
changes nothing); the engine's version, which caches of other roles hang on, is left alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Engine
from dreamsim.records.completion import Completion, GenerationRequest
from dreamsim.records.weights import InFlight, WeightsUpdate


class AdapterEngine(Engine, Protocol):
    """An engine whose adapters can be replaced while it runs."""

    def adapter_version(self, adapter: str) -> str:
        """Version that requests for `adapter` are answered with now: `policy-v12`, say."""
        ...

    async def load_adapter(self, adapter: str, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Answer requests for `adapter` with these weights from now on.

        Requests in flight are finished with the adapter that they began with (`drain`, `keep`) or begun again with the
        new one (`abort`). Nobody waits but for the file to be read.

        Raises:
            EngineError: it could not be loaded; the old one still serves.
            ConfigurationError: these are no weights of an adapter, or the engine was not started for it.
        """
        ...


class AdaptedEngine:
    """An adapter of `engine`, which several may share."""

    def __init__(self, engine: AdapterEngine, adapter: str) -> None:
        """`adapter` is the name that requests carry; versions are told apart inside the engine."""
        self._engine = engine
        self._adapter = adapter

    @property
    def name(self) -> str:
        """The model's name, for provenance."""
        return self._engine.name

    @property
    def version(self) -> str:
        """Version of the adapter now in use."""
        return self._engine.adapter_version(self._adapter)

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._engine.max_model_len

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer `request` with the adapter.

        Raises:
            EngineError: generation failed.
            ContextOverflowError: prompt and answer do not fit.
        """
        return await self._engine.generate(replace(request, adapter=self._adapter))

    async def load_weights(self, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Replace the adapter (see `AdapterEngine.load_adapter`).

        Raises:
            EngineError: it could not be loaded; the old one still serves.
            ConfigurationError: the weights are of a whole model.
        """
        await self._engine.load_adapter(self._adapter, update, in_flight=in_flight)


def check_kind(update: WeightsUpdate, wanted: str) -> None:
    """Refuse weights of the other kind.

    Raises:
        ConfigurationError: `update` is not of the kind `wanted`.
    """
    if update.kind == wanted:
        return
    if wanted == "full":
        raise ConfigurationError(f"{update.path} is a LoRA adapter: load it by `AdaptedEngine(engine, name)`")
    raise ConfigurationError(f"{update.path} holds a whole model, not an adapter: load it into the engine itself")
