"""Rules that hold wherever states are element lines and things keep still while nobody touches them.

In: the books of an episode and a transition. Out: what in it they forbid.
Always: a rule is a generator function whose name is the contradiction's name and whose docstring is the rule; where an
environment may do otherwise, or the state shows too little to tell, a rule says nothing. Verbs are recognised by the
first word of an action; an action with another verb may do anything that the state rules allow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from dreamsim.experience.books import (
    Books,
    Rule,
    base_name,
    differences,
    failed,
    names_word_of,
    without_result,
)
from dreamsim.records.episode import Transition
from dreamsim.records.state import RESULT, SCENE, is_held

LOOKS = frozenset({"look", "inventory", "examine", "read"})
"""Verbs of actions that only look."""
OPENS, CLOSES = frozenset({"open"}), frozenset({"close", "shut"})
TAKES, PUTS = frozenset({"take", "get", "pick"}), frozenset({"put", "place", "drop", "insert", "move"})
_PLAIN = LOOKS | OPENS | CLOSES | TAKES | PUTS | {"go"}


def verb(transition: Transition) -> str:
    """The first word of the action."""
    return next(iter(transition.action.casefold().split()), "")


def after_end(books: Books, transition: Transition) -> Iterator[str]:
    """No step is taken after the task has ended."""
    if books.over:
        yield f"{transition.action!r} was taken although the task had ended"


def reward_range(books: Books, transition: Transition) -> Iterator[str]:
    """A reward is a finite number in the task's range."""
    low, high = books.rewards.minimum_reward, books.rewards.maximum_reward
    if not (math.isfinite(transition.reward) and low <= transition.reward <= high):
        yield f"the reward {transition.reward} is outside {low} to {high}"


def reward_without_success(books: Books, transition: Transition) -> Iterator[str]:
    """Where only solving the task pays, a step that does not solve it earns nothing."""
    if books.rewards.outcome_only and transition.outcome != "success" and transition.reward != 0:
        yield f"the reward is {transition.reward} and the outcome is {transition.outcome}"


def success_unpaid(books: Books, transition: Transition) -> Iterator[str]:
    """Where only solving the task pays, the step that solves it earns the greatest reward."""
    most = books.rewards.maximum_reward
    if books.rewards.outcome_only and transition.outcome == "success" and transition.reward != most:
        yield f"success earned {transition.reward}, not {most}"


def failed_changes(books: Books, transition: Transition) -> Iterator[str]:
    """An action that shows `result: failed` changes nothing else."""
    before, after = without_result(books.before), without_result(transition.state.elements)
    if failed(transition) and before != after:
        yield f"{transition.action!r} failed, but {differences(before, after)}"


def failed_earns(books: Books, transition: Transition) -> Iterator[str]:
    """An action that shows `result: failed` earns nothing."""
    if failed(transition) and transition.reward != 0:
        yield f"{transition.action!r} failed and earned {transition.reward}"


def failed_ends(books: Books, transition: Transition) -> Iterator[str]:
    """An action that shows `result: failed` does not end the task."""
    if failed(transition) and transition.done:
        yield f"{transition.action!r} failed and ended the task with {transition.outcome}"


def look_twice(books: Books, transition: Transition) -> Iterator[str]:
    """Looking again at once, in the same words, shows the same."""
    again = verb(transition) in LOOKS and transition.action == books.last_action
    if again and books.before != transition.state.elements:
        yield f"{transition.action!r} twice: {differences(books.before, transition.state.elements)}"


def held_stays(books: Books, transition: Transition) -> Iterator[str]:
    """What is held stays held while only other things are looked at, opened, closed, taken or walked to."""
    after = transition.state.elements
    walked = after.get(SCENE) != books.scene
    if verb(transition) not in (_PLAIN if walked else _PLAIN - PUTS):
        return
    fewer = _held(books.before) - _held(after)
    for name in fewer:
        if not names_word_of(transition.action, name):
            yield f"{name!r} was held; {transition.action!r} does not name it, and it is {after.get(name, 'gone')!r}"


def one_place(books: Books, transition: Transition) -> Iterator[str]:
    """Taking or putting a thing moves it; what is held lies nowhere else, and is not where it was taken from."""
    if failed(transition):
        return
    after = transition.state.elements
    now, held = Counter(map(base_name, after)), _held(after)
    if after.get(SCENE) == books.scene:
        if verb(transition) in TAKES | PUTS:
            known = Counter(map(base_name, books.before))
            for name, count in now.items():
                if known[name] and count > known[name]:
                    yield f"there were {known[name]} of {name!r} and are {count} after {transition.action!r}"
        return
    if after.get(SCENE) in books.scenes and verb(transition) in _PLAIN:
        known = Counter(map(base_name, books.memory.base(after.get(SCENE))))
        for name in held:
            if now[name] > known[name]:
                yield f"{name!r} is held, and lies also in {after.get(SCENE)!r}, where it was not left"


def from_nowhere(books: Books, transition: Transition) -> Iterator[str]:
    """Closing, taking, putting and looking twice bring no new names; nobody takes what was never mentioned."""
    after = transition.state.elements
    if failed(transition) or after.get(SCENE) != books.scene:
        return
    doing = verb(transition)
    if books.scene is not None and doing in CLOSES | TAKES | PUTS:
        known = set(map(base_name, books.before))
        for key in after:
            if key != RESULT and base_name(key) not in known and not names_word_of(transition.action, key):
                yield f"{key!r} was not there before {transition.action!r}"
    if doing in TAKES:
        for key, value in after.items():
            if is_held(value) and not is_held(books.before.get(key, "")) and not _mentioned(books, key):
                yield f"{key!r} was taken, and no line has ever shown it"


def opened_stays(books: Books, transition: Transition) -> Iterator[str]:
    """What is open stays open, and what is closed stays closed, unless the action is about it."""
    after = transition.state.elements
    if after.get(SCENE) != books.scene or verb(transition) not in _PLAIN:
        return
    for key, value in books.before.items():
        was, now = _openness(value), _openness(after.get(key, ""))
        if was and now and was != now and not names_word_of(transition.action, key):
            yield f"{key!r} was {was}; {transition.action!r} does not name it, and it is {now}"


def closed_hides(books: Books, transition: Transition) -> Iterator[str]:
    """A closed container shows no contents."""
    after = transition.state.elements
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
    words = value.split()
    if words[:1] != ["in"]:
        return None
    names = (" ".join(words[1:length]) for length in range(len(words), 1, -1))
    return next((name for name in names if name in elements), None)


def _held(elements: Mapping[str, str]) -> Counter[str]:
    return Counter(base_name(key) for key, value in elements.items() if is_held(value))


def _openness(value: str) -> str:
    word = next(iter(value.split()), "")
    return word if word in ("open", "closed") else ""


def _mentioned(books: Books, key: str) -> bool:
    return names_word_of(" ".join(books.words), key)
