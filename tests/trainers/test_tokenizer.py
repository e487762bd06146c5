"""The word tokenizer of tiny models."""

from hypothesis import given
from hypothesis import strategies as st

from dreamsim.records.state import State
from dreamsim.records.text import joined
from dreamsim.testing.strategies import states
from dreamsim_trainers.tokenizer import UNKNOWN, train_tokenizer

TEXT = "<task> find the coin\n<state>\nat: kitchen\nchest of drawers: closed\n<action> open chest of drawers\n"
TOKENIZER = train_tokenizer([TEXT] * 3, ["chest of drawers", "coin"])


def words(text: str) -> list[str]:
    return text.replace("\n", " ").split()


def test_a_name_of_several_words_is_one_token() -> None:
    assert len(TOKENIZER.encode("chest of drawers: closed").ids) == 3


def test_tags_swallow_the_white_space_around_them() -> None:
    assert len(TOKENIZER.encode("\n<action> coin\n<end>").ids) == 3


def test_lines_come_back_as_lines() -> None:
    ids = TOKENIZER.encode("at: kitchen\nchest of drawers: closed").ids
    assert [line.strip() for line in TOKENIZER.decode(ids).splitlines()] == ["at: kitchen", "chest of drawers: closed"]


@given(st.lists(st.from_regex(r"[a-z-]{1,12}", fullmatch=True), min_size=1, max_size=6))
def test_unknown_words_are_spelled(text: list[str]) -> None:
    encoded = TOKENIZER.encode(" ".join(text))
    assert UNKNOWN not in encoded.tokens
    assert words(TOKENIZER.decode(encoded.ids)) == text


ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@given(lines=st.lists(ASCII, max_size=6))
def test_any_state_comes_back_up_to_white_space(lines: list[str]) -> None:
    text = f"<state>\n{joined(State.of(lines).lines)}\n"
    ids = TOKENIZER.encode(text).ids
    assert "".join(TOKENIZER.decode(ids, skip_special_tokens=False).split()) == "".join(text.split())


@given(state=states())
def test_any_text_at_all_can_be_encoded(state: State) -> None:
    encoded = TOKENIZER.encode(joined(state.lines))
    assert bool(encoded.ids) is bool(state.text.strip())
