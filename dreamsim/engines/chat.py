"""Engines as chat models: what a judge or a teacher is asked through.

In: an engine and how to sample. Out: a `ChatModel`.
Always: an answer that takes too long is a recoverable `EngineError`; a prompt is tokenized off the event loop; a system
prompt's frame is made once.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from dreamsim.engines.openai_http import HttpEngine
from dreamsim.engines.tokenizers import ChatFrame
from dreamsim.errors import EngineError
from dreamsim.protocols import Engine, Tokenizer
from dreamsim.records.completion import ChatAnswer, GenerationRequest, Sampling


class HttpChat:
    """A server's chat endpoint: hosted models have no other."""

    def __init__(self, engine: HttpEngine, *, max_tokens: int, timeout_s: float) -> None:
        self._engine = engine
        self._max_tokens = max_tokens
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        """Name and version of the model."""
        return f"{self._engine.name}@{self._engine.version}"

    async def answer(
        self,
        system: str,
        user: str,
        *,
        json_schema: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        request_id: str = "chat",
    ) -> ChatAnswer:
        """Answer `user`; a second request is made only where the server refuses schemas.

        Raises:
            EngineError: no answer, or none in time.
            ContextOverflowError: question and answer do not fit.
        """
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        try:
            with anyio.fail_after(self._timeout_s):
                return await self._engine.chat(
                    messages,
                    max_tokens=self._max_tokens,
                    temperature=temperature,
                    json_schema=json_schema,
                    seed=seed,
                    request_id=request_id,
                )
        except TimeoutError as error:
            raise EngineError(f"no answer within {self._timeout_s:g} s") from error


class EngineChat:
    """Any engine, token ids in and out: one that serves other roles too can judge as well."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        frame: Callable[[str], ChatFrame | None],
        *,
        max_tokens: int,
        timeout_s: float,
        adapter: str | None = None,
    ) -> None:
        """An engine as chat model.

        Args:
            engine: who answers.
            tokenizer: the model's.
            frame: from a system prompt to what the model's chat template puts around the user's text (`chat_frame`);
                None where it has no template: then the two texts follow each other.
            max_tokens: longest answer.
            timeout_s: longest time for it.
            adapter: LoRA adapter of the engine, if the judge is one.
        """
        self._engine = engine
        self._tokenizer = tokenizer
        self._frame = frame
        self._max_tokens = max_tokens
        self._timeout_s = timeout_s
        self._adapter = adapter
        self._frames: dict[str, ChatFrame] = {}

    @property
    def name(self) -> str:
        """Name and version of the model."""
        return f"{self._engine.name}@{self._engine.version}"

    async def answer(
        self,
        system: str,
        user: str,
        *,
        json_schema: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        request_id: str = "chat",
    ) -> ChatAnswer:
        """Answer `user`.

        Raises:
            EngineError: no answer, or none in time.
            ContextOverflowError: question and answer do not fit.
        """
        prompt = await to_thread.run_sync(self._prompt, system, user)
        request = GenerationRequest(
            request_id=request_id,
            prompt_token_ids=prompt,
            sampling=Sampling(max_tokens=self._max_tokens, temperature=temperature, json_schema=json_schema),
            seed=seed,
            adapter=self._adapter,
            role="judge",
        )
        try:
            with anyio.fail_after(self._timeout_s):
                completion = await self._engine.generate(request)
        except TimeoutError as error:
            raise EngineError(f"no answer within {self._timeout_s:g} s") from error
        ids = completion.token_ids
        if completion.finish_reason == "stop" and json_schema is not None:
            ids = _without_stop(ids, self._tokenizer)
        return ChatAnswer(
            text=self._tokenizer.decode(ids),
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=len(completion.token_ids),
            model=self._engine.name,
        )

    def _prompt(self, system: str, user: str) -> NDArray[np.int32]:
        if system not in self._frames:
            plain = ChatFrame(head=self._tokenizer.encode(f"{system}\n\n"), tail=self._tokenizer.encode("\n\n"))
            self._frames[system] = self._frame(system) or plain
        frame = self._frames[system]
        return np.concatenate([frame.head, self._tokenizer.encode(user), frame.tail])


def _without_stop(ids: NDArray[np.int32], tokenizer: Tokenizer) -> NDArray[np.int32]:
    """The ids of a JSON object without the stop token after it, whose text would be no JSON."""
    if len(ids) and not tokenizer.decode(ids[-1:]).rstrip().endswith("}"):
        return ids[:-1]
    return ids
