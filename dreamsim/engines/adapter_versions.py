"""LoRA adapters whose weights are replaced while an engine answers: which version a name means, and who still uses it.

In: names that requests carry, and weights. Out: what the engine calls the version in use.
Always:
- every version is an adapter of its own to the engine (`policy-v12`), so that nothing cached with one serves another,
  and a request ends with the adapter that it began with;
- an old version is removed when the last request that uses it has ended;
- a name that was announced but never loaded means the model itself: a fresh adapter changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

import anyio

from dreamsim.engines.adapted import check_kind
from dreamsim.engines.weights_gate import WeightsGate
from dreamsim.errors import EngineError
from dreamsim.records.weights import InFlight, WeightsUpdate

H = TypeVar("H")
T = TypeVar("T")
REMOVAL_TIMEOUT_S: Final = 5.0


@dataclass(slots=True, kw_only=True)
class ServedAdapter(Generic[H]):
    """One version of an adapter."""

    handle: H | None
    """What the engine is asked with; None for a name that means the model itself, as yet."""
    version: str | None
    """Stamped on answers; None is the model's version."""
    users: int = 0
    """Requests in flight."""
    replaced: bool = False
    """Whether newer requests get another version."""


class AdapterVersions(Generic[H]):
    """The adapters of one engine."""

    def __init__(
        self,
        fixed: Mapping[str, H],
        announced: Iterable[str],
        *,
        add: Callable[[str, Path], Awaitable[H]],
        remove: Callable[[H], Awaitable[None]],
        drain_seconds: float | None = None,
    ) -> None:
        """Adapters by the names that requests carry.

        Args:
            fixed: adapters the engine begins with.
            announced: names that will be loaded while it runs.
            add: has the engine load a version, from its name and directory.
            remove: has it forget one.
            drain_seconds: of the gates (see `WeightsGate`).
        """
        self._add = add
        self._remove = remove
        self._served: dict[str, ServedAdapter[H]] = {
            name: ServedAdapter(handle=None, version=None) for name in announced
        }
        self._served |= {name: ServedAdapter(handle=handle, version=None) for name, handle in fixed.items()}
        self._gates = {name: WeightsGate(drain_seconds=drain_seconds) for name in self._served}

    def __contains__(self, name: str) -> bool:
        return name in self._served

    def served(self, name: str) -> ServedAdapter[H]:
        """What requests for `name` get now.

        Raises:
            EngineError: there is no such adapter.
        """
        try:
            return self._served[name]
        except KeyError:
            known = ", ".join(self._served) or "none"
            raise EngineError(f"no adapter '{name}' in this engine (it has: {known})") from None

    async def through(self, name: str, ask: Callable[[ServedAdapter[H]], Awaitable[T]]) -> T:
        """What `ask` gives with the version that `name` means now, which stays until then; asked again, with the new
        one, where a swap aborted it.

        Raises:
            EngineError: there is no such adapter.
        """
        self.served(name)

        async def asked() -> T:
            async with self._using(name) as served:
                return await ask(served)

        return await self._gates[name].through(asked)

    async def load(self, name: str, update: WeightsUpdate, *, in_flight: InFlight) -> None:
        """Serve `name` with these weights from now on.

        Raises:
            EngineError: the engine could not load them (the old ones still serve), or there is no such adapter.
            ConfigurationError: these are a whole model's weights.
        """
        check_kind(update, "lora")
        self.served(name)
        version = f"{name}-v{update.version}"
        handle = await self._add(version, update.path)
        async with self._gates[name].closed("abort" if in_flight == "abort" else "keep"):
            old = self._served[name]
            self._served[name] = ServedAdapter(handle=handle, version=version)
            old.replaced = True
        await self._remove_unused(old)

    @asynccontextmanager
    async def _using(self, name: str) -> AsyncIterator[ServedAdapter[H]]:
        served = self._served[name]
        served.users += 1
        try:
            yield served
        finally:
            served.users -= 1
            await self._remove_unused(served)

    async def _remove_unused(self, served: ServedAdapter[H]) -> None:
        if not served.replaced or served.users or served.handle is None:
            return
        gone, served.handle = served.handle, None
        with anyio.move_on_after(REMOVAL_TIMEOUT_S, shield=True), suppress(Exception):  # a dead engine has none
            await self._remove(gone)
