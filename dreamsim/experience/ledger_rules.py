"""Rules that hold wherever states are element lines and things keep still while nobody touches them.

In: the books of an episode and a step. Out: what in it they forbid.
Always: a rule is a generator function whose name is the contradiction's name and whose docstring is the rule; where an
environment may do otherwise, or the state shows too little to tell, a rule says nothing. Verbs are recognised by the
first word of an action; an action with another verb may do anything that the state rules allow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache

from dreamsim.experience.books import (
    TEXTS_KEPT,
    Books,
    Rule,
    Step,
    base_name,
    differences,
    names_word_of,
    without_result,
    words_of,
)
from dreamsim.records.state import RESULT, SCENE, is_held

LOOKS = frozenset({"look", "inventory", "examine", "read"})
"""Verbs of actions that only look."""
OPENS, CLOSES = frozenset({"open"}), frozenset({"close", "shut"})
TAKES, PUTS = frozenset({"take", "get", "pick"}), frozenset({"put", "place", "drop", "insert", "move"})
_PLAIN = LOOKS | OPENS | CLOSES | TAKES | PUTS | {"go"}


def after_end(books: Books, step: Step) -> Iterator[str]:
    """No step is taken after the task has ended."""
    if books.over:
        yield f"{step.action!r} was taken although the task had ended"


def reward_range(books: Books, step: Step) -> Iterator[str]:
    """A reward is a finite number in the task's range."""
    low, high = books.rewards.minimum_reward, books.rewards.maximum_reward
    if not (math.isfinite(step.reward) and low <= step.reward <= high):
        yield f"the reward {step.reward} is outside {low} to {high}"


def reward_without_success(books: Books, step: Step) -> Iterator[str]:
    """Where only solving the task pays, a step that does not solve it earns nothing."""
    if books.rewards.outcome_only and step.outcome != "success" and step.reward != 0:
        yield f"the reward is {step.reward} and the outcome is {step.outcome}"


def success_unpaid(books: Books, step: Step) -> Iterator[str]:
    """Where only solving the task pays, the step that solves it earns the greatest reward."""
    most = books.rewards.maximum_reward
    if books.rewards.outcome_only and step.outcome == "success" and step.reward != most:
        yield f"success earned {step.reward}, not {most}"


def failed_changes(books: Books, step: Step) -> Iterator[str]:
    """An action that shows `result: failed` changes nothing else."""
    before, after = without_result(books.before), without_result(step.after)
    if step.failed and before != after:
        yield f"{step.action!r} failed, but {differences(before, after)}"


def failed_earns(books: Books, step: Step) -> Iterator[str]:
    """An action that shows `result: failed` earns nothing."""
    if step.failed and step.reward != 0:
        yield f"{step.action!r} failed and earned {step.reward}"


def failed_ends(books: Books, step: Step) -> Iterator[str]:
    """An action that shows `result: failed` does not end the task."""
    if step.failed and step.outcome != "running":
        yield f"{step.action!r} failed and ended the task with {step.outcome}"


def look_twice(books: Books, step: Step) -> Iterator[str]:
    """Looking again at once, in the same words, shows the same."""
    # Where there are no places, a verb may be only a word to say.
    again = step.verb in LOOKS and step.action == books.last_action and books.scene is not None
    if again and books.before != step.after:
        yield f"{step.action!r} twice: {differences(books.before, step.after)}"


def held_stays(books: Books, step: Step) -> Iterator[str]:
    """What is held stays held while only other things are looked at, opened, closed, taken or walked to."""
    after = step.after
    walked = after.get(SCENE) != books.scene
    if step.verb not in (_PLAIN if walked else _PLAIN - PUTS):
        return
    fewer = _held(books.before) - _held(after)
    for name in fewer:
        if not names_word_of(step.action, name):
            yield f"{name!r} was held; {step.action!r} does not name it, and it is {after.get(name, 'gone')!r}"


def one_place(books: Books, step: Step) -> Iterator[str]:
    """Taking or putting a thing moves it; what is held lies nowhere else, and is not where it was taken from."""
    if step.failed:
        return
    after = step.after
    now, held = Counter(map(base_name, after)), _held(after)
    if after.get(SCENE) == books.scene:
        if step.verb in TAKES | PUTS:
            known = Counter(map(base_name, books.before))
            for name, count in now.items():
                if known[name] and count > known[name]:
                    yield f"there were {known[name]} of {name!r} and are {count} after {step.action!r}"
        return
    if after.get(SCENE) in books.scenes and step.verb in _PLAIN:
        # Counted apart: a thing that is carried may have the name of one that lies there.
        there = (name for name, value in books.memory.left(after.get(SCENE)).items() if not is_held(value))
        known = Counter(map(base_name, there)) + _held(books.before)
        for name in held:
            if now[name] > known[name]:
                yield f"{name!r} is held, and lies also in {after.get(SCENE)!r}, where it was not left"


def from_nowhere(books: Books, step: Step) -> Iterator[str]:
    """Closing, taking, putting and looking twice bring no new names; nobody takes what was never mentioned."""
    after = step.after
    if step.failed or after.get(SCENE) != books.scene:
        return
    doing = step.verb
    if books.scene is not None and doing in CLOSES | TAKES | PUTS:
        known = set(map(base_name, books.before))
        for key in after:
            if key != RESULT and base_name(key) not in known and not names_word_of(step.action, key):
                yield f"{key!r} was not there before {step.action!r}"
    if doing in TAKES:
        for key, value in after.items():
            if is_held(value) and not is_held(books.before.get(key, "")) and not _mentioned(books, key):
                yield f"{key!r} was taken, and no line has ever shown it"


def opened_stays(books: Books, step: Step) -> Iterator[str]:
    """What is open stays open, and what is closed stays closed, unless the action is about it."""
    after = step.after
    if after.get(SCENE) != books.scene or step.verb not in _PLAIN:
        return
    for key, value in books.before.items():
        was, now = _openness(value), _openness(after.get(key, ""))
        if was and now and was != now and not names_word_of(step.action, key):
            yield f"{key!r} was {was}; {step.action!r} does not name it, and it is {now}"


def closed_hides(books: Books, step: Step) -> Iterator[str]:
    """A closed container shows no contents."""
    after = step.after
    for key, value in after.items():
        inside = container_of(after, value)
        if inside is not None and _openness(after[inside]) == "closed":
            yield f"{key!r} is shown in {inside!r}, which is closed"


RULES: tuple[Rule[Books], ...] = (
    after_end,
    reward_range,
    reward_without_success,
    success_unpaid,
    failed_changes,
    failed_earns,
    failed_ends,
    look_twice,
    held_stays,
    one_place,
    from_nowhere,
    opened_stays,
    closed_hides,
)
"""The rules of every environment, in the order of checking."""


def container_of(elements: Mapping[str, str], value: str) -> str | None:
    """The element that `in <name> <more>` names: the longest name that fits; None when there is none."""
    if not value.startswith("in "):
        return None
    words = value.split()
    names = (" ".join(words[1:length]) for length in range(len(words), 1, -1))
    return next((name for name in names if name in elements), None)


def _held(elements: Mapping[str, str]) -> Counter[str]:
    return Counter([base_name(key) for key, value in elements.items() if is_held(value)])


@lru_cache(maxsize=TEXTS_KEPT)
def _openness(value: str) -> str:
    word = next(iter(value.split()), "")
    return word if word in ("open", "closed") else ""


def _mentioned(books: Books, key: str) -> bool:
    return not books.words.isdisjoint(words_of(base_name(key)))
