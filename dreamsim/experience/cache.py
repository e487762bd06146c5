"""The transition cache: identical requests to one version of the experience model are answered identically.

In: requests to the experience model's engine. Out: its answers, and whether one was at hand.
Always:
- Requests are identical when model, version, adapter, prompt ids (history, retrieved examples and action are all in
  them), sampling and seed are; at temperature 0 the seed does not matter, because nothing is drawn.
- Of identical requests at the same moment one reaches the engine, and all get its answer. When it is cancelled,
  another takes its place; when it fails, all fail alike.
- Memory is bounded: what was asked longest ago is forgotten first.
- An answer given by another version than was asked (the weights changed meanwhile) is not kept.
"""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import anyio

from dreamsim.errors import ConfigurationError, EpisodeError
from dreamsim.protocols import Engine
from dreamsim.records.completion import Completion, GenerationRequest

ENTRY_BYTES: Final = 700
"""What an entry costs beside its token ids and log-probabilities: key, record and array objects, measured."""
MIB: Final = 2**20


@dataclass(slots=True, kw_only=True)  # made at every step, and freezing takes three times as long
class Answered:
    """A completion, and where it comes from."""

    completion: Completion
    """What the engine wrote."""
    cached: bool = False
    """Whether no engine call was made for it."""


class _Flight:
    """A request that is with the engine, and those who wait for the same answer."""

    __slots__ = ("completion", "landed", "problem")

    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.completion: Completion | None = None
        self.problem: EpisodeError | None = None


class TransitionCache:
    """Keeps an engine's answers. One object may serve several models: their names are part of the key."""

    def __init__(self, *, mib: float = 64.0) -> None:
        """An empty cache of at most `mib` MiB.

        Raises:
            ConfigurationError: there is no room for anything.
        """
        if mib <= 0:
            raise ConfigurationError("a transition cache needs memory: give it more than 0 MiB, or switch it off")
        self._limit = mib * MIB
        self._kept: OrderedDict[bytes, Completion] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Answers kept."""
        return len(self._kept)

    @property
    def mib(self) -> float:
        """Memory in use, MiB, as far as it can be told."""
        return self._bytes / MIB

    async def generate(self, engine: Engine, request: GenerationRequest) -> Answered:
        """The answer to `request`: kept, from an identical request in flight, or new from `engine`.

        Raises:
            EpisodeError: what the engine raised, also when it was asked by an identical request.
        """
        key = request_key(engine, request)
        while True:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return Answered(completion=kept, cached=True)
            flight = self._flights.get(key)
            if flight is None:
                return Answered(completion=await self._ask(key, engine, request))
            await flight.landed.wait()
            if flight.completion is not None:
                return Answered(completion=flight.completion, cached=True)
            if flight.problem is not None:
                raise copy.copy(flight.problem) from flight.problem
            # Whoever asked was cancelled: the first of those who waited asks now.

    async def _ask(self, key: bytes, engine: Engine, request: GenerationRequest) -> Completion:
        flight = self._flights[key] = _Flight()
        version = engine.version
        try:
            flight.completion = completion = await engine.generate(request)
        except EpisodeError as error:
            flight.problem = error
            raise
        finally:
            del self._flights[key]
            flight.landed.set()
        if completion.version in ("", version):
            self._keep(key, completion)
        return completion

    def _keep(self, key: bytes, completion: Completion) -> None:
        self._kept[key] = completion
        self._bytes += _size(completion)
        while self._bytes > self._limit:
            _, forgotten = self._kept.popitem(last=False)
            self._bytes -= _size(forgotten)


def request_key(engine: Engine, request: GenerationRequest) -> bytes:
    """What makes a request what it is: 16 bytes, the same for identical requests to the same version."""
    drawn = request.seed if request.sampling.temperature > 0 else None
    said = repr((engine.name, engine.version, request.adapter, request.sampling, drawn)).encode("utf-8", "replace")
    digest = hashlib.blake2b(said, digest_size=16)
    digest.update(b"\0")
    digest.update(request.prompt_token_ids.tobytes())
    return digest.digest()


def _size(completion: Completion) -> int:
    return ENTRY_BYTES + completion.token_ids.nbytes + completion.logprobs.nbytes
