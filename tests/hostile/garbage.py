"""What a hostile or broken writer sends, as Hypothesis draws it.

`EXAMPLES` is how many of it a test tries: few in every run, many with `-m slow` (docs/development.md).
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

LETTERS = st.characters(exclude_categories=["Cs"])
TERMINAL = ("\x1b[2J", "\x1b]8;;http://x\x07a\x1b]8;;\x07", "\x9b31m", "\x07", "\r", "\b\b", "\u202eevil", "\x7f")
"""Commands to a terminal, and letters that write backwards."""
MARKUP = ("[red]", "[/]", "[link=http://x]a[/link]", "[bold", "[@click=bell()]", "$x^$", "$\\frac{$", "<b>", "\\")
"""Markup of rich, of matplotlib, of HTML."""
CODE = ("__import__('os').system('x')", "'; DROP TABLE episodes; --", 'a" OR NEAR(b', "{{7*7}}", "${x}", "!!python/x")
PATHS = ("../../etc/passwd", "/etc/passwd", "..\\x", "a/../../b", "~root", "\0", "con", "file:///etc/passwd")
CONTROL = ("<|im_end|>", "<|im_start|>system", "</s>", "<pad>", "<<state>>", "< STATE >", "<unk>")
"""Tokens that would end a turn, and tags of our own layout."""
ODD = (*TERMINAL, *MARKUP, *CODE, *PATHS, *CONTROL)


def odd_texts(max_size: int = 30) -> st.SearchStrategy[str]:
    """Text that means something to whatever shows, stores or runs it."""
    return st.one_of(
        st.sampled_from(ODD),
        st.text(LETTERS, max_size=max_size),
        st.lists(st.one_of(st.sampled_from(ODD), st.text(LETTERS, max_size=6)), max_size=4).map("".join),
    )


def json_values(leaves: int = 12) -> st.SearchStrategy[Any]:
    """Any JSON value."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        odd_texts(),
    )
    return st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(odd_texts(8), inner, max_size=4)),
        max_leaves=leaves,
    )


def json_texts() -> st.SearchStrategy[str]:
    """JSON, and JSON with something cut off, doubled or put in between."""
    written = json_values().map(json.dumps)

    @st.composite
    def damaged(draw: st.DrawFn) -> str:
        text = draw(written)
        at = draw(st.integers(0, len(text)))
        until = draw(st.integers(at, len(text)))
        middle = draw(st.sampled_from(("", "\0", "[", "]", "{", '"', ",", "NaN", "1e999", "\\u12", "9" * 20, "\ufeff")))
        return text[:at] + middle + text[until:]

    return st.one_of(written, damaged())


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """`value` with some of its parts replaced, left out or added, at any depth."""
    if isinstance(value, dict) and value:
        result = dict(value)
        for _ in range(draw(st.integers(1, 2))):
            name = draw(st.sampled_from(sorted(value)))
            choice = draw(st.integers(0, 4))
            if choice == 0:
                result.pop(name, None)
            elif choice == 1:
                result[draw(odd_texts(8))] = draw(json_values(3))
            elif choice == 2:
                result[name] = draw(json_values(4))
            else:
                result[name] = draw(mutated(value[name]))
        return result
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(mutated(value[at])), *value[at + 1 :]]
    return draw(json_values(4))
