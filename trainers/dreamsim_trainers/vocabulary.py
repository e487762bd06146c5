"""Gives a tiny model words of its own for another environment's texts, so that it need not spell them.

In: a model with a word tokenizer (`dreamsim_trainers.tokenizer`), texts. Out: both, grown.
Always: what both knew before stays as it was; ids of known tokens never change. New embeddings are drawn from a normal
distribution with mean and covariance of the known ones: a model that has learned to copy whatever word it reads can
copy them at once, and tells them apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dreamsim.errors import ConfigurationError
from dreamsim.records.text import TAGS
from dreamsim_trainers.tokenizer import NEWLINE

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WORD = re.compile(r"[^\s:;,.()?!'\"\[\]]+")


def extend_vocabulary(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    *,
    seed: int,
    min_count: int = 3,
    multiple_of: int = 16,
) -> tuple[str, ...]:
    """Give every word that occurs at least `min_count` times in `texts`, and that would be spelled, a token of its own.

    Args:
        model: its embeddings grow by as many rows, up to a multiple of `multiple_of` in all.
        tokenizer: grows.
        texts: what is to be read and written.
        seed: of the new embeddings.
        min_count: words that occur less often stay spelled.
        multiple_of: what matrix products like.

    Returns:
        The new words, the most frequent first.

    Raises:
        ConfigurationError: the tokenizer is no word tokenizer of ours.
    """
    from tokenizers import AddedToken

    if NEWLINE not in tokenizer.get_vocab():
        raise ConfigurationError("only the word tokenizers of tiny models take new words; leave --new-words out")
    counts = Counter(word for text in texts for word in WORD.findall(text) if word not in TAGS)
    often = sorted(
        (word for word, count in counts.items() if count >= min_count), key=lambda word: (-counts[word], word)
    )
    words = [word for word in often if len(tokenizer.encode(word, add_special_tokens=False)) > 1]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=False) for word in words])
    fill = -len(tokenizer) % multiple_of
    tokenizer.add_tokens([AddedToken(f"<unused{len(tokenizer) + index}>", normalized=False) for index in range(fill)])
    _grow(model, len(tokenizer), seed)
    return tuple(words)


def _grow(model: PreTrainedModel, size: int, seed: int) -> None:
    import torch

    embeddings: Any = model.get_input_embeddings()
    known: torch.Tensor = embeddings.weight.detach().clone()
    if size <= len(known):
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    # A sum of the centred rows with normal weights has their covariance.
    generator = torch.Generator().manual_seed(seed)
    mean = known.float().mean(dim=0)
    weights = torch.randn(size - len(known), len(known), generator=generator) / len(known) ** 0.5
    drawn = mean + weights @ (known.float() - mean)
    with torch.no_grad():
        grown: Any = model.get_input_embeddings()
        grown.weight[len(known) :] = drawn.to(grown.weight.dtype)
        output: Any = model.get_output_embeddings()
        if output is not None and output.weight is not grown.weight:
            output.weight[len(known) :] = drawn.to(output.weight.dtype)
