"""States, and the changes that lead from one to the next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dreamsim.records.state import State, StateMemory, apply_changes, changes, join_line, split_line
from dreamsim.testing.strategies import lines, states, texts


@given(texts())
def test_a_line_is_the_same_after_splitting_and_joining_once_more(line: str) -> None:
    once = join_line(*split_line(line))
    assert split_line(once) == split_line(line)


@given(st.lists(lines(), max_size=8))
def test_normalising_a_state_again_changes_nothing(drawn: list[str]) -> None:
    state = State.of(drawn)
    assert State.of(state.lines) == state


@given(st.lists(lines(), max_size=8))
def test_a_state_has_one_line_per_element(drawn: list[str]) -> None:
    state = State.of(drawn)
    assert len(state.elements) == len(state.lines)


@given(states(), states())
def test_applying_the_changes_between_two_states_gives_the_second(first: State, second: State) -> None:
    memory = StateMemory(first)
    assert apply_changes(memory, changes(memory, second)).same_as(second)


@given(st.lists(states(), min_size=2, max_size=6))
def test_changes_lead_through_a_whole_episode(seen: list[State]) -> None:
    writer, reader = StateMemory(seen[0]), StateMemory(seen[0])
    for state in seen[1:]:
        read = apply_changes(reader, changes(writer, state))
        assert read.same_as(state)
        writer.see(state)
        reader.see(read)


@given(states())
def test_a_state_differs_from_itself_in_its_result_alone(state: State) -> None:
    memory = StateMemory(state)
    assert all(split_line(line)[0] == "result" for line in changes(memory, state))


@given(states(), states(), st.none() | texts())
def test_changes_tell_first_what_is_gone_then_what_is_new(first: State, second: State, scene: str | None) -> None:
    here = [] if scene is None else [f"at: {scene}"]
    memory, after = StateMemory(State.of([*first.lines, *here])), State.of([*second.lines, *here])
    expected, there = memory.base(after.scene), after.elements
    gone = [join_line(key, "gone") for key in expected if key not in there]
    new = [join_line(key, value) for key, value in there.items() if expected.get(key) != value and key != "at"]
    moved = [] if after.scene == memory.scene else [join_line("at", after.scene or "gone")]
    assert changes(memory, after) == (*moved, *gone, *new)


@given(states(), st.lists(lines(), max_size=6))
def test_what_is_not_spoken_of_stays_as_expected(first: State, said: list[str]) -> None:
    memory = StateMemory(first)
    after = apply_changes(memory, said)
    spoken = {split_line(line)[0] for line in said}
    for key, value in memory.base(after.scene).items():
        assert key in spoken or after.elements[key] == value


def test_a_known_scene_costs_one_line() -> None:
    kitchen = State.of(["at: kitchen", "box: open", "exits: hall"])
    hall = State.of(["at: hall", "lamp: here"])
    memory = StateMemory(kitchen)
    memory.see(hall)
    assert changes(memory, kitchen) == ("at: kitchen",)


def test_what_is_held_travels_along() -> None:
    kitchen = State.of(["at: kitchen", "key: held"])
    memory = StateMemory(kitchen)
    assert changes(memory, State.of(["at: hall", "key: held"])) == ("at: hall",)


def test_a_result_is_never_carried_over() -> None:
    memory = StateMemory(State.of(["box: open", "result: You open the box."]))
    assert apply_changes(memory, ["box: closed"]).lines == ("box: closed",)


def test_states_that_say_the_same_share_their_lines() -> None:
    one, other = State.of(["box:  open", "at: hall"]), State.of(["at:hall ", "box: open"])
    assert {id(line) for line in one.lines} == {id(line) for line in other.lines}
