"""`dreamsim annotate`: a teacher model behind any OpenAI-compatible URL explains every step of logged episodes.

In: a JSONL file of episodes. Out: the same episodes with reasoning, one line each as they are done, and beside them
`OUTPUT.requests.jsonl`, one line per request with its tokens or its failure.
Always: both files only grow, so a stopped run goes on where it stood and costs are counted over all sittings; an
episode is written whole or not at all; an answer that does not explain every step is asked for again, then reported.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from dreamsim.cli.annotation_ledger import Ledger, Request, Tally
from dreamsim.cli.arguments import Parser
from dreamsim.cli.tasks import DATA
from dreamsim.engines.http_client import StatusError
from dreamsim.engines.openai_http import HttpEngine, HttpSettings, open_http_engine
from dreamsim.errors import ContextOverflowError, EngineError, ParseError, UsageError
from dreamsim.experience.annotation import (
    AnnotationPrompts,
    annotation_messages,
    parse_annotation,
    with_reasoning,
)
from dreamsim.records.completion import ChatAnswer
from dreamsim.records.episode import Episode
from dreamsim.store.jsonl import read_jsonl

PROMPTS = DATA / "prompts"
SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"step": {"type": "integer"}, "reasoning": {"type": "string"}},
                "required": ["step", "reasoning"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["steps"],
    "additionalProperties": False,
}
SCHEMA_REFUSED: Final = re.compile(r"response_format|json_schema|schema", re.IGNORECASE)


class Teacher(Protocol):
    """A chat model."""

    async def answer(self, messages: list[dict[str, str]]) -> ChatAnswer:
        """Answer a conversation.

        Raises:
            EngineError: it did not; `recoverable` tells whether asking again can help.
            ContextOverflowError: the conversation is too long for it.
        """
        ...


class HttpTeacher:
    """A chat model behind a URL; its answers are held to the schema where the server can do that."""

    def __init__(self, engine: HttpEngine, *, max_tokens: int, temperature: float, timeout_s: float) -> None:
        self._engine = engine
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._timeout_s = timeout_s
        self._schema: Mapping[str, Any] | None = SCHEMA

    async def answer(self, messages: list[dict[str, str]]) -> ChatAnswer:
        """Answer a conversation, in one request, or two if the server knows no schemas."""
        try:
            return await self._ask(messages, self._schema)
        except StatusError as error:
            if self._schema is None or error.status not in (400, 422) or not SCHEMA_REFUSED.search(error.said):
                raise
            self._schema = None
            return await self._ask(messages, None)

    async def _ask(self, messages: list[dict[str, str]], schema: Mapping[str, Any] | None) -> ChatAnswer:
        try:
            with anyio.fail_after(self._timeout_s):
                return await self._engine.chat(
                    messages, max_tokens=self._max_tokens, temperature=self._temperature, json_schema=schema
                )
        except TimeoutError as error:
            raise EngineError(f"no answer within {self._timeout_s:g} s") from error


async def annotate(
    episodes: Sequence[Episode],
    ledger: Ledger,
    teacher: Teacher,
    prompts: AnnotationPrompts,
    *,
    model: str,
    concurrency: int,
    attempts: int,
) -> Tally:
    """Annotate every episode that is not done yet.

    Raises:
        UsageError: the teacher can no longer be asked at all (wrong key, unknown model), or a file not be written.
    """
    tally = ledger.tally
    fatal: list[str] = []
    sender, receiver = anyio.create_memory_object_stream[Episode](0)

    async def work(queue: MemoryObjectReceiveStream[Episode]) -> None:
        async with queue:
            async for episode in queue:
                try:
                    await _one(episode, ledger, teacher, prompts, model=model, attempts=attempts)
                except EngineError as error:
                    fatal.append(f"the teacher cannot be asked: {error}")
                    workers.cancel_scope.cancel()
                except OSError as error:
                    fatal.append(f"{error.filename or ledger.output}: cannot be written ({error.strerror})")
                    workers.cancel_scope.cancel()

    async with anyio.create_task_group() as workers, sender:
        async with receiver:
            for _ in range(concurrency):
                workers.start_soon(work, receiver.clone())
        met: set[str] = set()
        for episode in episodes:
            if episode.id in ledger.known or episode.id in met:
                tally.known += 1
            elif all(transition.reasoning for transition in episode.transitions):
                await ledger.keep(episode)
                tally.unasked += 1
            else:
                met.add(episode.id)
                await sender.send(episode)
        await sender.aclose()
    if fatal:
        raise UsageError(fatal[0])
    return tally


async def _one(
    episode: Episode, ledger: Ledger, teacher: Teacher, prompts: AnnotationPrompts, *, model: str, attempts: int
) -> None:
    messages = annotation_messages(episode, prompts)
    for _ in range(attempts):
        try:
            answer = await teacher.answer(messages)
        except EngineError as error:
            await ledger.note(Request(episode=episode.id, model=model, problem=str(error)))
            if not error.recoverable:
                raise
            continue
        except ContextOverflowError as error:  # it would be too long every time
            await ledger.note(Request(episode=episode.id, model=model, problem=str(error)))
            break
        asked = Request(
            episode=episode.id,
            model=model,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
        )
        try:
            reasoning = parse_annotation(answer.text, len(episode.transitions))
        except ParseError as error:
            await ledger.note(replace(asked, problem=str(error)))
            continue
        await ledger.keep(with_reasoning(episode, reasoning))
        await ledger.note(asked)
        ledger.tally.done += 1
        return
    ledger.tally.failed += 1


def load_prompts(directory: Path = PROMPTS) -> AnnotationPrompts:
    """The prompts of a directory.

    Raises:
        UsageError: a file is missing.
    """
    try:
        system = (directory / "annotate.system.md").read_text(encoding="utf-8")
        user = (directory / "annotate.user.md").read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"prompts: {error.filename} cannot be read ({error.strerror})") from error
    return AnnotationPrompts(system=system.strip(), user=user.strip())


def report(tally: Tally, ledger: Ledger, *, price_in: float | None, price_out: float | None) -> str:
    """What the verb prints at the end."""
    known = f"{tally.known:,} done before, {tally.unasked:,} had their reasoning"
    tokens = f"{tally.prompt_tokens:,} tokens read, {tally.completion_tokens:,} written"
    lines = [f"{tally.done:,} episodes annotated, {known}, {tally.failed:,} failed"]
    lines.append(f"{tally.requests:,} requests in all sittings: {tokens}")
    if price_in is not None or price_out is not None:
        cost = ((price_in or 0) * tally.prompt_tokens + (price_out or 0) * tally.completion_tokens) / 1e6
        lines.append(f"cost of all sittings: {cost:,.4f} (at {price_in or 0:g} and {price_out or 0:g} per million)")
    if tally.failed:
        lines.append(f"why they failed: {ledger.requests}; the same command asks for them again")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    made = Parser(
        prog="dreamsim annotate",
        description="Lets a teacher model write why every step of logged episodes led to what it did.",
    )
    made.add_argument("input", metavar="INPUT.jsonl", help="episodes in the schema of docs/data-format.md")
    made.add_argument("output", metavar="OUTPUT.jsonl", help="the same episodes with reasoning; only grows")
    made.add_argument("--url", required=True, help="an OpenAI-compatible server, as https://host/v1")
    made.add_argument("--model", required=True, help="the teacher, as the server calls it")
    made.add_argument("--api-key-variable", default="OPENAI_API_KEY", help="environment variable with the key")
    made.add_argument("--concurrency", type=int, default=16, help="requests at once (default 16)")
    made.add_argument("--attempts", type=int, default=3, help="requests per episode (default 3)")
    made.add_argument("--max-tokens", type=int, default=8192, help="longest answer (default 8192 tokens)")
    made.add_argument("--temperature", type=float, default=0.3, help="of sampling (default 0.3)")
    made.add_argument("--timeout", type=float, default=300.0, help="of a request (default 300 s)")
    made.add_argument("--price-in", type=float, help="price of a million tokens read, to report the cost")
    made.add_argument("--price-out", type=float, help="price of a million tokens written")
    made.add_argument("--limit", type=int, help="most episodes of INPUT to do")
    made.add_argument("--prompts", type=Path, default=PROMPTS, help="directory with annotate.{system,user}.md")
    return made


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    given = parser().parse_args(arguments)
    if given.concurrency < 1 or given.attempts < 1:
        raise UsageError("dreamsim annotate: --concurrency and --attempts must be at least 1")
    return anyio.run(annotate_file, given)


async def annotate_file(given: argparse.Namespace) -> int:
    """Annotate the input into the output; returns the exit code."""
    prompts = await to_thread.run_sync(load_prompts, given.prompts)
    episodes = (await to_thread.run_sync(lambda: list(read_jsonl(given.input))))[: given.limit]
    ledger = await to_thread.run_sync(Ledger, Path(given.output))
    server = HttpSettings(
        url=given.url, model=given.model, concurrency=given.concurrency, api_key_variable=given.api_key_variable
    )
    async with open_http_engine(server) as engine:
        teacher = HttpTeacher(
            engine, max_tokens=given.max_tokens, temperature=given.temperature, timeout_s=given.timeout
        )
        tally = await annotate(
            episodes,
            ledger,
            teacher,
            prompts,
            model=given.model,
            concurrency=given.concurrency,
            attempts=given.attempts,
        )
    print(report(tally, ledger, price_in=given.price_in, price_out=given.price_out))
    return 1 if tally.failed else 0
