"""A tokenizer that remembers: what thousands of episodes say over and over is tokenized once.

In: a tokenizer. Out: one that answers the same. Always:
- memory is bounded: the `KEPT` texts and answers used last, none longer than `LONGEST`;
- arrays are shared between callers, so they cannot be written to;
- both directions may be called from several threads if those of the tokenizer behind may.

Segments are tokenized apart from each other (`experience.format`), and most of them are few and short: an action, the
tag before it, a line that changed. Looking one up takes under a microsecond, tokenizing it ten to thirty.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dreamsim.protocols import Tokenizer

KEPT: Final = 8192
"""Of each direction."""
LONGEST: Final = 400
"""Characters of a text, or tokens of an answer: longer ones hardly come again."""


class RememberingTokenizer:
    """`tokenizer`, with a memory."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._encoded = lru_cache(maxsize=KEPT)(self._encode)
        self._decoded = lru_cache(maxsize=KEPT)(self._decode)

    @property
    def vocabulary_size(self) -> int:
        """As the tokenizer's."""
        return self._tokenizer.vocabulary_size

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`, shape [n], not to be written to."""
        return self._encoded(text) if len(text) <= LONGEST else self._encode(text)

    def decode(self, token_ids: NDArray[np.int32]) -> str:
        """Text of the ids."""
        if len(token_ids) > LONGEST:
            return self._tokenizer.decode(token_ids)
        return self._decoded(token_ids.astype(np.int32, copy=False).tobytes())

    def _encode(self, text: str) -> NDArray[np.int32]:
        ids = self._tokenizer.encode(text)
        ids.flags.writeable = False
        return ids

    def _decode(self, ids: bytes) -> str:
        return self._tokenizer.decode(np.frombuffer(ids, dtype=np.int32))
