"""The tags that lay out what language models read and write here.

In: pieces of text. Out: pieces that cannot imitate the layout. Always: a tag in data loses its brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

TASK: Final = "<task>"
STATE: Final = "<state>"
EXAMPLE: Final = "<example>"
ACTION: Final = "<action>"
REASON: Final = "<reason>"
REWARD: Final = "<reward>"
DONE: Final = "<done>"
END: Final = "<end>"
TAGS: Final = (TASK, STATE, EXAMPLE, ACTION, REASON, REWARD, DONE, END)

_TAG: Final = re.compile(rf"(?<!<)(?<!<\s)<[<\s]*({'|'.join(tag.strip('<>') for tag in TAGS)})[\s>]*>", re.IGNORECASE)
"""A tag as tolerantly as answers are read, with however many brackets: taking off one pair must not leave another.
It begins at the first bracket of a run alone, so that a text of brackets costs one pass."""


TEXTS_KEPT: Final = 16_384
"""Texts of which the plain form is remembered: lines of states come again and again."""
LONGEST_KEPT: Final = 200
"""Characters of the longest one, which bounds memory."""


def joined(lines: Iterable[str]) -> str:
    """Lines, each `plain`, joined by newlines."""
    return "\n".join(map(_PLAIN.__getitem__, lines))


def plain(text: str) -> str:
    """White space collapsed and tags taken apart, so that data cannot imitate the layout."""
    return _PLAIN[text]


class _Plain(dict[str, str]):
    """Plain forms by text; forgotten all at once when there are too many."""

    def __missing__(self, text: str) -> str:
        clean = " ".join(text.split())
        found = _TAG.sub(r"\1", clean) if "<" in clean else clean
        if len(text) <= LONGEST_KEPT:
            if len(self) >= TEXTS_KEPT:
                self.clear()
            self[text] = found
        return found


_PLAIN: Final = _Plain()
