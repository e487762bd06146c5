"""The frame of a prompt: what stands before and after it for a chat model, as token ids.

In: a role's settings and tokenizer. Out: head and tail ids. Always: made by the model's own chat template around a
system prompt from `dreamsim/data/prompts`; a model without a template, or trained without one, gets no frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsim.cli.engines import tokenizer_source
from dreamsim.cli.tasks import DATA
from dreamsim.errors import ConfigurationError, MissingExtraError
from dreamsim.protocols import Tokenizer
from dreamsim.records.completion import empty_ids
from dreamsim.runtime.config import ExperienceSection, PolicySection

PLACE = "\N{REPLACEMENT CHARACTER}prompt\N{REPLACEMENT CHARACTER}"
"""Stands for the prompt while the template is filled; no template holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Ids around every prompt of a role."""

    head: NDArray[np.int32] = field(default_factory=empty_ids)
    """Before it, shape [n]: system prompt and the beginning of the user's turn."""
    tail: NDArray[np.int32] = field(default_factory=empty_ids)
    """After it, shape [n]: the end of the turn, and the beginning of the answer."""


def frame_of(
    role: PolicySection | ExperienceSection, name: str, tokenizer: Tokenizer, trained: Mapping[str, Any]
) -> Frame:
    """The frame of a role: what the user says, else what the model was trained with, else its template's.

    Raises:
        ConfigurationError: a chat frame is asked for, and the model has no template.
    """
    layout = role.layout if role.layout != "auto" else trained.get("layout", "auto")
    if layout == "plain":
        return Frame()
    template = chat_template(tokenizer_source(role, name))
    if template is None:
        if layout == "chat":
            raise ConfigurationError(f"{name}.layout = chat, but {role.model} has no chat template: use plain")
        return Frame()
    system = (DATA / "prompts" / f"{name}.system.md").read_text(encoding="utf-8").strip()
    head, place, tail = template(system, PLACE).partition(PLACE)
    if not place:
        raise ConfigurationError(f"the chat template of {role.model} drops the user's text: use {name}.layout = plain")
    return Frame(head=tokenizer.encode(head), tail=tokenizer.encode(tail))


class ChatTemplate:
    """A model's chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, system: str, user: str) -> str:
        """The text of a conversation, up to where the model answers."""
        turns = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        try:
            return self._fill(turns)
        except Exception:  # noqa: BLE001 - templates raise what they like; some allow no system turn
            return self._fill([{"role": "user", "content": f"{system}\n\n{user}"}])

    def _fill(self, turns: list[dict[str, str]]) -> str:
        # The layout asks for its own reasoning; a hidden one before it would only use up the answer.
        filled: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return filled


def chat_template(source: str) -> ChatTemplate | None:
    """The chat template of the tokenizer at `source`, or None if it has none. Blocks.

    Raises:
        ConfigurationError: there is no tokenizer.
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", extra="vllm", purpose="a chat model's prompt") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no tokenizer at {source}: {str(error).splitlines()[0]}") from error
    return ChatTemplate(tokenizer) if tokenizer.chat_template else None
