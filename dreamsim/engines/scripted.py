"""An engine without a model: a function says what it answers. For tests, demonstrations and benchmarks.

In: requests. Out: what the function wrote, as an engine would give it: cut at a stop token or at `max_tokens`, with
made-up log-probabilities.
Always: the answer to a request depends on the request alone, its seed included, unless `respond` looks at the engine's
version; a cancelled request is recorded as aborted; faults happen where the caller's schedule puts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import anyio
import anyio.lowlevel
import numpy as np
from numpy.typing import NDArray

from dreamsim.engines.adapted import check_kind
from dreamsim.engines.adapter_versions import AdapterVersions
from dreamsim.engines.scripted_cache import ScriptedCache
from dreamsim.engines.statistics import EngineCounters, EngineStatistics
from dreamsim.engines.weights_gate import WeightsGate
from dreamsim.errors import ContextOverflowError, EngineDeadError, EngineError
from dreamsim.protocols import Tokenizer
from dreamsim.records.completion import Completion, FinishReason, GenerationRequest
from dreamsim.records.load import EngineLoad
from dreamsim.records.text import TAGS
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.runtime.seeds import generator

EngineFault: TypeAlias = Literal["error", "dead", "hang", "foreign"]
"""`error`: fails, another try can help; `dead`: fails, as does everything after; `hang`: never answers; `foreign`:
raises a cancellation that nobody asked for."""
Answer: TypeAlias = str | Sequence[int] | NDArray[np.int32]
BYTES: Final = 256


class ByteTokenizer:
    """Every byte of UTF-8 is a token, and so is every registered tag."""

    def __init__(self, tags: Sequence[str] = TAGS) -> None:
        """`tags` get the ids from 256 on, in their order."""
        self._tags = tuple(tags)
        self._ids = {tag: BYTES + number for number, tag in enumerate(self._tags)}
        longest_first = sorted(self._tags, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if self._tags else None

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return BYTES + len(self._tags)

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`; a lone surrogate becomes a question mark."""
        if self._split is None:
            return np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int32)
        ids: list[int] = []
        for part in self._split.split(text):
            tag = self._ids.get(part)
            if tag is None:
                ids += part.encode("utf-8", "replace")
            else:
                ids.append(tag)
        return np.array(ids, dtype=np.int32)

    def decode(self, token_ids: NDArray[np.int32]) -> str:
        """Text of the ids; bytes that are no UTF-8 become replacement characters."""
        parts: list[str] = []
        pending = bytearray()
        for token in token_ids.tolist():
            if token < BYTES:
                pending.append(token)
                continue
            parts += [pending.decode("utf-8", "replace"), self._tags[token - BYTES]]
            pending.clear()
        parts.append(pending.decode("utf-8", "replace"))
        return "".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long a scripted engine takes, in the event loop's time (virtual in a virtual loop)."""

    start_s: float = 0.0
    """Before the first token."""
    prompt_token_s: float = 0.0
    """More, per token of the prompt."""
    token_s: float = 0.0
    """Per token of the answer."""

    def seconds(self, prompt: int, generated: int) -> float:
        """Of one request."""
        return self.start_s + prompt * self.prompt_token_s + generated * self.token_s


class ScriptedEngine:
    """An `Engine` that answers what `respond` returns."""

    def __init__(
        self,
        respond: Callable[[GenerationRequest], Answer],
        tokenizer: Tokenizer,
        *,
        name: str = "scripted",
        version: str = "0",
        max_model_len: int = 8192,
        latency: Latency | None = None,
        fault: Callable[[GenerationRequest], EngineFault | None] | None = None,
        load_s: float = 0.0,
        adapters: Sequence[str] = (),
        cache: ScriptedCache | None = None,
    ) -> None:
        """An engine.

        Args:
            respond: what to answer, as text or token ids.
            tokenizer: turns text into ids.
            name: its name, for provenance.
            version: version of its weights, had it any.
            max_model_len: most tokens of prompt and answer together.
            latency: how long it takes; None is no time, but other tasks get their turn.
            fault: what goes wrong with a request, if anything.
            load_s: how long loading weights takes, in the event loop's time.
            adapters: names whose weights may come; a request for another name is answered as if it named none.
            cache: what running requests share, so that some wait or are preempted; None is room for all of them.
        """
        self._respond = respond
        self._tokenizer = tokenizer
        self._name = name
        self.version = version
        """Version of the weights; set it to play an update."""
        self._max_model_len = max_model_len
        self._latency = latency
        self._cache = cache
        self._fault = fault
        self._dead = False
        self._counters = EngineCounters()
        self._load_s = load_s
        self._gate = WeightsGate()
        self._adapters: AdapterVersions[str] = AdapterVersions({}, adapters, add=self._add, remove=self._remove)
        self.loaded: list[WeightsUpdate] = []
        """The weights it was given, in that order."""
        self.held: set[str] = set()
        """Versions of adapters that it keeps."""
        self.aborted: list[str] = []
        """Ids of the requests that were cancelled, in that order."""

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._max_model_len

    async def load(self) -> EngineLoad | None:
        """How full its cache is; None without one."""
        return None if self._cache is None else self._cache.load()

    def statistics(self) -> EngineStatistics:
        """What happened so far."""
        return self._counters.statistics()

    def adapter_version(self, adapter: str) -> str:
        """Version that requests for `adapter` are answered with.

        Raises:
            EngineError: there is no such adapter.
        """
        return self._adapters.served(adapter).version or self.version

    async def load_weights(self, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Play an update of the whole model.

        Raises:
            ConfigurationError: these are an adapter's weights.
        """
        check_kind(update, "full")
        async with self._gate.closed(in_flight):
            await anyio.sleep(self._load_s)
            self.version = str(update.version)
            self.loaded.append(update)

    async def load_adapter(self, adapter: str, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Play an update of an adapter.

        Raises:
            EngineError: there is no such adapter.
            ConfigurationError: these are a whole model's weights.
        """
        await self._adapters.load(adapter, update, in_flight=in_flight)
        self.loaded.append(update)

    async def _add(self, version: str, path: Path) -> str:
        await anyio.sleep(self._load_s)
        self.held.add(version)
        return version

    async def _remove(self, version: str) -> None:
        self.held.remove(version)

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer `request`.

        Raises:
            EngineError: the schedule says so, or the engine is dead.
            ContextOverflowError: the prompt leaves no room for the answer.
        """
        return await self._gate.through(lambda: self._begin(request))

    async def _begin(self, request: GenerationRequest) -> Completion:
        """Answer by the weights of now."""
        if request.adapter is None or request.adapter not in self._adapters:
            return await self._try(request, self.version)
        return await self._adapters.through(
            request.adapter, lambda served: self._try(request, served.version or self.version)
        )

    async def _try(self, request: GenerationRequest, version: str) -> Completion:
        self._counters.in_flight += 1
        fault = self._fault(request) if self._fault is not None else None
        try:
            completion = await self._answer(request, fault, version)
        except anyio.get_cancelled_exc_class():
            if fault != "foreign":
                self._counters.aborted += 1
                self.aborted.append(request.request_id)
            raise
        except (EngineError, ContextOverflowError):
            self._counters.failed += 1
            raise
        finally:
            self._counters.in_flight -= 1
        self._counters.answered(prompt=completion.prompt_tokens, generated=len(completion.token_ids))
        return completion

    async def _answer(self, request: GenerationRequest, fault: EngineFault | None, version: str) -> Completion:
        prompt = len(request.prompt_token_ids)
        room = self._max_model_len - prompt
        if room < 1:
            raise ContextOverflowError(f"{prompt} tokens of prompt in a context of {self._max_model_len}")
        self._dead = self._dead or fault == "dead"
        if self._dead:
            raise EngineDeadError("the scripted engine is dead")
        if fault == "error":
            raise EngineError("a scripted failure")
        if fault == "hang":
            await anyio.sleep_forever()
        if fault == "foreign":
            # What a library on plain asyncio does when it cancels a future that we wait for.
            raise anyio.get_cancelled_exc_class()
        ids, reason = self._cut(request, room)
        if self._cache is not None:
            pace = self._latency or Latency()
            prompt_s = pace.seconds(prompt, 0)
            await self._cache.compute(prompt, len(ids), prompt_s=prompt_s, token_s=pace.token_s)
        elif self._latency is None:
            await anyio.lowlevel.checkpoint()
        else:
            await anyio.sleep(self._latency.seconds(prompt, len(ids)))
        draw = generator(request.seed, "scripted log-probabilities")
        return Completion(
            token_ids=ids,
            logprobs=-draw.exponential(0.5, len(ids)).astype(np.float32),
            finish_reason=reason,
            prompt_tokens=prompt,
            version=version,
        )

    def _cut(self, request: GenerationRequest, room: int) -> tuple[NDArray[np.int32], FinishReason]:
        answer = self._respond(request)
        ids = self._tokenizer.encode(answer) if isinstance(answer, str) else np.asarray(answer, dtype=np.int32)
        stops = np.flatnonzero(np.isin(ids, request.sampling.stop_token_ids))
        if len(stops):
            ids = ids[: int(stops[0]) + 1]
        if len(ids) > min(room, request.sampling.max_tokens):
            if room < request.sampling.max_tokens:
                problem = f"the prompt leaves room for {room} tokens in a context of {self._max_model_len}"
                raise ContextOverflowError(problem)
            return ids[: request.sampling.max_tokens], "length"
        return ids, "stop"
