"""Renames the things of an episode, the same way throughout, so that memorizing names cannot pay.

In: an episode and the names in it that may change. Out: the episode with other names.
Always: one name becomes one other name everywhere in the episode, and no two become the same. Most names are made of
ordinary English words that no training episode mentions (`dreamsim.curriculum.lexicon`): a small model then has to copy
what it reads instead of what it remembers.

Where things have numbers (`mug 2`), kinds are renamed (`mug`), each to one word, and numbers can be shuffled within
their kind: what lies in which drawer is then another thing each time a game is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import numpy as np

from dreamsim.curriculum.lexicon import invented_kind, invented_name
from dreamsim.curriculum.renaming import carried_in
from dreamsim.records.episode import Episode
from dreamsim.records.state import State


def kind_of(name: str) -> str:
    """`mug 2` -> `mug`; a name without a number is its own kind."""
    kind, _, number = name.rpartition(" ")
    return kind if kind and number.isdigit() else name


def rename_episode(episode: Episode, names: Collection[str], generator: np.random.Generator) -> Episode:
    """`episode` with every thing of `names` that occurs in it called something else; kinds of numbered things are
    names, too."""
    texts = [episode.task.instruction, *episode.task.first_state.lines]
    for transition in episode.transitions:
        texts += [transition.action, *transition.state.lines]
    said = "\n".join(texts)
    present = sorted((name for name in names if name in said), key=len, reverse=True)
    if not present:
        return episode
    others: dict[str, str] = {}
    here = [key for key in episode.task.first_state.elements if key not in present]
    for name in present:
        numbered = re.search(rf"(?<![\w-]){re.escape(name)} \d", said) is not None
        invented = ""
        while not invented or invented in others.values() or invented in said:
            invented = invented_kind(generator) if numbered else invented_name(generator, [*others.values(), *here])
        others[name] = invented
    pattern = re.compile(r"(?<![\w-])(?:" + "|".join(re.escape(name) for name in present) + r")(?![\w-])")

    return _reworded(episode, lambda text: pattern.sub(lambda found: others[found[0]], text))


def renumber_episode(episode: Episode, generator: np.random.Generator) -> Episode:
    """`episode` with the numbers of each kind of thing or place (`mug 1`, `mug 2`) shuffled, the same way throughout.

    Numbers belong together that names in its states have with the same kind, and those that a line of the first state
    lists for a kind (`drawer: 1 2 3`).
    """
    numbers: dict[str, set[str]] = {}
    for kind, value in episode.task.first_state.elements.items():
        if value and all(word.isdigit() for word in value.split()):
            numbers.setdefault(kind, set()).update(value.split())
    for name in {name for state in _states(episode) for name in state.elements}:
        if (kind := kind_of(name)) != name:
            numbers.setdefault(kind, set()).add(name.rpartition(" ")[2])
    others: dict[str, str] = {}
    for kind, known in sorted(numbers.items()):
        ordered = sorted(known, key=int)
        others |= {
            f"{kind} {ordered[i]}": f"{kind} {ordered[j]}" for i, j in enumerate(generator.permutation(len(known)))
        }
    if not others:
        return episode
    kinds = "|".join(re.escape(kind) for kind in sorted(numbers, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])(?:{kinds}) \d+(?![\w-])")
    return _reworded(episode, lambda text: pattern.sub(lambda found: others.get(found[0], found[0]), text))


def _states(episode: Episode) -> list[State]:
    return [episode.task.first_state, *(transition.state for transition in episode.transitions)]


def _reworded(episode: Episode, other: Callable[[str], str]) -> Episode:
    def other_state(state: State) -> State:
        return State.of(other(line) for line in state.lines)

    task = replace(
        episode.task,
        instruction=other(episode.task.instruction),
        first_state=other_state(episode.task.first_state),
    )
    transitions = tuple(
        replace(
            transition,
            action=other(transition.action),
            state=other_state(transition.state),
            reasoning=other(transition.reasoning),
        )
        for transition in episode.transitions
    )
    return replace(episode, task=task, transitions=transitions)


def carried_names(episodes: Iterable[Episode], *, keep: Collection[str] = ()) -> set[str]:
    """Names of everything that is carried at some time in `episodes`, but those of `keep`."""
    return {name for episode in episodes for name in carried_in(episode)} - set(keep)
