"""Text of models, tasks and environments in prompts: it imitates no layout and becomes no control token."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines.tokenizers import FastTokenizer, TransformersTokenizer, chat_frame, load_tokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.experience.format import action_segment
from dreamsim.experience.parse import _TAG
from dreamsim.records.text import TAGS, plain
from tests.engines.models import CHATML, byte_tokenizer
from tests.hostile.garbage import odd_texts

BRACKETS = st.lists(st.sampled_from(["<", ">", " ", "state", "End", "a"]), max_size=14).map("".join)


@given(st.one_of(BRACKETS, odd_texts()))
def test_data_holds_no_tag_however_it_is_written(text: str) -> None:
    assert _TAG.search(plain(text)) is None
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize("text", ["<<state>>", "< <state> >", "<STATE>", "< end >", "<<<<action>>>>"])
def test_a_tag_around_a_tag_leaves_none(text: str) -> None:
    assert not any(tag in plain(text).lower().replace(" ", "") for tag in TAGS)


def test_an_action_cannot_go_on_with_an_answer() -> None:
    assert action_segment("go <<end>>\n<<state>> won <<reward>> 1").count("<") == 1


@pytest.mark.parametrize("text", ["<" * 200_000, "< " * 200_000, "<state" * 50_000, ">" * 200_000, "<state" + ">" * 9])
def test_brackets_cost_one_pass(text: str) -> None:
    begun = time.process_time()
    plain(text)
    assert time.process_time() - begun < 1


CONTROL = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with control tokens and tags, as a fine-tuned chat model has them."""
    path = tmp_path_factory.mktemp("chatty")
    return byte_tokenizer(path, end=CONTROL[0], more=(*CONTROL[1:], *TAGS), template=CHATML)


Both = list[FastTokenizer | TransformersTokenizer]


@pytest.fixture(scope="module")
def tokenizers(chatty: Path) -> Both:
    return [load_tokenizer(chatty), TransformersTokenizer(str(chatty))]


@given(st.lists(st.one_of(st.sampled_from((*CONTROL, *TAGS)), odd_texts(8)), max_size=6).map("".join))
def test_a_control_token_in_data_is_text(tokenizers: Both, text: str) -> None:
    control = range(256, 256 + len(CONTROL))
    for tokenizer in tokenizers:
        ids = tokenizer.encode(text)
        assert not set(ids.tolist()) & set(control)
        assert tokenizer.decode(ids) == text


def test_tags_of_the_layout_stay_one_token_beside_control_tokens(tokenizers: Both) -> None:
    for tokenizer in tokenizers:
        assert tokenizer.encode("<|im_end|><state>").tolist()[-1] == 256 + len(CONTROL) + TAGS.index("<state>")


def test_a_template_keeps_its_control_tokens(chatty: Path) -> None:
    frame = chat_frame(chatty, "be good")
    assert frame is not None
    assert frame.head[0] == 257
    assert {256, 257} <= set(frame.tail.tolist())


def test_a_template_that_cannot_be_filled_is_a_setting_that_cannot_be_used(tmp_path: Path) -> None:
    path = byte_tokenizer(tmp_path, end=CONTROL[0], template="{{ raise_exception('never') }}")
    with pytest.raises(ConfigurationError, match="never"):
        chat_frame(path, "be good")


def test_a_template_reaches_no_file_and_no_interpreter(tmp_path: Path) -> None:
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    path = byte_tokenizer(tmp_path, end=CONTROL[0], template=escape)
    with pytest.raises(ConfigurationError, match="unsafe"):
        chat_frame(path, "be good")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"\xff" * 100])
def test_a_file_that_is_no_tokenizer_is_a_setting_that_cannot_be_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ConfigurationError):
        load_tokenizer(tmp_path)
    with pytest.raises(ConfigurationError):
        TransformersTokenizer(str(tmp_path))


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "tok.py").write_text(f"open({str(marker)!r}, 'w')\nclass Tok: pass\n")
    config = {"auto_map": {"AutoTokenizer": ["tok.Tok", None]}, "tokenizer_class": "Tok"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "tok.Tok"}}))
    with pytest.raises(ConfigurationError, match=r"trust_remote_code|no tokenizer"):
        load_tokenizer(tmp_path)
    assert not marker.exists()


def test_every_loader_of_models_says_that_their_code_is_not_run() -> None:
    root = Path(__file__).parents[2]
    packages = [root / "dreamsim", root / "adapters" / "dreamsim_adapters", root / "trainers" / "dreamsim_trainers"]
    loaders = re.compile(r"(Auto\w+\.from_pretrained|SentenceTransformer)\(.{0,80}", re.DOTALL)
    calls = [
        found[0]
        for package in packages
        for path in package.rglob("*.py")
        for found in loaders.finditer(path.read_text(encoding="utf-8"))
    ]
    assert len(calls) >= 4
    assert [call for call in calls if "trust_remote_code=False" not in call] == []
