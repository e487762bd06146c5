"""The books of one episode: what has been shown so far, as the rules of a ledger read it.

In: a task and, one after another, its transitions. Out: the present state, the scenes as they were left, names seen.
Always: only `enter` moves the books on; nothing in them is made up, and nothing seen is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar

from dreamsim.experience.parse import AnswerRules
from dreamsim.records.episode import StepOutcome, Transition
from dreamsim.records.state import RESULT, SCENE, StateMemory
from dreamsim.records.task import Task

FAILED = "failed"
"""Value of the `result` line after an action that did not work."""
TEXTS_KEPT = 16_384
"""Names and lines of which it is kept how they are read: rules ask for the same ones at every step."""


class Books:
    """What every ledger writes down of an episode."""

    def __init__(self, task: Task, rewards: AnswerRules) -> None:
        self.task = task
        """What was asked."""
        self.rewards = rewards
        """Which rewards the task gives."""
        self.before: Mapping[str, str] = task.first_state.elements
        """Elements of the present state: the next transition starts from it."""
        self.memory = StateMemory(task.first_state)
        """What every scene looked like when it was last seen."""
        self.scenes: set[str | None] = {task.first_state.scene}
        """Scenes seen."""
        self.words: set[str] = set().union(*map(words_of, task.first_state.lines))
        """Every word shown so far."""
        self.last_action: str | None = None
        """The action before."""
        self.over = False
        """Whether the task has ended."""

    @property
    def scene(self) -> str | None:
        """Where the agent is; None in an environment without scenes."""
        return self.before.get(SCENE)

    def enter(self, transition: Transition) -> None:
        """Go on from `transition`."""
        state = transition.state
        self.before = state.elements
        self.memory.see(state)
        self.scenes.add(state.scene)
        self.words.update(*map(words_of, state.lines))
        self.last_action = transition.action
        self.over = self.over or transition.done


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A transition as rules look at it, taken apart once."""

    action: str
    """As it was given."""
    verb: str
    """First word of the action, in small letters."""
    after: Mapping[str, str]
    """Elements of the state after it."""
    failed: bool
    """Whether the state says that the action did not work."""
    reward: float
    """What it earned."""
    outcome: StepOutcome
    """What it led to."""

    @classmethod
    def of(cls, transition: Transition) -> Step:
        """Take `transition` apart."""
        after = transition.state.elements
        return cls(
            action=transition.action,
            verb=next(iter(transition.action.casefold().split()), ""),
            after=after,
            failed=after.get(RESULT) == FAILED,
            reward=transition.reward,
            outcome=transition.outcome,
        )


BooksT_contra = TypeVar("BooksT_contra", bound=Books, contravariant=True)


class Rule(Protocol[BooksT_contra]):
    """One rule: its name is the contradiction's, its docstring says what it forbids."""

    __name__: str
    __doc__: str | None

    def __call__(self, books: BooksT_contra, step: Step, /) -> Iterator[str]:
        """A message for each way in which `step` breaks the rule."""
        ...


def meanings(rules: Iterable[Rule[Books]]) -> dict[str, str]:
    """Name of each rule -> the first line of its docstring."""
    return {rule.__name__: (rule.__doc__ or "").strip().splitlines()[0] for rule in rules}


def without_result(elements: Mapping[str, str]) -> dict[str, str]:
    """The elements without what the last action returned."""
    return {key: value for key, value in elements.items() if key != RESULT}


def differences(before: Mapping[str, str], after: Mapping[str, str], most: int = 3) -> str:
    """The first few differences of two states, for a person."""
    told = [
        f"{key!r} was {before.get(key, 'not there')!r}, is {after.get(key, 'not there')!r}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]
    return "; ".join(told[:most]) + (f"; and {len(told) - most} more" if len(told) > most else "")


@lru_cache(maxsize=TEXTS_KEPT)
def base_name(key: str) -> str:
    """A name without the number that tells it from another of the same name: `egg #2` is an `egg`."""
    name, mark, number = key.rpartition(" #")
    return name if mark and number.isdecimal() else key


def names_word_of(action: str, key: str) -> bool:
    """Whether `action` has any word of the name `key`: then it may be about that element."""
    return not words_of(action).isdisjoint(words_of(base_name(key)))


@lru_cache(maxsize=TEXTS_KEPT)
def words_of(text: str) -> frozenset[str]:
    """The words of `text` in small letters, without punctuation."""
    return frozenset(text.casefold().translate(_PUNCTUATION).split())


_PUNCTUATION = str.maketrans(dict.fromkeys("[](){}:;,.!?'\"", " "))
