"""vLLM in this process: AsyncLLM, which computes in a process of its own.

In: `VllmSettings`. Out: an `Engine`, for as long as the context is open.
Always:
- Cancelling `generate` aborts the request in vLLM; nothing is computed for nobody.
- An answer's version is that of the weights it was begun with; no answer is computed by two, unless in-flight requests
  are kept while weights are swapped. Prefixes cached with old weights are forgotten.
- When vLLM's process dies, every call waiting and every later one raises an `EngineDeadError`.
- Leaving the context, or the death of this process, leaves no process behind.
- vLLM's output goes to the log given, never to the terminal.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np

from dreamsim.engines.adapted import check_kind
from dreamsim.engines.checkpoints import check_interchangeable
from dreamsim.engines.statistics import EngineCounters, EngineStatistics
from dreamsim.engines.vllm_adapters import adapter_versions, check_room
from dreamsim.engines.vllm_load import LoadBook, load_logger
from dreamsim.engines.vllm_process import CONFIGURING, Leash, has_gpu, leashed, root_cause, start_environment
from dreamsim.engines.vllm_settings import VllmSettings, engine_arguments, process_environment
from dreamsim.engines.weights_gate import WeightsGate
from dreamsim.errors import (
    ConfigurationError,
    ContextOverflowError,
    EngineDeadError,
    EngineError,
    EpisodeCancelledError,
    MissingExtraError,
)
from dreamsim.records.completion import Completion, FinishReason, GenerationRequest, Sampling
from dreamsim.records.load import EngineLoad
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.runtime.guard import guarded

FINISH_REASONS: Final[dict[str | None, FinishReason]] = {"stop": "stop", "length": "length", "abort": "abort"}
ABORT_TIMEOUT_S: Final = 5.0
LOAD_TIMEOUT_S: Final = 900.0
"""Longest time to read a checkpoint, and to stop and start for it."""


class VllmEngine:
    """A running AsyncLLM. Made by `open_vllm_engine`."""

    def __init__(self, llm: Any, settings: VllmSettings, book: LoadBook | None = None) -> None:
        self._llm = llm
        self._book = book
        self._settings = settings
        self._version = settings.version
        self._gate = WeightsGate(drain_seconds=settings.drain_s)
        self._max_model_len = int(llm.model_config.max_model_len)
        self._adapters = adapter_versions(llm, settings)
        self._counters = EngineCounters()

    @property
    def name(self) -> str:
        """The model's name, for provenance."""
        return self._settings.display_name

    @property
    def version(self) -> str:
        """Version of the model's weights now in use; adapters have their own (`adapter_version`)."""
        return self._version

    def adapter_version(self, adapter: str) -> str:
        """Version that requests for `adapter` are answered with now.

        Raises:
            EngineError: there is no such adapter.
        """
        return self._adapters.served(adapter).version or self._version

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._max_model_len

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer `request`. Cancelling the call aborts the request in vLLM.

        Raises:
            EngineError: generation failed; an `EngineDeadError` when vLLM is dead.
            ContextOverflowError: the prompt does not fit, or it leaves too little room for the answer.
        """
        prompt = request.prompt_token_ids
        room = self._max_model_len - len(prompt)
        if room < 1:
            raise ContextOverflowError(f"{len(prompt)} tokens of prompt in a context of {self._max_model_len}")
        return await self._gate.through(lambda: self._begin(request, room))

    async def _begin(self, request: GenerationRequest, room: int) -> Completion:
        """Answer by the weights of now."""
        if request.adapter is None:
            return await self._complete(request, room, lora=None, version=self._version)
        return await self._adapters.through(
            request.adapter,
            lambda served: self._complete(request, room, lora=served.handle, version=served.version or self._version),
        )

    async def _complete(self, request: GenerationRequest, room: int, *, lora: Any, version: str) -> Completion:
        prompt = request.prompt_token_ids
        output = await self._answer(request, lora)
        answer = output.outputs[0]
        tokens = len(answer.token_ids)
        if answer.finish_reason == "length" and tokens < request.sampling.max_tokens:
            self._counters.failed += 1
            raise ContextOverflowError(
                f"{len(prompt)} tokens of prompt leave room for {room} in a context of {self._max_model_len}"
            )
        reason = FINISH_REASONS.get(answer.finish_reason)
        if reason is None:
            self._counters.failed += 1
            raise EngineError(f"vLLM ended request {request.request_id} with {answer.finish_reason!r}")
        cached = output.num_cached_tokens or 0
        self._counters.answered(prompt=len(prompt), generated=tokens, cached=cached)
        flat = answer.logprobs
        return Completion(
            token_ids=np.array(answer.token_ids, dtype=np.int32),
            logprobs=np.array(flat.logprobs if flat is not None else [np.nan] * tokens, dtype=np.float32),
            finish_reason=reason,
            prompt_tokens=len(prompt),
            cached_tokens=cached,
            version=version,
        )

    async def _answer(self, request: GenerationRequest, lora: Any) -> Any:
        """vLLM's own answer."""
        from vllm.v1.engine import exceptions

        try:
            return await guarded(
                self._first_output(request, lora), waiting_for=f"vLLM's answer to {request.request_id}"
            )
        except (anyio.get_cancelled_exc_class(), EpisodeCancelledError):
            self._counters.aborted += 1
            await self._abort(request.request_id)
            raise
        except exceptions.EngineDeadError as error:
            self._counters.failed += 1
            raise EngineDeadError(f"vLLM is dead: {error}") from error
        except EngineError:
            self._counters.failed += 1
            await self._abort(request.request_id)
            raise
        except Exception as error:
            self._counters.failed += 1
            cause = error.__cause__ or error
            raise EngineError(f"vLLM failed: {type(cause).__name__}: {cause}") from error

    async def _first_output(self, request: GenerationRequest, lora: Any) -> Any:
        prompt = {"type": "token", "prompt_token_ids": request.prompt_token_ids.tolist()}
        outputs = self._llm.generate(
            prompt,
            self._sampling_params(request.sampling, request.seed),
            request.request_id,
            lora_request=lora,
        )
        final: Any = None
        async for output in outputs:  # there is but one; leaving before the end would count as an abort
            final = output
        if final is None:
            raise EngineError(f"vLLM gave no answer to {request.request_id}")
        return final

    async def _abort(self, request_id: str) -> None:
        # vLLM aborts by itself, except where the cancellation struck while it handed the request over.
        with anyio.move_on_after(ABORT_TIMEOUT_S, shield=True), suppress(Exception):  # a dead engine has none
            await self._llm.abort(request_id)

    def _sampling_params(self, sampling: Sampling, seed: int) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        schema = sampling.json_schema
        if schema is not None and not self._settings.json_schemas:
            raise EngineError(
                f"{self.name} was not started to hold answers to a JSON schema (VllmSettings.json_schemas)",
                recoverable=False,
            )
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_tokens,
            stop_token_ids=list(sampling.stop_token_ids),
            seed=seed if self._settings.seeded else None,
            logprobs=0 if self._settings.logprobs else None,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
            structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
        )

    async def load(self) -> EngineLoad | None:
        """How busy vLLM was at its last step; None unless it was started to tell (`VllmSettings.tells_load`)."""
        return None if self._book is None else self._book.load()

    def statistics(self) -> EngineStatistics:
        """What happened so far."""
        self._counters.in_flight = self._llm.get_num_unfinished_requests()
        return self._counters.statistics()

    async def reset_prefix_cache(self) -> None:
        """Forget the computed prefixes of prompts."""
        await guarded(self._llm.reset_prefix_cache(), waiting_for="vLLM to forget its prefixes")

    async def load_weights(self, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Take the weights of a checkpoint of the same architecture, in place.

        Requests in flight are finished with the old weights (`drain`), go on with the new ones from their next token,
        their prompts and what they wrote computed anew (`keep`), or are begun again (`abort`); those that come
        meanwhile wait.

        Raises:
            ConfigurationError: the checkpoint cannot take the model's place; nothing has changed.
            EngineError: vLLM could not; whether it can still answer is unknown, so it is not recoverable.
        """
        check_kind(update, "full")
        present = self._llm.model_config.hf_text_config.to_dict()
        await anyio.to_thread.run_sync(check_interchangeable, update.path, present)
        async with self._gate.closed(in_flight):
            try:
                # Whoever gives up meanwhile must not leave new weights under the old version.
                with anyio.fail_after(LOAD_TIMEOUT_S, shield=True):
                    await self._reload(update.path, keep=in_flight == "keep")
                    self._version = str(update.version)
            except Exception as error:
                problem = f"vLLM could not load {update.path}: {type(error).__name__}: {error}"
                raise EngineError(problem, recoverable=False) from error

    async def load_adapter(self, adapter: str, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        """Replace the weights of an adapter; the other requests go on meanwhile (see `engines.adapted`).

        Raises:
            EngineError: vLLM could not load them; the old ones still serve.
            ConfigurationError: the engine was not started for it, or the files are no adapter of its rank.
        """
        check_kind(update, "lora")
        await check_room(self._settings, adapter, update)
        await self._adapters.load(adapter, update, in_flight=in_flight)

    async def _reload(self, path: Path, *, keep: bool) -> None:
        weights = {"path": str(path)}
        # Pausing forgets what was computed before: cached prefixes, and the state of requests that are kept.
        pause = self._llm.pause_generation(mode="keep" if keep else "wait")
        await guarded(pause, waiting_for="vLLM to pause")
        try:
            loading = self._llm.collective_rpc("load_checkpoint_in_place", kwargs=weights)
            await guarded(loading, waiting_for="the new weights")
        finally:
            with anyio.CancelScope(shield=True):
                await guarded(self._llm.resume_generation(), waiting_for="vLLM to resume")


@asynccontextmanager
async def open_vllm_engine(settings: VllmSettings, *, log_path: Path) -> AsyncIterator[VllmEngine]:
    """Start vLLM, which takes 20 seconds and more; several may be started at the same time.

    Args:
        settings: how it runs.
        log_path: where all its output goes; made if it is not there.

    Raises:
        MissingExtraError: vLLM is not installed.
        ConfigurationError: it refused the settings, or did not start; the log says more.
    """
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtraError("vllm", extra="vllm" if has_gpu() else "cpu", purpose="a model in this process")
    leash = Leash(log_path)
    book = LoadBook() if settings.tells_load else None
    try:
        llm = await _start(settings, leash, book)
        try:
            yield VllmEngine(llm, settings, book)
        finally:
            with anyio.CancelScope(shield=True):
                await _stop(llm, settings)
    finally:
        leash.cut()


async def _start(settings: VllmSettings, leash: Leash, book: LoadBook | None) -> Any:
    """Build the AsyncLLM in a thread, which cannot be cancelled: cancelling ends vLLM's process, and so the thread."""
    llm: Any = None
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_cut_when_cancelled, leash)
            try:
                llm = await anyio.to_thread.run_sync(_build, settings, leash, book)
            except Exception as error:  # noqa: BLE001 - a foreign library's errors, raised below with our type
                failure = error
            leash.started = True
            group.cancel_scope.cancel()
        # The thread is shielded: whoever gave up on the start meanwhile is told so here, not of what he caused.
        await anyio.lowlevel.checkpoint_if_cancelled()
    except anyio.get_cancelled_exc_class():
        if llm is not None:
            with anyio.CancelScope(shield=True):
                await _stop(llm, settings)
        raise
    if failure is not None:
        why = root_cause(leash.log_path) if "root cause" in str(failure) else None
        problem = f"vLLM did not start with {settings.model}: {why or failure} (more in {leash.log_path})"
        raise ConfigurationError(problem) from failure
    return llm


async def _cut_when_cancelled(leash: Leash) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        if not leash.started:
            leash.cut()


def _build(settings: VllmSettings, leash: Leash, book: LoadBook | None) -> Any:
    """Blocks until vLLM can answer. Runs in a thread without an event loop; the AsyncLLM finds the loop later."""
    with start_environment(leash.log_path):
        from vllm.config import StructuredOutputsConfig
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        on_cpu = current_platform.is_cpu()
        arguments = engine_arguments(settings, on_cpu=on_cpu)
        if settings.json_schemas:
            # Between its braces a grammar allows white space without end, and a weak model writes it.
            compact = StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True)
            arguments["structured_outputs_config"] = compact
        leash.environment.update(process_environment(settings, on_cpu=on_cpu))
        with CONFIGURING:
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if settings.worker_process or not on_cpu else "0"
            configuration = AsyncEngineArgs(**arguments).create_engine_config(UsageContext.ENGINE_CONTEXT)
        with leashed(leash):
            loggers = None if book is None else [load_logger(book)]
            return AsyncLLM.from_vllm_config(configuration, stat_loggers=loggers, disable_log_stats=True)


async def _stop(llm: Any, settings: VllmSettings) -> None:
    handler, sockets = llm.output_handler, llm.engine_core.resources.output_queue_task
    await anyio.to_thread.run_sync(lambda: llm.shutdown(timeout=settings.shutdown_timeout_s))
    # It only asked its two tasks to end; they do when the loop runs.
    tasks = [task for task in (handler, sockets) if task is not None]
    if tasks:
        await asyncio.wait(tasks, timeout=settings.shutdown_timeout_s)
    # Its threads would stay until the garbage collector comes by.
    llm.engine_core.resources.ctx.destroy(linger=0)
