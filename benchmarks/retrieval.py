"""How good the nearest stored step is: does it show what the asked action will do?

In: a JSONL file of episodes. Out: one JSON line per encoder on standard output.

    dreamsim collect --jsonl steps.jsonl.xz ...
    python benchmarks/retrieval.py steps.jsonl.xz

A fifth of the tasks ask, the others are searched. The effect of a step is its changed lines with the names taken out:
names of the action become <0>, <1>, ..., other elements become `other`. Reported is the share of queries whose nearest
step (of another text) has the same effect, and whose four nearest have it among them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamsim.records.experience import embedding_text
from dreamsim.records.state import RESULT, SCENE, State, StateMemory, changes, split_line
from dreamsim.store.jsonl import read_jsonl
from dreamsim.store.lexical import LexicalEncoder

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


def effect_of(before: State, action: str, after: State) -> tuple[str, ...]:
    """What changed, names aside."""
    changed = changes(StateMemory(before), after)
    if any(split_line(line)[0] == SCENE for line in changed):
        return ("moved",)
    padded = f" {action} "
    named = {key for key in (*before.elements, *after.elements) if f" {key} " in padded and key not in (SCENE, RESULT)}
    marks = {key: f"<{place}>" for place, key in enumerate(sorted(named, key=padded.find))}
    effects = set()
    for line in changed:
        key, value = split_line(line)
        if key == RESULT:
            effects.add("failed" if value == "failed" else "told something")
        elif key in marks:
            status = f" {value} "
            for name in sorted(marks, key=len, reverse=True):
                status = status.replace(f" {name} ", f" {marks[name]} ")
            effects.add(f"{marks[key]}:{status}")
        else:
            effects.add(f"other: {value.partition(' ')[0]}")
    return tuple(sorted(effects))


def words_and_pairs(dimension: int) -> Encode:
    """The usual lexical encoder, for comparison."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(n_features=dimension, ngram_range=(1, 2), norm="l2", token_pattern=r"[^\s]+")
    return lambda texts: np.asarray(vectorizer.transform(texts).toarray(), dtype=np.float32)


def main(path: Path, most: int) -> None:
    """Measure all encoders on the episodes of a file."""
    texts: list[str] = []
    effects: list[tuple[str, ...]] = []
    environments: list[str] = []
    asking: list[bool] = []
    for episode in read_jsonl(path):
        state = episode.task.first_state
        for transition in episode.transitions:
            texts.append(embedding_text(state.lines, transition.action))
            effects.append(effect_of(state, transition.action, transition.state))
            environments.append(episode.task.environment)
            asking.append(int(episode.task.key, 16) % 5 == 0)
            state = transition.state
    places = np.array(environments)
    searched = np.flatnonzero(~np.array(asking))
    queries = np.random.default_rng(0).permutation(np.flatnonzero(asking))[:most]
    encoders: dict[str, Encode] = {
        f"{LexicalEncoder().name} (the default)": LexicalEncoder().encode,
        LexicalEncoder(512).name: LexicalEncoder(512).encode,
        "words and pairs of words, 512": words_and_pairs(512),
        "words and pairs of words, 4096": words_and_pairs(4096),
    }
    for name, encode in encoders.items():
        vectors = encode(texts)
        first = among_four = 0
        for query in queries:
            similar = vectors[searched] @ vectors[query]
            similar[places[searched] != places[query]] = -2.0
            found: dict[str, tuple[str, ...]] = {}
            for place in np.argsort(-similar, kind="stable")[:200]:
                step = searched[place]
                if texts[step] != texts[query]:
                    found.setdefault(texts[step], effects[step])
                if len(found) == 4:
                    break
            nearest = list(found.values())
            first += nearest[:1] == [effects[query]]
            among_four += effects[query] in nearest
        shares = {"nearest": first / len(queries), "among_four": among_four / len(queries)}
        print(json.dumps({"encoder": name, "steps": len(texts), "queries": len(queries), **shares}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("episodes", type=Path)
    parser.add_argument("--queries", type=int, default=1000)
    given = parser.parse_args()
    main(given.episodes, given.queries)
