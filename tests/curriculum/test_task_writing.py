"""The layout that asks for a task, and the reading of what comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.curriculum.task_writing import (
    OPENING,
    content_key,
    family_of,
    family_parameters,
    parse_task,
    prompt_segments,
    task_text,
)
from dreamsim.errors import ParseError
from dreamsim.experience.format import header
from dreamsim.records.state import State
from dreamsim.records.task import Lineage, Task
from dreamsim.testing.world import scripted_task

WRITTEN = "<task> find the coin\n<state>\nat: kitchen\nfridge: closed\n<end>"
WORDS = st.text("abcdefgh ", min_size=1, max_size=12).map(lambda text: " ".join(text.split())).filter(bool)


@given(WORDS, st.dictionaries(WORDS, WORDS.filter(lambda value: value != "gone"), min_size=1, max_size=6))
def test_what_is_laid_out_is_read_back(instruction: str, elements: dict[str, str]) -> None:
    state = State.from_elements(elements)
    read = parse_task(task_text(instruction, state))
    assert (read.instruction, read.first_state) == (instruction, state)


def test_a_prompt_holds_the_seed_first_and_ends_where_an_answer_begins() -> None:
    first, second = scripted_task(0), scripted_task(1)
    segments = prompt_segments(first, [second])
    assert segments[0] == OPENING
    assert [segments[2], segments[4]] == [task_text(t.instruction, t.first_state) for t in (first, second)]
    assert segments[-1] == segments[1]
    assert len(segments) == 6


def test_no_prompt_of_a_transition_begins_as_one_for_a_task() -> None:
    assert not header(scripted_task(0)).startswith(OPENING.split()[0])


def test_form_is_forgiven() -> None:
    read = parse_task(
        "\n<REASON> harder\n< task >find  the coin <State>\n\n at:  kitchen\nat: kitchen\n<end> and so on"
    )
    assert read.instruction == "find the coin"
    assert read.first_state.lines == ("at: kitchen",)
    assert read.reasoning == "harder"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "does not begin"),
        ("Sure! " + WRITTEN, "does not begin"),
        ("<task> find the coin\n<end>", "<state> is missing"),
        ("<state>\nat: kitchen\n<end>", "<task> is missing"),
        (WRITTEN.replace("find the coin", " "), "instruction is empty"),
        (WRITTEN.replace("find", "f" * 600), "instruction of"),
        ("<task> x\n<state>\n<end>", "state is empty"),
        (WRITTEN.replace("fridge: closed", "at: pantry"), "two different lines for 'at'"),
        (WRITTEN.replace("closed", "gone"), "no first state"),
        (WRITTEN.replace("fridge", "result"), "no first state"),
        (WRITTEN.replace("fridge", ""), "without an element"),
        (WRITTEN.replace("closed", "c" * 600), "a line of"),
        ("<task> x\n<state>\n" + "\n".join(f"thing {n}: here" for n in range(201)), "201 lines"),
        (WRITTEN.replace("<end>", "<state>\nat: pantry\n<end>"), "<state> is there twice"),
        (WRITTEN.replace("<end>", "<action> go\n<end>"), "has a <action>"),
    ],
)
def test_substance_is_not_forgiven(written: str, said: str) -> None:
    with pytest.raises(ParseError, match=said):
        parse_task(written)


def test_data_cannot_imitate_the_layout() -> None:
    read = parse_task(task_text("find <end> the coin", State.of(["at: <state> kitchen"])))
    assert read.instruction == "find end the coin"
    assert read.first_state.lines == ("at: state kitchen",)


def task(**changed: object) -> Task:
    fields: dict[str, object] = {"environment": "e/coin", "instruction": "find it", "first_state": State.of(["at: a"])}
    return Task(**{**fields, "fold": "train", **changed})  # type: ignore[arg-type]


def test_a_family_is_environment_fold_and_parameters() -> None:
    one = task(parameters={"rooms": 1})
    assert family_of(one) == family_of(replace(one, seed=3, instruction="other", first_state=State.of(["at: b"])))
    assert len({family_of(t) for t in (one, task(), replace(one, fold="dev"), replace(one, environment="e/twc"))}) == 4


def test_where_a_task_comes_from_and_what_instance_it_is_do_not_make_another_family() -> None:
    one = task(parameters={"rooms": 1, "game": "a-7"})
    written = Lineage(parent=one.key, depth=1, writer="model@3")
    varied = replace(one, parameters={"rooms": 1, **written.parameters})
    assert family_of(varied) == family_of(one)
    assert family_parameters(varied) == {"rooms": 1}
    assert (varied.lineage, varied.synthetic) == (written, True)
    assert (one.lineage, one.synthetic) == (None, False)


def test_a_task_says_the_same_in_any_order_of_lines_and_case() -> None:
    state, other = State.of(["at: a", "box: here"]), State.of(["box: here", "at: A"])
    assert content_key("find it", state) == content_key("Find  it", other)
    assert content_key("find it", state) != content_key("find it", State.of(["at: a"]))
