"""Tokenizers of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Json
from tokenizers import decoders, models, pre_tokenizers

from dreamsim.cli.tasks import DATA
from dreamsim.engines.tokenizers import FastTokenizer, chat_frame, load_tokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.records.text import TAGS

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|close|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATE


def byte_level() -> Json:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Json(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*TAGS, "<|system|>", "<|user|>", "<|assistant|>", "<|close|>"])
    return tokenizer


def checkpoint(path: Path, *, template: str | None = None, length: int | None = None) -> Path:
    """A directory with a tokenizer, as a checkpoint has."""
    tokenizer = byte_level()
    if length is not None:
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length)
    tokenizer.save(str(path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if template is not None:
        config["chat_template"] = template
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> FastTokenizer:
    loaded = load_tokenizer(checkpoint(tmp_path_factory.mktemp("model")))
    assert isinstance(loaded, FastTokenizer)
    return loaded


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.sampled_from(TAGS)))
def test_text_with_tags_decodes_to_what_was_encoded(tokenizer: FastTokenizer, text: str, tags: list[str]) -> None:
    written = text.join(["", *tags, ""])
    assert tokenizer.decode(tokenizer.encode(written)) == written


def test_a_tag_of_the_vocabulary_is_one_token(tokenizer: FastTokenizer) -> None:
    assert [len(tokenizer.encode(tag)) for tag in TAGS] == [1] * len(TAGS)


def test_the_vocabulary_counts_added_tokens(tokenizer: FastTokenizer) -> None:
    assert tokenizer.vocabulary_size == 256 + len(TAGS) + 4


def test_no_text_is_no_tokens(tokenizer: FastTokenizer) -> None:
    assert tokenizer.encode("").shape == (0,)


def test_text_that_is_no_unicode_is_still_encoded(tokenizer: FastTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_nothing_is_cut_or_padded_whatever_the_file_says(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(checkpoint(tmp_path, length=5))
    assert [len(tokenizer.encode("x" * length)) for length in (2, 50)] == [2, 50]


@pytest.fixture(scope="module")
def shipped() -> FastTokenizer:
    loaded = load_tokenizer(DATA / "experience")
    assert isinstance(loaded, FastTokenizer)
    return loaded


@given(st.lists(st.integers(0, 1100), max_size=12))
def test_ids_decode_as_the_library_decodes_them(shipped: FastTokenizer, ids: list[int]) -> None:
    library = Json.from_file(str(DATA / "experience" / "tokenizer.json"))
    assert shipped.decode(np.array(ids, dtype=np.int32)) == library.decode(ids, skip_special_tokens=False)


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no tokenizer at"):
        load_tokenizer(tmp_path)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="is not a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_chat_frame_stands_around_the_users_text(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, template=TEMPLATE)
    frame = chat_frame(source, "Be brief.")
    assert frame is not None
    tokenizer = load_tokenizer(source)
    assert tokenizer.decode(frame.head) == "<|system|>Be brief.<|close|><|user|>"
    assert tokenizer.decode(frame.tail) == "<|close|><|assistant|>"


def test_a_template_without_a_system_turn_gets_the_system_prompt_with_the_users(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, template=NO_SYSTEM)
    frame = chat_frame(source, "Be brief.")
    assert frame is not None
    assert load_tokenizer(source).decode(frame.head) == "<|user|>Be brief.\n\n"


def test_a_model_without_a_template_has_no_frame(tmp_path: Path) -> None:
    assert chat_frame(checkpoint(tmp_path), "Be brief.") is None


def test_a_template_that_drops_what_the_user_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not show what the user says"):
        chat_frame(checkpoint(tmp_path, template="{{ messages[0].role }}"), "Be brief.")
