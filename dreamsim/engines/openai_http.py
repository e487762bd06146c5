"""Any OpenAI-compatible server: vLLM, SGLang, a hosted one.

In: `HttpSettings`. Out: an `Engine` that also chats, for as long as the context is open.
Always:
- Prompts go as token ids. Answers come as token ids where the server gives them (vLLM does); where it does not,
  their text is tokenized here only if the caller allows, and log-probabilities are then not known (NaN).
- As many requests at once as there are connections; the others wait here. Cancelling one closes its connection.
- Time limits are the episode's, not the connection's; only the question that opens it has one of its own.
- A JSON schema is asked for until the server refuses one; from then on it answers freely, and the caller checks.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import anyio
import numpy as np
from numpy.typing import NDArray

from dreamsim.engines.http_adapters import adapter_versions
from dreamsim.engines.http_answers import (
    count_of,
    finish_reason_of,
    ids_in_logprobs,
    logprobs_of,
    text_of,
    token_ids_of,
)
from dreamsim.engines.http_client import JsonClient, Retries, StatusError, open_json_client
from dreamsim.engines.http_load import ServerLoad
from dreamsim.engines.http_models import model_card
from dreamsim.engines.statistics import EngineCounters, EngineStatistics
from dreamsim.errors import ConfigurationError, ContextOverflowError, EngineError
from dreamsim.protocols import Tokenizer
from dreamsim.records.completion import ChatAnswer, Completion, GenerationRequest
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.runtime.addresses import check_server

Dialect = Literal["auto", "vllm", "openai"]
UNKNOWN_LENGTH: Final = sys.maxsize
TOO_LONG: Final = re.compile(r"context.{0,20}(length|window)|maximum.{0,20}(length|tokens)|too long", re.IGNORECASE)
SCHEMA_REFUSED: Final = re.compile(r"response_format|json_schema|schema|grammar", re.IGNORECASE)
SEEDS: Final = 2**31
"""Seeds are sent below this: some servers read them as 32-bit numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """One server."""

    url: str
    """Where its API begins, as in `http://host:8000/v1`."""
    model: str
    """What the server calls the model. A request's `adapter` replaces it: servers offer adapters as models."""
    name: str = ""
    """For provenance; empty is `model`."""
    version: str = "0"
    """Version of the weights it serves."""
    concurrency: int = 256
    """Connections, and so requests at the same time."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key, if there is one."""
    max_model_len: int | None = None
    """Most tokens of prompt and answer; None asks the server, and leaves refusing to it where it does not tell."""
    dialect: Dialect = "auto"
    """`vllm` also sends what only vLLM reads (stop ids, token ids asked for); `auto` asks the server what it is."""
    require_token_ids: bool = True
    """Whether an answer without token ids is an error. If not, its text is tokenized here."""
    connect_timeout_s: float = 15.0
    """Longest time to reach it, once a connection is free."""
    start_timeout_s: float = 60.0
    """Longest time, all tries together, in which it has to say what models it has when it is opened."""
    retries: Retries = field(default_factory=Retries)
    """How often and how patiently to try."""
    swapped_adapters: tuple[str, ...] = ()
    """LoRA adapters whose weights come or are replaced while it serves (`engines.http_adapters`). Until it is loaded,
    such a name means the model itself."""

    def __post_init__(self) -> None:
        check_server(self.url, self.api_key_variable)


class HttpEngine:
    """A server as an `Engine`. Made by `open_http_engine`."""

    def __init__(
        self,
        client: JsonClient,
        settings: HttpSettings,
        counters: EngineCounters,
        *,
        max_model_len: int,
        dialect: Dialect,
        tokenizer: Tokenizer | None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._counters = counters
        self._max_model_len = max_model_len
        self._dialect = dialect
        self._tokenizer = tokenizer
        self._takes_schemas = True
        self.load = ServerLoad(client, vllm=dialect == "vllm").read
        """How busy the server is (`engines.http_load`)."""
        self._adapters = adapter_versions(client, settings.url, settings.swapped_adapters)

    @property
    def name(self) -> str:
        """The model's name, for provenance."""
        return self._settings.name or self._settings.model

    @property
    def version(self) -> str:
        """Version of the weights, as configured."""
        return self._settings.version

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and answer together; `sys.maxsize` where nobody knows."""
        return self._max_model_len

    def statistics(self) -> EngineStatistics:
        """What happened so far."""
        return self._counters.statistics()

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer `request`. Cancelling the call closes its connection, and the server stops.

        Raises:
            EngineError: no answer, or one without token ids where they are required.
            ContextOverflowError: prompt and answer do not fit.
        """
        prompt = len(request.prompt_token_ids)
        room = self._max_model_len - prompt
        if room < 1:
            raise ContextOverflowError(f"{prompt} tokens of prompt in a context of {self._max_model_len}")
        limit = min(room, request.sampling.max_tokens)
        if request.adapter is None or request.adapter not in self._adapters:
            return await self._complete(request, limit, model=request.adapter, version=self._settings.version)
        return await self._adapters.through(
            request.adapter,
            lambda served: self._complete(
                request, limit, model=served.handle, version=served.version or self._settings.version
            ),
        )

    async def _complete(self, request: GenerationRequest, limit: int, *, model: str | None, version: str) -> Completion:
        prompt = len(request.prompt_token_ids)
        body = self._body(request, limit, model or self._settings.model)
        answer = await self._ask("completions", body, request.request_id, request.sampling.json_schema)
        with _understood("completions", self._counters):
            choice = answer["choices"][0]
            usage = answer.get("usage") or {}
            ids = self._token_ids(choice, request, limit)
            reason = finish_reason_of(choice)
            logprobs = logprobs_of(choice, len(ids))
            cached = min(prompt, count_of((usage.get("prompt_tokens_details") or {}).get("cached_tokens")))
        if reason == "length" and limit < request.sampling.max_tokens:
            self._counters.failed += 1
            problem = f"the prompt leaves room for {limit} tokens in a context of {self._max_model_len}"
            raise ContextOverflowError(problem)
        self._counters.answered(prompt=prompt, generated=len(ids), cached=cached)
        return Completion(
            token_ids=ids,
            logprobs=logprobs,
            finish_reason=reason,
            prompt_tokens=prompt,
            cached_tokens=cached,
            version=version,
        )

    def adapter_version(self, adapter: str) -> str:
        """Version that requests for `adapter` are answered with now.

        Raises:
            EngineError: there is no such adapter.
        """
        return self._adapters.served(adapter).version or self._settings.version

    async def load_adapter(self, adapter: str, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Have the server replace an adapter's weights; it must see the directory under the same path.

        Raises:
            EngineError: the server could not load them (the old ones still serve), or it does not take adapters.
            ConfigurationError: these are a whole model's weights.
        """
        await self._adapters.load(adapter, update, in_flight=in_flight)

    async def load_weights(self, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Refuse: servers have no public way to replace a whole model.

        Raises:
            ConfigurationError: always; it says what to do instead.
        """
        raise ConfigurationError(
            f"{self._settings.url} cannot be given the weights of a whole model while it serves: train a LoRA adapter "
            "(swapped_adapters), or run the policy's engine in this process"
        )

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        json_schema: str | None = None,
        seed: int | None = None,
        request_id: str = "chat",
    ) -> ChatAnswer:
        """Answer a conversation.

        Args:
            messages: turns with `role` and `content`.
            max_tokens: most tokens of the answer.
            temperature: of sampling; 0 is greedy.
            json_schema: JSON schema, as text, that the answer is held to where the server can do that.
            seed: of sampling, where the server takes one.
            request_id: names the seed that spreads retries.

        Raises:
            EngineError: no answer; `recoverable` tells whether asking again can help.
            ContextOverflowError: the conversation does not fit.
        """
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if seed is not None:
            body["seed"] = seed % SEEDS
        answer = await self._ask("chat/completions", body, request_id, json_schema)
        with _understood("chat/completions", self._counters):
            choice = answer["choices"][0]
            usage = answer.get("usage") or {}
            said = ChatAnswer(
                text=text_of(choice["message"].get("content") or "", most=max_tokens),
                finish_reason=str(choice.get("finish_reason") or ""),
                prompt_tokens=count_of(usage.get("prompt_tokens")),
                completion_tokens=count_of(usage.get("completion_tokens")),
                model=str(answer.get("model") or self._settings.model)[:200],
            )
        self._counters.answered(prompt=said.prompt_tokens, generated=said.completion_tokens)
        return said

    async def _ask(self, path: str, body: Mapping[str, Any], request_id: str, json_schema: str | None) -> Any:
        if json_schema is None or not self._takes_schemas:
            return await self._post(path, body, request_id)
        schema = {"name": "answer", "schema": json.loads(json_schema), "strict": True}
        held = {**body, "response_format": {"type": "json_schema", "json_schema": schema}}
        try:
            return await self._post(path, held, request_id)
        except StatusError as error:
            if error.status not in (400, 422) or not SCHEMA_REFUSED.search(error.said):
                raise
            self._takes_schemas = False
            return await self._post(path, body, request_id)

    async def _post(self, path: str, body: Mapping[str, Any], request_id: str) -> Any:
        self._counters.in_flight += 1
        try:
            return await self._client.call(path, body, request_id=request_id)
        except anyio.get_cancelled_exc_class():
            self._counters.aborted += 1
            raise
        except StatusError as error:
            self._counters.failed += 1
            if error.status in (400, 413, 422) and TOO_LONG.search(error.said):
                raise ContextOverflowError(error.said) from error
            raise
        except EngineError:
            self._counters.failed += 1
            raise
        finally:
            self._counters.in_flight -= 1

    def _body(self, request: GenerationRequest, max_tokens: int, model: str) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": model,
            "prompt": request.prompt_token_ids.tolist(),
            "max_tokens": max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed % SEEDS,
            "logprobs": 0,
        }
        if self._dialect == "vllm":
            # All of it said, because such a server has the model's own preferences as its defaults.
            body |= {
                "top_k": sampling.top_k,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "stop_token_ids": list(sampling.stop_token_ids),
                "return_token_ids": True,
                "skip_special_tokens": False,
                "request_id": request.request_id,
            }
        elif sampling.stop_token_ids and self._tokenizer is not None:
            one_each = [self._tokenizer.decode(np.array([stop], np.int32)) for stop in sampling.stop_token_ids[:4]]
            body["stop"] = one_each
        return body

    def _token_ids(self, choice: Mapping[str, Any], request: GenerationRequest, most: int) -> NDArray[np.int32]:
        told = choice.get("token_ids")
        if told is None:
            told = ids_in_logprobs(choice)
        if told is not None:
            known = None if self._tokenizer is None else self._tokenizer.vocabulary_size
            return token_ids_of(told, most=most, vocabulary=known)
        if self._settings.require_token_ids:
            raise EngineError(
                f"{self._settings.url} gives no token ids: take a vLLM server, or allow its text to be tokenized here "
                "(require_token_ids = false; what it wrote cannot be trained on then)",
                recoverable=False,
            )
        if self._tokenizer is None:
            raise EngineError(f"{self._settings.url} gives no token ids, and no tokenizer is here", recoverable=False)
        ids = self._tokenizer.encode(text_of(choice["text"], most=most))
        stops = request.sampling.stop_token_ids
        if choice.get("finish_reason") == "stop" and len(stops) == 1 and stops[0] not in ids[-1:]:
            # Such a server takes the stop out of its answer.
            ids = np.append(ids, np.int32(stops[0]))
        return ids


class _understood:  # noqa: N801 - reads as a phrase: `with _understood(path): ...`
    """Turns what an answer of another form raises into an `EngineError`, and counts it."""

    def __init__(self, path: str, counters: EngineCounters) -> None:
        self._path = path
        self._counters = counters

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._counters.failed += 1
        if isinstance(error, LookupError | TypeError | ValueError | AttributeError | OverflowError):
            problem = f"/{self._path} answered in another form ({type(error).__name__}: {error})"
            raise EngineError(problem) from error


@asynccontextmanager
async def open_http_engine(settings: HttpSettings, *, tokenizer: Tokenizer | None = None) -> AsyncIterator[HttpEngine]:
    """Reach the server, and ask what it is.

    Args:
        settings: where and how.
        tokenizer: the model's, for servers that speak text only.

    Raises:
        ConfigurationError: it cannot be reached in time, refuses the key, or does not have the model.
    """
    counters = EngineCounters()

    def retried() -> None:
        counters.retried += 1

    async with open_json_client(
        settings.url,
        connections=settings.concurrency,
        key_variable=settings.api_key_variable,
        retries=settings.retries,
        connect_timeout_s=settings.connect_timeout_s,
        on_retry=retried,
    ) as client:
        card = await model_card(
            client,
            url=settings.url,
            model=settings.model,
            key_variable=settings.api_key_variable,
            tries=min(3, settings.retries.tries),
            within_s=settings.start_timeout_s,
        )
        told = card.get("max_model_len")
        length = settings.max_model_len or (told if type(told) is int and told > 0 else UNKNOWN_LENGTH)
        dialect = settings.dialect
        if dialect == "auto":
            dialect = "vllm" if card.get("owned_by") == "vllm" else "openai"
        yield HttpEngine(client, settings, counters, max_model_len=length, dialect=dialect, tokenizer=tokenizer)
