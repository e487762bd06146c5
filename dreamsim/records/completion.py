"""What an engine is asked for and what it answers: token ids in, token ids out.

In: prompt token ids. Out: generated token ids with the log-probability each was sampled with.
Always: `len(logprobs) == len(token_ids)` when log-probabilities were asked for; arrays are numpy, because a
list of Python ints costs nine times as much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample."""

    max_tokens: int
    """Most tokens to generate."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Nucleus: the smallest set of tokens with at least this probability."""
    top_k: int = 0
    """Only the k most likely tokens; 0 is all."""
    stop_token_ids: tuple[int, ...] = ()
    """Generation ends after any of these; the token itself is part of the answer."""
    json_schema: str | None = None
    """JSON schema, as text, that the answer is held to. A server that cannot do that answers freely, so the caller
    checks all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One request to an engine."""

    request_id: str
    """Unique while in flight; begins with the episode's id so that a router can keep an episode on one replica."""
    prompt_token_ids: NDArray[np.int32]
    """Shape [prompt length]."""
    sampling: Sampling
    """How to sample."""
    seed: int
    """Seed of this request alone: the same request with the same seed asks for the same sample."""
    adapter: str | None = None
    """Name of the LoRA adapter to use, or None for the engine's base model."""
    role: str = ""
    """Who asks (`policy`, `experience`, ...): for telemetry only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer of an engine."""

    token_ids: NDArray[np.int32]
    """Shape [generated length], the stop token included."""
    logprobs: NDArray[np.float32]
    """Shape [generated length]: log-probability of each token when it was sampled."""
    finish_reason: FinishReason
    """Why generation ended."""
    prompt_tokens: int
    """Length of the prompt."""
    cached_tokens: int = 0
    """Prompt tokens served from the prefix cache."""
    version: str = ""
    """Version of the weights that answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """What a model wrote in answer to words."""

    text: str
    """The answer."""
    finish_reason: str
    """`stop`, `length` or what else the server calls it."""
    prompt_tokens: int
    """Tokens read, as the server counts."""
    completion_tokens: int
    """Tokens written, as the server counts."""
    model: str
    """What the server says that it answered with."""


def empty_ids() -> NDArray[np.int32]:
    """An empty id array."""
    return np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy decided at one step, with all a trainer needs to learn from it."""

    action: str
    """The action as the environment gets it; empty if what was written holds none, and then the step is wasted."""
    thought: str = ""
    """What the policy wrote before the action, if it thinks aloud."""
    prompt_token_ids: NDArray[np.int32] = field(default_factory=empty_ids)
    """Shape [prompt length]; empty for policies that are no language models."""
    completion: Completion | None = None
    """The engine's answer; None for policies that are no language models."""
