"""Tokenizers of models, and the frame that a chat model puts around a prompt.

In: the directory of a checkpoint, or its Hugging Face name. Out: a `Tokenizer`, or token ids of the frame.
Always:
- no special tokens are added and none are left out; both directions may be called from several threads;
- text is data: a model's control tokens written out in it (`<|im_end|>`) become ordinary tokens, so that no observation
  ends a turn; tags of our own layout stay tokens (`records.text.plain` takes them out of data).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConfigurationError, MissingExtraError
from dreamsim.records.completion import empty_ids
from dreamsim.records.text import TAGS

FILE: Final = "tokenizer.json"
PLACE: Final = "\N{OBJECT REPLACEMENT CHARACTER}user\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands for what the user says while a template is filled; no template holds it."""


class FastTokenizer:
    """A tokenizer.json, read by the `tokenizers` library; encodes a step's text in some ten microseconds."""

    def __init__(self, path: Path) -> None:
        """Read `path`.

        Raises:
            ConfigurationError: it is no tokenizer.
        """
        from tokenizers import Tokenizer as Json

        try:
            self._json = Json.from_file(str(path))
        except Exception as error:  # what the library raises has no type of its own
            raise ConfigurationError(f"{path} is not a tokenizer: {error}") from error
        self._json.no_truncation()
        self._json.no_padding()
        added = self._json.get_added_tokens_decoder().values()
        self._control = _control_pattern(str(token.content) for token in added if token.special)
        self._as_text = Json.from_str(self._json.to_str())
        self._as_text.encode_special_tokens = True
        self._size = int(self._json.get_vocab_size(with_added_tokens=True))
        self._pieces = _Pieces(self._json) if _decodes_apart(json.loads(self._json.to_str())["decoder"]) else None

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, added ones included."""
        return self._size

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`; a lone surrogate becomes a question mark."""
        if self._control is not None and self._control.search(text):
            return _apart(text, self._control, self.encode_control, self._encode_as_text)
        return self.encode_control(text)

    def encode_control(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`, control tokens included: for templates, never for data."""
        return _ids(self._json, text)

    def _encode_as_text(self, text: str) -> NDArray[np.int32]:
        return _ids(self._as_text, text)

    def decode(self, token_ids: NDArray[np.int32]) -> str:
        """Text of the ids, special tokens included."""
        ids = token_ids.tolist()
        if ids and self._pieces is not None:
            return self._pieces.text(ids)
        return str(self._json.decode(ids, skip_special_tokens=False))


class _Pieces(dict[int, str]):
    """What each token adds to a text, for decoders to which only the first token is a special one.

    The library takes half a microsecond per token, most of it for finding out what it found out the last time.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._decode: Callable[..., str] = tokenizer.decode
        self._known: Callable[[int], str | None] = tokenizer.id_to_token

    def text(self, ids: list[int]) -> str:
        """Text of the ids, at least one."""
        if self._known(ids[0]) is None:  # one that no vocabulary holds is left out, and another one is the first
            return self._decode(ids, skip_special_tokens=False)
        return self._decode(ids[:1], skip_special_tokens=False) + "".join(map(self.__getitem__, ids[1:]))

    def __missing__(self, token: int) -> str:
        alone = self._decode([token], skip_special_tokens=False)
        piece = self._decode([token, token], skip_special_tokens=False)[len(alone) :]
        self[token] = piece
        return piece


def _decodes_apart(decoder: Any) -> bool:
    """Whether a decoder turns every token but the first one into text by itself: WordPiece, and what follows it token
    by token."""
    chain = decoder["decoders"] if decoder is not None and decoder["type"] == "Sequence" else [decoder]
    kinds = [None if one is None else one["type"] for one in chain]
    return kinds[:1] == ["WordPiece"] and set(kinds[1:]) <= {"Replace"}


def _ids(tokenizer: Any, text: str) -> NDArray[np.int32]:
    try:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
    except (TypeError, UnicodeEncodeError):  # a lone surrogate
        ids = tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids
    return np.array(ids, dtype=np.int32)


def _control_pattern(special: Iterable[str]) -> re.Pattern[str] | None:
    """Finds control tokens written out in text; None where a model has none but the tags of our layout."""
    control = sorted({token for token in special if token} - set(TAGS), key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, control)) + ")") if control else None


def _apart(
    text: str,
    control: re.Pattern[str],
    encode: Callable[[str], NDArray[np.int32]],
    as_text: Callable[[str], NDArray[np.int32]],
) -> NDArray[np.int32]:
    """Ids of `text`, what `control` finds in it by `as_text` and the rest by `encode`."""
    parts = enumerate(control.split(text))
    return np.concatenate([empty_ids(), *((as_text if odd % 2 else encode)(part) for odd, part in parts if part)])


class TransformersTokenizer:
    """Any tokenizer that transformers knows; for checkpoints without a tokenizer.json."""

    def __init__(self, source: str) -> None:
        """Load `source`.

        Raises:
            ConfigurationError: there is no tokenizer.
            MissingExtraError: transformers is not installed.
        """
        self._tokenizer = _from_transformers(source, purpose=f"the tokenizer of {source}, which has no {FILE},")
        self._lock = threading.Lock()  # those written in Python keep state between calls
        added = self._tokenizer.added_tokens_decoder.values()
        self._control = _control_pattern(str(token.content) for token in added if token.special)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, added ones included."""
        return len(self._tokenizer)

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`; a lone surrogate becomes a question mark."""
        clean = text.encode("utf-8", "replace").decode()
        if self._control is not None and self._control.search(clean):
            return _apart(clean, self._control, self.encode_control, self._encode_as_text)
        return self.encode_control(clean)

    def encode_control(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`, control tokens included: for templates, never for data."""
        with self._lock:
            return np.array(self._tokenizer.encode(text, add_special_tokens=False), dtype=np.int32)

    def _encode_as_text(self, text: str) -> NDArray[np.int32]:
        with self._lock:
            ids = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return np.array(ids, dtype=np.int32)

    def decode(self, token_ids: NDArray[np.int32]) -> str:
        """Text of the ids, special tokens included."""
        with self._lock:
            return str(
                self._tokenizer.decode(
                    token_ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False
                )
            )


def load_tokenizer(source: str | Path) -> FastTokenizer | TransformersTokenizer:
    """The tokenizer of a checkpoint. Blocks: reads files, and asks the hub for a name that is not in its cache.

    Args:
        source: directory of a checkpoint, a tokenizer.json, or a Hugging Face name.

    Raises:
        ConfigurationError: there is none.
        MissingExtraError: it needs transformers, which is not installed.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return FastTokenizer(path)
    if path.is_dir():
        return FastTokenizer(path / FILE) if (path / FILE).is_file() else TransformersTokenizer(str(path))
    found = _from_hub(str(source))
    return FastTokenizer(found) if found is not None else TransformersTokenizer(str(source))


def _from_hub(name: str) -> Path | None:
    """The tokenizer.json of a Hugging Face name; None where it has none, or there is no such name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, FILE))
    except LocalEntryNotFoundError as error:
        raise ConfigurationError(f"the tokenizer of {name} is neither here nor within reach: {error}") from error
    except (EntryNotFoundError, HFValidationError):
        return None
    except OSError as error:
        raise ConfigurationError(f"no tokenizer of {name}: {str(error).splitlines()[0]}") from error


def _from_transformers(source: str, *, purpose: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", extra="train", purpose=purpose) from error
    try:
        # Said, because left open transformers asks whoever sits at the terminal whether to run a model's own code.
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # what it raises for a file that holds something else has no type of its own
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigurationError(f"no tokenizer at {source}: {said}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFrame:
    """What stands around a growing user message, as token ids."""

    head: NDArray[np.int32] = field(default_factory=empty_ids)
    """Before it, shape [n]: the system prompt and the beginning of the user's turn."""
    tail: NDArray[np.int32] = field(default_factory=empty_ids)
    """After it, shape [n]: the end of the turn and the beginning of the answer."""


def chat_frame(source: str | Path, system: str) -> ChatFrame | None:
    """The frame that a model's chat template makes, filled once around a place for the user's text. Blocks.

    Head, text and tail are tokenized apart, so that a message that grows is never tokenized twice.

    Args:
        source: as for `load_tokenizer`.
        system: the system prompt; put before the user's text where the template knows no system turn.

    Returns:
        The frame; None where the model has no chat template.

    Raises:
        ConfigurationError: no tokenizer, or the template does not show what the user says.
        MissingExtraError: transformers is not installed.
    """
    filler = _from_transformers(str(source), purpose="a chat template")
    if not filler.chat_template:
        return None
    head, place, tail = _filled(filler, system).partition(PLACE)
    if not place:
        raise ConfigurationError(f"the chat template of {source} does not show what the user says")
    tokenizer = load_tokenizer(source)
    return ChatFrame(head=tokenizer.encode_control(head), tail=tokenizer.encode_control(tail))


def _filled(filler: Any, system: str) -> str:
    def fill(*turns: tuple[str, str]) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        # Our layouts ask for reasoning of their own; a hidden one before it would only use up the answer.
        return str(
            filler.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        )

    try:
        filled = fill(("system", system), ("user", PLACE))
        if system.strip() in filled:
            return filled
    except Exception:  # noqa: BLE001 - templates raise what they like; some refuse a system turn
        pass
    try:
        return fill(("user", f"{system}\n\n{PLACE}"))
    except Exception as error:
        raise ConfigurationError(f"the chat template cannot be filled: {error}") from error
