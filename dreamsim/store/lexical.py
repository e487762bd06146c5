"""The default encoder: words and relations, hashed into a vector; no weights, nothing to download.

In: texts of `embedding_text`: the action, then the state's lines. Out: vectors of length 1. Always: the same text
gives the same vector on every machine.

Bags of words find states that look alike. What decides the effect of an action is another thing: its verb, and
what the state says about the things it names. So beside the words there are features that join the two, with
names taken out: `take apple` with `apple: in fridge` gives `take <0>` and `take <0> in fridge`; a name that the
action mentions too would be `<1>`.

On the 14,727 real steps shipped with the package the nearest step of another task has the same effect, names
aside, for 97 % of queries, against 73 % for words and pairs of words: `benchmarks/retrieval.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsim.records.state import split_line

VERB_WEIGHT = 1.0
ARGUMENT_WEIGHT = 0.5
RELATION_WEIGHT = 1.5
STATE_WEIGHT = 0.4
MAX_STATE_WORDS = 400
"""A page of a web state can have thousands of words; those after these add nothing that hashing could keep."""


class LexicalEncoder:
    """Hashes words and relations with scikit-learn's `FeatureHasher`."""

    __slots__ = ("_dimension", "_hasher")

    def __init__(self, dimension: int = 128) -> None:
        """An encoder of vectors with `dimension` components; 128 lose nothing measurable against 512."""
        self._dimension = dimension
        self._hasher: Any = None

    @property
    def name(self) -> str:
        """Name and version."""
        return f"lexical-1-{self._dimension}"

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape [len(texts), dimension]; about 40,000 texts a second on one core."""
        if not texts:
            return np.zeros((0, self._dimension), dtype=np.float32)
        if self._hasher is None:
            from sklearn.feature_extraction import FeatureHasher

            self._hasher = FeatureHasher(n_features=self._dimension, input_type="pair", dtype=np.float32)
        hashed = self._hasher.transform(_features(text) for text in texts).toarray()
        lengths = np.linalg.norm(hashed, axis=1, keepdims=True)
        # Features can cancel out in theory; such a text resembles nothing but itself.
        empty = lengths[:, 0] == 0
        hashed[empty, 0] = lengths[empty] = 1.0
        vectors: NDArray[np.float32] = (hashed / lengths).astype(np.float32)
        return vectors


def _features(text: str) -> Iterator[tuple[str, float]]:
    first, _, rest = text.partition("\n")
    words = first.split()
    verb = words[0] if words else ""
    elements = [split_line(line) for line in rest.split("\n") if line]
    yield f"v:{verb}", VERB_WEIGHT
    yield from _weighted([f"a:{word}" for word in words[1:]], ARGUMENT_WEIGHT)
    yield from _weighted(_relations(verb, f" {' '.join(words)} ", elements), RELATION_WEIGHT)
    state_words = [f"s:{word}" for key, value in elements for word in (*key.split(), *value.split())]
    yield from _weighted(state_words[:MAX_STATE_WORDS], STATE_WEIGHT)


def _weighted(features: list[str], weight: float) -> Iterator[tuple[str, float]]:
    """Each group of features has the same say, however many there are in it."""
    each = weight / math.sqrt(len(features)) if features else 0.0
    return ((feature, each) for feature in features)


def _relations(verb: str, action: str, elements: list[tuple[str, str]]) -> list[str]:
    """What the state says about the things that `action` names, with `<0>`, `<1>`, ... for their names."""
    places: dict[str, int] = {}
    for key, _ in elements:
        place = action.find(f" {key} ") if key else -1
        if place >= 0:
            places[key] = place
    if not places:
        return [f"t:{verb}", "r:nothing named"]
    marks = {key: f"<{number}>" for number, key in enumerate(sorted(places, key=lambda key: places[key]))}
    longest_first = sorted(marks, key=len, reverse=True)
    relations = ["t:" + _marked(action, marks, longest_first)]
    for key, value in elements:
        if key in marks:
            status = _marked(f" {value} ", marks, longest_first)
            relations.append(f"r:{verb}:{marks[key]}:{status}")
            relations.append(f"r:{verb}:{marks[key]}:{value.partition(' ')[0]}")
    return relations


def _marked(text: str, marks: dict[str, str], names: list[str]) -> str:
    for name in names:
        text = text.replace(f" {name} ", f" {marks[name]} ")
    return text
