"""What a server's answer says, where servers say it in different ways.

In: one choice of a completion, as JSON. Out: token ids, log-probabilities, the reason why it ended.
Always: what is not told is not made up: log-probabilities are NaN, ids None. What no model can have said, such as more
tokens than were asked for, is refused: a `ValueError` here, an `EngineError` for who asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dreamsim.errors import EngineError
from dreamsim.records import limits
from dreamsim.records.completion import FinishReason

LARGEST_LOGPROB: Final = 0.01
"""Rounding on a server may lift a log-probability of 0 a little."""


def ids_in_logprobs(choice: Mapping[str, Any]) -> list[int] | None:
    """Ids that a server writes as `token_id:17` into its log-probabilities."""
    tokens = (choice.get("logprobs") or {}).get("tokens")
    if not tokens or not all(str(token).startswith("token_id:") for token in tokens):
        return None
    return [int(str(token).removeprefix("token_id:")) for token in tokens]


def logprobs_of(choice: Mapping[str, Any], length: int) -> NDArray[np.float32]:
    """Log-probabilities of the tokens, shape [length]; NaN where the server tells none."""
    told = (choice.get("logprobs") or {}).get("token_logprobs")
    if told is None or len(told) != length:
        return np.full(length, np.nan, dtype=np.float32)
    logprobs = np.array([np.nan if value is None else float(value) for value in told], dtype=np.float32)
    if np.any(np.isinf(logprobs)) or np.any(logprobs > LARGEST_LOGPROB):
        raise ValueError("a log-probability that is above 0 or not finite")
    return logprobs


def token_ids_of(told: ArrayLike, *, most: int, vocabulary: int | None) -> NDArray[np.int32]:
    """Token ids, shape [n], if a model can have said them.

    Args:
        told: ids as the server or a tokenizer gives them.
        most: tokens that were asked for.
        vocabulary: number of ids there are, where that is known.

    Raises:
        ValueError: they are no ids, or too many.
    """
    ids = np.asarray(told)
    if ids.size == 0 and ids.ndim == 1:
        return np.zeros(0, dtype=np.int32)
    if ids.ndim != 1 or ids.dtype.kind != "i":
        raise ValueError("token ids that are no list of integers")
    if len(ids) > most:
        raise ValueError(f"{len(ids)} tokens where {most} were asked for")
    end = 2**31 if vocabulary is None else vocabulary
    if ids.min() < 0 or ids.max() >= end:
        raise ValueError(f"a token id outside 0..{end - 1}")
    return ids.astype(np.int32)


def text_of(told: object, *, most: int) -> str:
    """Text, if `most` tokens can be so much.

    Raises:
        ValueError: it is no text, or too long.
    """
    if not isinstance(told, str):
        raise ValueError("an answer that is no text")
    if len(told) > limits.ANSWER_CHARACTERS_PER_TOKEN * most:
        raise ValueError(f"{len(told):,} characters where {most} tokens were asked for")
    return told


def count_of(told: object) -> int:
    """A number of tokens; 0 where none is told.

    Raises:
        ValueError: it cannot be one.
    """
    if told is None:
        return 0
    if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told < 2**31:
        raise ValueError("a number of tokens that is none")
    return told


def finish_reason_of(choice: Mapping[str, Any]) -> FinishReason:
    """Why the answer ended.

    Raises:
        EngineError: for a reason of the server's own.
    """
    told = choice.get("finish_reason")
    reasons: dict[object, FinishReason] = {"stop": "stop", "length": "length", "abort": "abort"}
    if told not in reasons:
        raise EngineError(f"the server ended its answer with {told!r}")
    return reasons[told]
