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


def joined(lines: Iterable[str]) -> str:
    """Lines, each `plain`, joined by newlines."""
    return "\n".join(plain(line) for line in lines)


def plain(text: str) -> str:
    """White space collapsed and tags taken apart, so that data cannot imitate the layout."""
    clean = " ".join(text.split())
    return _TAG.sub(r"\1", clean) if "<" in clean else clean
