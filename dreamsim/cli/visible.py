"""Foreign text on a terminal: what models, servers, files and stores say, as text and nothing else.

In: any text. Out: text that commands no terminal. Always: what cannot be printed (escape sequences, bells, letters that
turn the direction of writing) becomes U+FFFD; whether it is read as rich's markup is up to the caller, who wraps it in
`rich.text.Text`.
"""

from __future__ import annotations


def visible(text: str) -> str:
    """`text` with line breaks, and without anything else that cannot be printed."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def in_one_line(text: str, most: int = 500) -> str:
    """The beginning of `text`, its line breaks made visible too."""
    return visible(text[:most].replace("\n", " "))
