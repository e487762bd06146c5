"""Questions with strict answers: a model is asked for JSON, and asked again until what it writes can be read.

In: a chat model, a prompt from plain files, the values of its places and a reader. Out: what the reader made of the
answer. Always: an answer is read strictly or not at all; tries are bounded and each has its own named seed; every
request is accounted for, the failed ones too.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from dreamsim.errors import ConfigurationError, ContextOverflowError, EngineError, JudgeError, ParseError
from dreamsim.protocols import ChatModel
from dreamsim.runtime.seeds import seed_of

PROMPTS: Final = Path(__file__).parents[1] / "data" / "prompts"
"""The prompts in the package."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question's text, from two plain files."""

    system: str
    """System prompt."""
    user: str
    """What is asked, with places such as `{instruction}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what came of it."""

    prompt_tokens: int = 0
    """Tokens read."""
    completion_tokens: int = 0
    """Tokens written."""
    problem: str | None = None
    """Why the answer was not used; None if it was."""


Note = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How a question is asked."""

    attempts: int = 3
    """Most requests for one answer."""
    temperature: float = 0.0
    """Of the first request."""
    retry_temperature: float = 0.7
    """Of every further one, unless `temperature` is higher: a greedy answer would only come again."""


def load_prompt(name: str, directory: Path | None = None) -> Prompt:
    """The prompt `name` of a directory (None: the package's): `name.system.md` and `name.user.md`. Blocks.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    where = PROMPTS if directory is None else directory
    try:
        system, user = [(where / f"{name}.{part}.md").read_text(encoding="utf-8") for part in ("system", "user")]
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"prompts: {name} in {where} is not UTF-8") from error
    except OSError as error:
        raise ConfigurationError(f"prompts: {error.filename} cannot be read ({error.strerror})") from error
    return Prompt(system=system.strip(), user=user.strip())


async def ask(
    model: ChatModel,
    prompt: Prompt,
    values: Mapping[str, str],
    read: Callable[[Any], T],
    *,
    json_schema: str,
    request_id: str,
    seed: int = 0,
    patience: Patience | None = None,
    note: Note | None = None,
) -> T:
    """Ask until the answer can be read.

    Args:
        model: who is asked.
        prompt: what is asked.
        values: what stands in the prompt's places.
        read: makes something of the answer's JSON, or raises a ParseError.
        json_schema: what the answer is held to, where the model can be held to something.
        request_id: of the requests, unique while in flight; each gets its number added.
        seed: root of their seeds.
        patience: how often to ask.
        note: told of every request.

    Raises:
        JudgeError: no answer that can be read, or none at all, within the allowed number of requests.
        EngineError: the model can no longer be asked at all.
    """
    patience = patience or Patience()
    user = filled(prompt.user, values)
    problem, attempt = "", 0
    for attempt in range(patience.attempts):
        exchange = Exchange()
        temperature = patience.temperature
        if attempt:
            temperature = max(temperature, patience.retry_temperature)
        try:
            answer = await model.answer(
                prompt.system,
                user,
                json_schema=json_schema,
                temperature=temperature,
                seed=seed_of(seed, "question", attempt),
                request_id=f"{request_id}-{attempt}",
            )
            exchange = Exchange(prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens)
            if answer.finish_reason == "length":
                raise ParseError("the answer is longer than allowed")
            found = read(json_of(answer.text))
        except (EngineError, ContextOverflowError, ParseError) as error:
            problem = str(error)
            if note is not None:
                await note(_failed(exchange, problem))
            if isinstance(error, EngineError) and not error.recoverable:
                raise
            if isinstance(error, ContextOverflowError):  # it would be too long every time
                break
            continue
        if note is not None:
            await note(exchange)
        return found
    raise JudgeError(f"{model.name} gave no usable answer to {request_id} in {attempt + 1} requests: {problem}")


def _failed(exchange: Exchange, problem: str) -> Exchange:
    return Exchange(prompt_tokens=exchange.prompt_tokens, completion_tokens=exchange.completion_tokens, problem=problem)


def json_of(written: str) -> Any:
    """The JSON of an answer, without a thinking block before it and a code fence around it.

    Raises:
        ParseError: there is none.
    """
    text = written.rpartition("</think>")[2].strip()
    if text.startswith("```"):
        text = text.partition("\n")[2].rstrip()
        text = text.removesuffix("```").rstrip()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ParseError(f"not JSON: {error.msg} at character {error.pos}: {text!r:.80}") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets in brackets
        raise ParseError(f"not JSON: {error}") from error


def filled(template: str, values: Mapping[str, str]) -> str:
    """`template` with its places filled; data with braces of its own is left alone."""
    parts: list[str] = []
    rest = template
    while rest:
        found = [(rest.find("{" + name + "}"), name) for name in values]
        position, name = min(((at, name) for at, name in found if at >= 0), default=(-1, ""))
        if position < 0:
            parts.append(rest)
            break
        parts += [rest[:position], values[name]]
        rest = rest[position + len(name) + 2 :]
    return "".join(parts)
