"""The domain of any environment, as far as its real tasks show it.

In: real tasks. Out: whether another task is made of the same words in the same measure.
Always: no task it was made from is refused; of a family nobody has shown, every task is. It knows words, not what they
mean: an adapter that knows its environment's rules has a domain of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from dreamsim.curriculum.task_writing import family_of
from dreamsim.records.state import split_line
from dreamsim.records.task import Task

VERSION: Final = "words-1"
_WORD = re.compile(r"[\w-]+")


class ElementDomain:
    """A `TaskDomain` of the families of `tasks`."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._keys: dict[str, set[str]] = {}
        self._words: dict[str, set[str]] = {}
        self._lines: dict[str, set[int]] = {}
        for task in tasks:
            family = family_of(task)
            self._keys.setdefault(family, set()).update(task.first_state.elements)
            self._words.setdefault(family, set()).update(_words(task))
            self._lines.setdefault(family, set()).add(len(task.first_state.lines))

    @property
    def name(self) -> str:
        """Name and version."""
        return VERSION

    def refusal(self, task: Task) -> str | None:
        """What is foreign about `task`."""
        family = family_of(task)
        if family not in self._keys:
            return "unknown family"
        lengths = self._lines[family]
        if not min(lengths) <= len(task.first_state.lines) <= max(lengths):
            return "too many or too few lines"
        if not set(task.first_state.elements) <= self._keys[family]:
            return "unknown element"
        if not _words(task) <= self._words[family]:
            return "unknown word"
        return None


def _words(task: Task) -> set[str]:
    values = (split_line(line)[1] for line in task.first_state.lines)
    return {word for text in (task.instruction, *values) for word in _WORD.findall(text.lower())}
