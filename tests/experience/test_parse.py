"""Any text becomes an answer or a ParseError that says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import ParseError
from dreamsim.experience.format import answer_segment
from dreamsim.experience.parse import Answer, AnswerRules, parse_answer
from dreamsim.testing.strategies import texts

RULES = AnswerRules()
GOOD = "<reason> egg held; works\n<state>\negg: in fridge\n<reward> 0\n<done> no\n<end>"


def test_an_answer_is_read() -> None:
    assert parse_answer(GOOD, RULES) == Answer(
        reasoning="egg held; works", changed=("egg: in fridge",), reward=0.0, outcome="running"
    )


@pytest.mark.parametrize(
    "written",
    [
        GOOD.replace("\n", " "),
        GOOD.upper().replace("EGG HELD; WORKS", "egg held; works").replace("EGG: IN FRIDGE", "egg: in fridge"),
        "\n\n" + GOOD.replace("<end>", ""),
        GOOD + " and so on",
        GOOD.replace("egg: in fridge", "  egg :   in fridge  "),
        GOOD.replace("<state>", "< state >"),
        GOOD.replace("egg: in fridge", "egg: in fridge\negg:  in fridge"),
    ],
)
def test_form_does_not_matter(written: str) -> None:
    answer = parse_answer(written, RULES)
    assert (answer.reasoning, answer.reward, answer.outcome) == ("egg held; works", 0.0, "running")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "reasoning is missing"),
        (GOOD.replace("<reason> egg held; works", ""), "reasoning is missing"),
        (GOOD.replace("<state>\negg: in fridge", ""), "<state> is missing"),
        (GOOD.replace("<reward> 0", ""), "<reward> is missing"),
        (GOOD.replace("<done> no", ""), "<done> is missing"),
        (GOOD.replace("<done> no", "<done> perhaps"), "not one of"),
        (GOOD.replace("<reward> 0", "<reward> nan"), "not a number"),
        (GOOD.replace("<reward> 0", "<reward> 7"), "outside"),
        (GOOD.replace("<reward> 0", "<reward> 1"), "contradicts"),
        (GOOD.replace("<done> no", "<done> success"), "contradicts"),
        (GOOD.replace("<reward> 0", "<reward> 1").replace("<done> no", "<done> failure"), "contradicts"),
        (GOOD.replace("<done> no", "<done> no <reward> 0"), "twice"),
        (GOOD.replace("egg: in fridge", "egg: in fridge\negg: held"), "two different lines"),
        (GOOD.replace("egg: in fridge", "at: gone"), "says nothing"),
        (GOOD.replace("<end>", "<action> open fridge"), "goes on"),
        ("Sure! " + GOOD, "before the first tag"),
    ],
)
def test_substance_is_never_made_up(written: str, problem: str) -> None:
    with pytest.raises(ParseError, match=problem):
        parse_answer(written, RULES)


@given(st.one_of(texts(200), st.lists(texts(20), max_size=8).map("<state>".join)))
def test_any_text_is_an_answer_or_a_parse_error(written: str) -> None:
    try:
        answer = parse_answer(written, RULES)
    except ParseError:
        return
    assert RULES.minimum_reward <= answer.reward <= RULES.maximum_reward


@given(
    st.lists(st.sampled_from(["egg: held", "at: hall", "door: open", "[12] link: go"]), unique=True),
    st.sampled_from(["running", "success", "failure"]),
    st.text("abc ;", min_size=1).filter(str.strip),
)
def test_what_is_written_is_read_back(changed: list[str], outcome: str, reasoning: str) -> None:
    reward = 1.0 if outcome == "success" else 0.0
    written = answer_segment(reasoning=reasoning, changed=changed, reward=reward, outcome=outcome)  # type: ignore[arg-type]
    answer = parse_answer(written, RULES)
    assert answer == Answer(
        reasoning=" ".join(reasoning.split()),
        changed=tuple(changed),
        reward=reward,
        outcome=outcome,  # type: ignore[arg-type]
    )
