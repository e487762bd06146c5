"""A word tokenizer for tiny models: one token per word, and one per name of several words.

In: texts, and the names that occur in them. Out: a `tokenizers.Tokenizer`, saved as `tokenizer.json`.

Always:
- Any text can be encoded: unknown words are spelled.
- Names (`chest of drawers`), tags (`<action>`) and frequent values with their colon (`: closed`) are one token each.
  A line is then a name and the token after it, and to recall it is to look for the name and copy what follows: the
  first thing that attention learns (an induction head). What a small model learns last is so made easy.
- `decode(encode(text)) == text` for text in the form of `dreamsim.experience.format`, up to white space.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dreamsim.records.text import TAGS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD = "<pad>"
UNKNOWN = "<unk>"
NEWLINE = "\u23ce"
_ISOLATED = r"[:;,.()?!'\"\[\]]"


def train_tokenizer(
    texts: Iterable[str],
    names: Iterable[str],
    values: Iterable[str] = (),
    *,
    min_count: int = 3,
    multiple_of: int = 16,
) -> Tokenizer:
    """A tokenizer with every word that occurs at least `min_count` times in `texts`, and every name of `names`;
    each of `values` becomes one token with the colon before it.

    Its size is rounded up to a multiple of `multiple_of`, which matrix products like.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece

    normalizer = normalizers.Replace("\n", f" {NEWLINE} ")
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_ISOLATED), "isolated")]
    )
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    several = sorted({name for name in names if " " in name})
    merged = sorted({f": {value}" for value in values})
    characters = sorted(set(string.printable) - set(string.whitespace))
    vocabulary: dict[str, int] = {}
    for token in (PAD, UNKNOWN, *TAGS, NEWLINE, *characters, *("##" + character for character in characters)):
        vocabulary.setdefault(token, len(vocabulary))
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if count >= min_count:
            vocabulary.setdefault(word, len(vocabulary))
    while (len(vocabulary) + len(several) + len(merged)) % multiple_of:
        vocabulary[f"<unused{len(vocabulary)}>"] = len(vocabulary)
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=200))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=True),
            decoders.Replace(" ;", ";"),
            decoders.Replace(" :", ":"),
            decoders.Replace(f" {NEWLINE}", "\n"),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(tag, special=True, normalized=False, lstrip=True, rstrip=True) for tag in (PAD, *TAGS)]
    )
    tokenizer.add_tokens([AddedToken(name, single_word=True, normalized=False) for name in several])
    tokenizer.add_tokens([AddedToken(value, single_word=False, normalized=False) for value in merged])
    return tokenizer
