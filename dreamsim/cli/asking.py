"""What the verbs that ask a model have in common: flags, the work itself, and what it cost.

In: command-line arguments and items of work. Out: an open model, work done by so many workers, lines of a report.
Always: a model that can no longer be asked ends the verb with what it said; what was done by then is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from dreamsim.cli.growing_files import GrowingFiles
from dreamsim.engines.chat import EngineChat, HttpChat
from dreamsim.engines.openai_http import HttpSettings, open_http_engine
from dreamsim.engines.tokenizers import chat_frame, load_tokenizer
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.errors import EngineError, UsageError
from dreamsim.experience.questions import Patience
from dreamsim.protocols import ChatModel

Item = TypeVar("Item")
RETRY_TEMPERATURE: Final = 0.7


def add_asking_arguments(
    parser: argparse.ArgumentParser, *, who: str, prefix: str = "", max_tokens: int, temperature: float
) -> None:
    """Flags that name the model and say how it is asked.

    Args:
        parser: gets the flags.
        who: what the model is, for the help.
        prefix: before the flags that belong to the model, as in `--judge.url`.
        max_tokens: default.
        temperature: default.
    """

    def own(name: str, **more: object) -> None:
        # argparse types each keyword by itself, and these are handed on as they come
        parser.add_argument(f"--{prefix}{name}", dest=name.replace("-", "_"), **more)  # type: ignore[arg-type]

    own("url", help="an OpenAI-compatible server, as https://host/v1 (default: vLLM in this process)")
    own("model", required=True, help=f"the {who}: as the server calls it; without a server a directory or hub name")
    own("api-key-variable", default="OPENAI_API_KEY", help="environment variable with the key")
    own("max-tokens", type=int, default=max_tokens, help=f"longest answer (default {max_tokens} tokens)")
    own("temperature", type=float, default=temperature, help=f"of sampling (default {temperature:g})")
    own("timeout", type=float, default=300.0, help="of a request (default 300 s)")
    parser.add_argument("--concurrency", type=int, default=16, help="requests at once (default 16)")
    parser.add_argument("--attempts", type=int, default=3, help="requests for one answer (default 3)")
    parser.add_argument("--price-in", type=float, help="price of a million tokens read, to report the cost")
    parser.add_argument("--price-out", type=float, help="price of a million tokens written")
    parser.add_argument("--prompts", type=Path, help="directory of the prompts (default: those of the package)")


def check_asking_arguments(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Raises: UsageError: a number is out of range."""
    if given.concurrency < 1 or given.attempts < 1:
        raise UsageError(f"{parser.prog}: --concurrency and --attempts must be at least 1")
    if given.max_tokens < 1 or given.temperature < 0:
        raise UsageError(f"{parser.prog}: the longest answer has at least 1 token, and no temperature is below 0")


def patience_of(given: argparse.Namespace) -> Patience:
    """How often to ask, and how."""
    return Patience(attempts=given.attempts, temperature=given.temperature, retry_temperature=RETRY_TEMPERATURE)


def log_path_of(files: GrowingFiles) -> Path:
    """Where a model in this process writes its output: beside what the verb writes."""
    return files.output.with_name(files.output.name + ".vllm.log")


@asynccontextmanager
async def open_chat(given: argparse.Namespace, *, log_path: Path) -> AsyncIterator[ChatModel]:
    """The model that the flags name; one in this process writes its output to `log_path`.

    Raises:
        ConfigurationError: it cannot be reached or started, refuses the key, or does not have the model.
        MissingExtraError: it is to run in this process, and vLLM is not installed.
    """
    if given.url is None:
        async with _open_local(given, log_path) as chat:
            yield chat
        return
    server = HttpSettings(
        url=given.url, model=given.model, concurrency=given.concurrency, api_key_variable=given.api_key_variable
    )
    async with open_http_engine(server) as engine:
        yield HttpChat(engine, max_tokens=given.max_tokens, timeout_s=given.timeout)


@asynccontextmanager
async def _open_local(given: argparse.Namespace, log_path: Path) -> AsyncIterator[ChatModel]:
    from dreamsim.engines.vllm_local import open_vllm_engine

    tokenizer = await to_thread.run_sync(load_tokenizer, given.model)
    settings = VllmSettings(model=given.model, json_schemas=True, logprobs=False, max_num_seqs=given.concurrency)
    async with open_vllm_engine(settings, log_path=log_path) as engine:
        frame = partial(chat_frame, given.model)
        yield EngineChat(engine, tokenizer, frame, max_tokens=given.max_tokens, timeout_s=given.timeout)


async def each(
    items: Iterable[Item], work: Callable[[Item], Awaitable[None]], *, concurrency: int, who: str, files: GrowingFiles
) -> None:
    """Do `work` with every item, so many at once.

    Raises:
        UsageError: the model can no longer be asked at all (wrong key, unknown model), or a file not be written.
    """
    fatal: list[str] = []
    sender, receiver = anyio.create_memory_object_stream[Item](0)

    async def worker(queue: MemoryObjectReceiveStream[Item]) -> None:
        async with queue:
            async for item in queue:
                try:
                    await work(item)
                except EngineError as error:
                    fatal.append(f"the {who} cannot be asked: {error}")
                    workers.cancel_scope.cancel()
                except OSError as error:
                    fatal.append(f"{error.filename or files.output}: cannot be written ({error.strerror})")
                    workers.cancel_scope.cancel()

    async with anyio.create_task_group() as workers, sender:
        async with receiver:
            for _ in range(concurrency):
                workers.start_soon(worker, receiver.clone())
        for item in items:
            await sender.send(item)
        await sender.aclose()
    if fatal:
        raise UsageError(fatal[0])


def cost_lines(files: GrowingFiles, given: argparse.Namespace) -> list[str]:
    """Requests, tokens and cost of all sittings, and where failures are told."""
    tally = files.tally
    tokens = f"{tally.prompt_tokens:,} tokens read, {tally.completion_tokens:,} written"
    unused = f" ({tally.unused:,} without a usable answer)" if tally.unused else ""
    lines = [f"{tally.requests:,} requests in all sittings{unused}: {tokens}"]
    price_in, price_out = given.price_in, given.price_out
    if price_in is not None or price_out is not None:
        cost = ((price_in or 0) * tally.prompt_tokens + (price_out or 0) * tally.completion_tokens) / 1e6
        lines.append(f"cost of all sittings: {cost:,.4f} (at {price_in or 0:g} and {price_out or 0:g} per million)")
    if tally.failed:
        lines.append(f"why they failed: {files.requests}; the same command asks for them again")
    return lines
