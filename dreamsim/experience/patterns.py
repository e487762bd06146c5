"""Patterns over short texts: literal words with places to fill, `put the {thing} in the {place}`.

In: a pattern and a text. Out: what stood in its places, or that it does not match.
Always: a text is matched as a whole, its white space collapsed and letter case ignored; a place takes at least one
character, and as few as it can; matching takes one pass over the text, whatever a model may have written into it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dreamsim.errors import RecordError

_PART = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_LONGEST = 2000
"""Characters of a pattern; more is not a pattern but a file in the wrong place."""


def folded(text: str) -> str:
    """`text` as it is compared: white space collapsed, letter case ignored."""
    return " ".join(text.split()).casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A pattern, taken apart. Made by `parse_pattern`."""

    text: str
    """As it was written."""
    literals: tuple[str, ...]
    """What stands before, between and after the places: one more than there are places."""
    places: tuple[str, ...]
    """Names of the places in order; empty for `{}`."""

    @property
    def names(self) -> frozenset[str]:
        """Names that it uses."""
        return frozenset(self.places) - {""}

    def filled(self, values: Mapping[str, str]) -> Pattern:
        """The pattern with these names replaced by what they stand for."""
        literals = [self.literals[0]]
        places: list[str] = []
        for place, after in zip(self.places, self.literals[1:], strict=True):
            if place in values:
                literals[-1] += values[place] + after
            else:
                places.append(place)
                literals.append(after)
        return Pattern(text=self.text, literals=tuple(literals), places=tuple(places))

    def match(self, text: str) -> dict[str, str] | None:
        """What stands in the named places of `text`, which is `folded` already; None when it does not match."""
        first, *rest = self.literals
        if not rest:
            return {} if text == first else None
        if not text.startswith(first):
            return None
        found: dict[str, str] = {}
        at = len(first)
        for number, (place, literal) in enumerate(zip(self.places, rest, strict=True), 1):
            # Taking the first place where a literal fits leaves the most to those after it, so none is tried twice.
            last = number == len(rest)
            end = len(text) - len(literal) if last and text.endswith(literal) else text.find(literal, at + 1)
            if end <= at or (last and end + len(literal) != len(text)):
                return None
            if place:
                found[place] = text[at:end]
            at = end + len(literal)
        return found


def parse_pattern(text: str, where: str) -> Pattern:
    """Take a pattern apart. `{name}` and `{}` are places, `{{` and `}}` are braces.

    Raises:
        RecordError: it is empty, too long, or its braces make no sense.
    """
    if len(text) > _LONGEST:
        raise RecordError(where, f"has {len(text)} characters; {_LONGEST} are allowed")
    if not text.strip():
        raise RecordError(where, "is empty")
    literals: list[str] = [""]
    places: list[str] = []
    at = 0
    clean = " ".join(text.split())
    for part in _PART.finditer(clean):
        literals[-1] += clean[at : part.start()]
        at = part.end()
        word = part[0]
        if word in ("{{", "}}"):
            literals[-1] += word[0]
            continue
        if word in ("{", "}"):
            raise RecordError(where, f"has a lone '{word}': write '{word}{word}' for a brace")
        name = word[1:-1]
        if name and not _NAME.match(name):
            raise RecordError(where, f"{word!r}: a name has small letters, digits and _, and begins with a letter")
        if places and not literals[-1]:
            raise RecordError(where, "has two places side by side: nothing tells where one ends")
        places.append(name)
        literals.append("")
    literals[-1] += clean[at:]
    return Pattern(text=clean, literals=tuple(part.casefold() for part in literals), places=tuple(places))
