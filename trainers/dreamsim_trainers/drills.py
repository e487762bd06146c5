"""Drills: made-up episodes in which everything hangs on what was read, for models trained from scratch.

In: a seed. Out: episodes of an invented world whose things have invented names and lie in random places.
Always: a thing in a place that is closed cannot be seen, so only empty places can be closed. Each step asks where
things are, and the answer is in the text and nowhere else: nothing can be guessed from a name, because names are made
anew for every episode. In some drills a note that is shown at the beginning can be read again and again: it says much
the same thing several times, so that copying it takes more than looking at the last word. Drills are for training
only: they are neither real nor dreamed, and never stored.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamsim.curriculum.lexicon import invented_name
from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import RESULT, State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import generator as named_generator

NOTE_SHARE = 0.4
"""Of the drills: one that shows a note at the beginning."""
_NOTE_VERBS = ("slice", "dice", "chop", "fry", "roast", "grill")
_OTHER_VALUES = ("raw", "roasted", "sliced", "fried", "chopped", "grilled", "diced")


def drill_episodes(count: int, *, seed: int, steps: int = 14) -> Iterator[Episode]:
    """`count` drills of `steps` steps each."""
    for number in range(count):
        generator = named_generator(seed, "drill", number)
        names: list[str] = []
        while len(names) < int(generator.integers(8, 16)):
            name = invented_name(generator, names)
            if name not in names:
                names.append(name)
        yield _episode(number, names, generator, steps)


def _episode(number: int, names: list[str], generator: np.random.Generator, steps: int) -> Episode:
    places = names[: 2 + len(names) // 3]
    things = names[len(places) : -2]
    absent = names[-2:]
    values = {place: str(generator.choice(["here", "closed", "open"])) for place in places}
    for thing in things:
        shown = [place for place in places if values[place] != "closed"]
        where = f"in {generator.choice(shown)}" if shown and generator.random() < 0.6 else "here"
        extra = f" {generator.choice(_OTHER_VALUES)}" if generator.random() < 0.3 else ""
        values[thing] = where + extra
    note = _note(names, generator) if generator.random() < NOTE_SHARE else ""
    first = State.from_elements({**values, **({RESULT: note} if note else {})})
    task = Task(environment="drill", instruction="look closely", first_state=first, fold="train", seed=number)
    transitions = [
        _reading(values, note, generator)
        if note and generator.random() < 0.2
        else _step(values, places, things, absent, generator)
        for _ in range(steps)
    ]
    return Episode(
        id=f"drill{number}",
        run="drill",
        task=task,
        repeat=0,
        source="real",
        purpose="experience",
        transitions=tuple(transitions),
        outcome="truncated",
    )


def _note(names: list[str], generator: np.random.Generator) -> str:
    """Such as `gather egg, red apple; slice egg; fry egg; roast red apple; prepare meal`."""
    wanted = [names[index] for index in generator.permutation(len(names))[: int(generator.integers(2, 5))]]
    steps = [
        f"{verb} {name}"
        for name in wanted
        for verb in generator.permutation(_NOTE_VERBS)[: int(generator.choice([0, 1, 2], p=[0.25, 0.45, 0.3]))]
    ]
    return "; ".join([f"gather {', '.join(wanted)}", *steps, "prepare meal"])


def _reading(values: dict[str, str], note: str, generator: np.random.Generator) -> Transition:
    if generator.random() < 0.5:
        return Transition(
            action="look around", state=State.from_elements(values), reward=0.0, outcome="running", reasoning="works"
        )
    return Transition(
        action="read note",
        state=State.from_elements({**values, RESULT: note}),
        reward=0.0,
        outcome="running",
        reasoning="note: none; works; read before",
    )


def _step(
    values: dict[str, str], places: list[str], things: list[str], absent: list[str], generator: np.random.Generator
) -> Transition:
    thing = str(generator.choice(things if generator.random() < 0.85 else absent))
    place = str(generator.choice(places))
    kind = str(generator.choice(["take", "put", "open", "close"], p=[0.45, 0.3, 0.15, 0.1]))
    names = {"take": [thing], "put": [thing, place]}.get(kind, [place])
    action = f"put {thing} in {place}" if kind == "put" else f"{kind} {names[0]}"
    facts = [f"{name}: {values.get(name, 'none')}" for name in names]
    outcome = _change(values, kind, thing, place)
    result = {} if outcome else {"result": "failed"}
    return Transition(
        action=action,
        state=State.from_elements({**values, **result}),
        reward=0.0,
        outcome="running",
        reasoning="; ".join([*facts, "works" if outcome else "fails"]),
    )


def _change(values: dict[str, str], kind: str, thing: str, place: str) -> bool:
    """Change what the action changes; whether it works."""
    place_value, thing_value = values[place], values.get(thing, "none")
    extra = " ".join(word for word in thing_value.split() if word in _OTHER_VALUES)
    held = thing_value.startswith("held")
    if kind == "take" and thing in values and not held:
        values[thing] = f"held {extra}".strip()
    elif kind == "put" and held and place_value != "closed":
        values[thing] = f"in {place} {extra}".strip()
    elif kind == "open" and place_value == "closed":
        values[place] = "open"
    elif kind == "close" and place_value == "open" and _is_empty(place, values):
        values[place] = "closed"
    else:
        return False
    return True


def _is_empty(place: str, values: dict[str, str]) -> bool:
    """Whether nothing lies in `place`; what lies in a place whose longer name begins with the same words does not."""
    within = {f"in {place}", *(f"in {place} {extra}" for extra in _OTHER_VALUES)}
    return within.isdisjoint(values.values())
