"""What a server's answer says, where servers say it in different ways.

In: one choice of a completion, as JSON. Out: token ids, log-probabilities, the reason why it ended.
Always: what is not told is not made up: log-probabilities are NaN, ids None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import EngineError
from dreamsim.records.completion import FinishReason


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
    return np.array([np.nan if value is None else value for value in told], dtype=np.float32)


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
