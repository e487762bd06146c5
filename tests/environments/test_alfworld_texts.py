"""ALFWorld without ALFWorld: mapping, teacher, what history decides, and ledger, on short texts in its two dialects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dreamsim.records.episode import Episode, StepOutcome, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.testing import check_state_mapping
from dreamsim_adapters.environments.alfworld.actions import Goal, parse_action, parse_goal
from dreamsim_adapters.environments.alfworld.determined import determined
from dreamsim_adapters.environments.alfworld.layout import Logic, old_dialect
from dreamsim_adapters.environments.alfworld.ledger import AlfworldLedger
from dreamsim_adapters.environments.alfworld.mapping import AlfworldMapping, instruction_of, transcript
from dreamsim_adapters.environments.alfworld.teacher import annotate

OPENING = (
    "You are in the middle of a room. Looking quickly around you, you see a cabinet 2, a cabinet 1, a fridge 1, "
    "a shelf 1, and a sinkbasin 1.\n\nYour task is to: put a clean mug in cabinet."
)
NEW = [
    ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see a cup 1, and a mug 2."),
    ("take mug 2 from shelf 1", "You pick up the mug 2 from the shelf 1."),
    ("take cup 1 from shelf 1", "Nothing happens."),
    ("go to sinkbasin 1", "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing."),
    ("clean mug 2 with sinkbasin 1", "You clean the mug 2 using the sinkbasin 1."),
    ("examine mug 2", "This is a clean mug 2."),
    ("inventory", "You are carrying: a mug 2."),
    ("go to cabinet 1", "You arrive at cabinet 1. The cabinet 1 is closed."),
    ("open cabinet 1", "You open the cabinet 1. The cabinet 1 is open. In it, you see a plate 1."),
    ("close cabinet 1", "You close the cabinet 1."),
    ("open cabinet 1", "You open the cabinet 1. The cabinet 1 is open. In it, you see a plate 1."),
    ("move mug 2 to cabinet 1", "You move the mug 2 to the cabinet 1."),
]
OLD = [
    (
        action.replace("move mug 2 to", "put mug 2 in/on"),
        feedback.replace("You arrive at shelf 1", "You arrive at loc 3")
        .replace("You arrive at sinkbasin 1", "You arrive at loc 12")
        .replace("You arrive at cabinet 1. ", "")
        .replace("You move the mug 2 to", "You put the mug 2 in/on"),
    )
    for action, feedback in NEW
]


def _states(steps: Sequence[tuple[str, str]]) -> list[State]:
    return [AlfworldMapping().state(transcript(OPENING, steps[:count])) for count in range(len(steps) + 1)]


def _episode(steps: Sequence[tuple[str, str]], *, solved: bool = True) -> Episode:
    first, *states = _states(steps)
    task = Task(
        environment="alfworld/pick_clean_then_place_in_recep",
        instruction=instruction_of(OPENING),
        first_state=first,
        fold="train",
    )
    transitions = []
    for index, ((action, _), state) in enumerate(zip(steps, states, strict=True)):
        last: StepOutcome = "success" if solved and index == len(steps) - 1 else "running"
        transitions.append(Transition(action=action, state=state, reward=float(last == "success"), outcome=last))
    return Episode(
        id="e",
        run="r",
        task=task,
        repeat=0,
        source="real",
        purpose="experience",
        transitions=tuple(transitions),
        outcome="success" if solved else "truncated",
    )


def test_the_opening_lists_the_places_by_kind() -> None:
    assert _states([])[0].lines == ("at: room", "cabinet: 1 2", "fridge: 1", "shelf: 1", "sinkbasin: 1")
    assert instruction_of(OPENING) == "put a clean mug in cabinet"


def test_states_follow_the_texts() -> None:
    texts = [state.text.replace("\n", " | ") for state in _states(NEW)[1:]]
    assert texts == [
        "at: shelf 1 | cup 1: in shelf 1 | mug 2: in shelf 1",
        "at: shelf 1 | cup 1: in shelf 1 | mug 2: held",
        "at: shelf 1 | cup 1: in shelf 1 | mug 2: held | result: failed",
        "at: sinkbasin 1 | mug 2: held",
        "at: sinkbasin 1 | mug 2: held clean",
        "at: sinkbasin 1 | mug 2: held clean | result: clean",
        "at: sinkbasin 1 | mug 2: held clean | result: carrying mug 2",
        "at: cabinet 1 | cabinet 1: closed | mug 2: held clean",
        "at: cabinet 1 | cabinet 1: open | plate 1: in cabinet 1 | mug 2: held clean",
        "at: cabinet 1 | cabinet 1: closed | mug 2: held clean",
        "at: cabinet 1 | cabinet 1: open | plate 1: in cabinet 1 | mug 2: held clean",
        "at: cabinet 1 | cabinet 1: open | plate 1: in cabinet 1 | mug 2: in cabinet 1 clean",
    ]


def test_both_dialects_give_the_same_states() -> None:
    assert _states(OLD) == _states(NEW)


def test_thoughts_in_a_log_change_nothing() -> None:
    thought = [*NEW[:2], ("think: I have a mug now.", "OK."), *NEW[2:]]
    assert _states(thought)[-1] == _states(NEW)[-1]
    assert _states([("think about it", "Nothing happens.")])[-1].elements["result"] == "failed"


def test_it_is_a_state_mapping() -> None:
    check_state_mapping(AlfworldMapping(), [transcript(OPENING, NEW[:count]) for count in range(len(NEW) + 1)])


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("You are facing the shelf 2, and shelf 1. Next to it, you see nothing.", "result: facing shelf 2, shelf 1"),
        ("You are not carrying anything.", "result: carrying nothing"),
        ("There's nothing special about mug 2.", "result: nothing special"),
        ("This is a normal mug 2. In it, you see a pen 1.", "result: holds pen 1"),
        ("This is a hot and clean mug 2.", "result: hot and clean".replace(" and", "")),
        ("This is a cold apple 1.", "result: cool"),
        ("This desklamp 1 is off.", "result: off"),
        ("\nAvailable commands:\n  look: look around", "result: list of commands"),
    ],
)
def test_what_can_be_read_is_the_result(said: str, line: str) -> None:
    assert _states([*NEW[:1], ("look", said)])[-1].lines[-1] == line


def test_a_place_beside_shows_once_it_was_used() -> None:
    steps = [
        ("go to cabinet 2", "You arrive at cabinet 2. The cabinet 2 is closed."),
        ("open cabinet 1", "You open the cabinet 1. The cabinet 1 is open. In it, you see a cup 1."),
        ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see nothing."),
        ("go to cabinet 2", "You arrive at cabinet 2. The cabinet 2 is closed."),
    ]
    assert _states(steps)[-1].lines == ("at: cabinet 2", "cabinet 2: closed", "cabinet 1: open", "cup 1: in cabinet 1")


def test_the_old_dialect_is_the_new_one_in_other_words() -> None:
    new = Logic(
        domain="(define (domain alfred)\n(:action look)\n\n(:action help)\n\n)\n",
        grammar='"You arrive at {r.name}. x" "You move the {o.name} to the {r.name}."\n'
        'template :: "move {o} to {r}";\n\naction help {\n}\n',
    )
    old = old_dialect(new)
    assert "help" not in old.domain + old.grammar
    assert old.domain.count("(") == old.domain.count(")")
    assert 'template :: "put {o} in/on {r}";' in old.grammar
    assert "You arrive at {lend.name}. x" in old.grammar


def test_actions_and_goals_are_taken_apart() -> None:
    assert parse_action("put mug 2 in/on shelf 1") == parse_action("move mug 2 to shelf 1")
    assert parse_action("take the mug").verb == ""
    assert parse_goal("find two cd and put them in safe.") == Goal(thing="cd", place="safe", count=2)
    assert parse_goal("cool some apple and put it in shelf") == Goal(thing="apple", place="shelf", condition="cool")
    assert parse_goal("examine the book with the desklamp") == Goal(thing="book", lamp="desklamp")
    assert parse_goal("tidy up") is None


def test_the_teacher_names_facts_before_it_concludes() -> None:
    said = [transition.reasoning for transition in annotate(_episode(NEW)).transitions]
    assert said == [
        "at: room; new; works",
        "at: shelf 1; mug 2: in shelf 1; hands: empty; works; mug wanted",
        "at: shelf 1; cup 1: in shelf 1; hands: mug 2; fails",
        "at: shelf 1; new; works",
        "at: sinkbasin 1; mug 2: held; suits; works; mug wanted",
        "at: sinkbasin 1; mug 2: held clean; works",
        "at: sinkbasin 1; hands: mug 2; works",
        "at: sinkbasin 1; new; works",
        "at: cabinet 1; cabinet 1: closed; new; works",
        "at: cabinet 1; cabinet 1: open; plate 1: in cabinet 1; works",
        "at: cabinet 1; cabinet 1: closed; seen; works",
        "at: cabinet 1; mug 2: held clean; cabinet 1: open; suits; works; mug in cabinet clean wanted; task solved",
    ]


def test_the_teacher_says_when_only_the_kinds_of_things_are_in_the_way() -> None:
    actions = ("heat mug 2 with shelf 1", "move cup 1 to shelf 1", "clean mug 2 with sinkbasin 1")
    fails = [(action, "Nothing happens.") for action in actions]
    said = [transition.reasoning for transition in annotate(_episode([*NEW[:2], *fails], solved=False)).transitions]
    assert said[2:] == [
        "at: shelf 1; mug 2: held; does not suit; fails",
        "at: shelf 1; cup 1: in shelf 1; fails",
        "at: shelf 1; elsewhere; mug 2: held; fails",
    ]


def test_what_was_not_looked_into_is_not_decided() -> None:
    open_ones = {0, 3, 7, 8}  # first visits, and what lies in the cabinet; opening it again is decided
    assert [index for index, known in enumerate(determined(_episode(NEW))) if not known] == sorted(open_ones)


def test_going_where_one_can_reach_is_decided_once_it_was_tried() -> None:
    steps = [
        NEW[0],
        ("go to cabinet 2", "Nothing happens."),
        ("go to cabinet 2", "Nothing happens."),
        ("go to oven 1", "Nothing happens."),
        ("go to shelf 1", "Nothing happens."),
    ]
    assert determined(_episode(steps, solved=False))[1:] == [False, True, True, True]


@pytest.mark.parametrize("steps", [NEW, OLD])
def test_the_ledger_lets_reality_pass(steps: Sequence[tuple[str, str]]) -> None:
    episode = _episode(steps)
    books = AlfworldLedger().open(episode.task)
    for transition in episode.transitions:
        assert books.contradictions(transition) == ()
        assert books.outcome(transition) == transition.outcome
        books.see(transition)
    assert books.facts["mug 2"] == "in cabinet 1 clean"


def test_a_thing_within_reach_of_two_places_may_be_shown_in_either() -> None:
    books = AlfworldLedger().open(_episode(NEW).task)
    for action, lines in (
        ("go to shelf 1", ["at: shelf 1", "mug 1: in shelf 1"]),
        ("take mug 1 from sinkbasin 1", ["at: shelf 1", "mug 1: held"]),
        ("move mug 1 to sinkbasin 1", ["at: shelf 1", "mug 1: in shelf 1"]),
    ):
        transition = Transition(action=action, state=State.of(lines), reward=0.0, outcome="running")
        assert books.contradictions(transition) == ()
        books.see(transition)


LIES: dict[str, tuple[int, str, list[str]]] = {
    "no_action": (1, "juggle", ["at: shelf 1", "cup 1: in shelf 1", "mug 2: in shelf 1"]),
    "walks": (1, "go to fridge 1", ["at: cabinet 1"]),
    "walks_nowhere": (1, "go to fridge 7", ["at: fridge 7"]),
    "must_work": (8, "open cabinet 1", ["at: cabinet 1", "cabinet 1: closed", "mug 2: held clean", "result: failed"]),
    "opens": (9, "open cabinet 1", ["at: cabinet 1", "cabinet 1: open", "plate 1: in cabinet 1", "mug 2: held clean"]),
    "takes": (1, "take pen 1 from shelf 1", ["at: shelf 1", "cup 1: in shelf 1", "mug 2: in shelf 1", "pen 1: held"]),
    "puts": (2, "move cup 1 to shelf 1", ["at: shelf 1", "cup 1: in shelf 1", "mug 2: held"]),
    "treats": (2, "heat mug 2 with shelf 1", ["at: shelf 1", "cup 1: in shelf 1", "mug 2: held hot"]),
    "switches": (2, "use cup 1", ["at: shelf 1", "cup 1: in shelf 1", "mug 2: held"]),
    "hands": (2, "look", ["at: shelf 1", "cup 1: in shelf 1"]),
    "conditions_stay": (5, "look", ["at: sinkbasin 1", "mug 2: held"]),
    "places_stay": (4, "go to shelf 1", ["at: shelf 1", "cup 1: in shelf 1", "vase 1: in shelf 1", "mug 2: held"]),
    "nothing_else": (5, "inventory", ["at: sinkbasin 1", "mug 2: held clean", "fork 1: in sinkbasin 1"]),
    "hands_told": (2, "inventory", ["at: shelf 1", "cup 1: in shelf 1", "mug 2: held", "result: carrying nothing"]),
    "closed_hides": (8, "look", ["at: cabinet 1", "cabinet 1: closed", "cup 9: in cabinet 1", "mug 2: held clean"]),
}
"""Rule -> after how many real steps, what action, what is said to follow."""


@pytest.mark.parametrize("rule", LIES)
def test_the_ledger_catches_every_kind_of_liar(rule: str) -> None:
    count, action, lines = LIES[rule]
    episode = _episode(NEW)
    books = AlfworldLedger().open(episode.task)
    for transition in episode.transitions[:count]:
        books.see(transition)
    lie = Transition(action=action, state=State.of(lines), reward=0.0, outcome="running")
    assert rule in {found.rule for found in books.contradictions(lie)}


def test_a_claim_of_success_is_not_believed() -> None:
    episode = _episode(NEW)
    books = AlfworldLedger().open(episode.task)
    claimed = replace(episode.transitions[0], outcome="success", reward=1.0)
    assert books.outcome(claimed) == "running"


def test_every_rule_says_what_it_forbids() -> None:
    assert all(AlfworldLedger().rules.values())
    assert {*LIES} < {*AlfworldLedger().rules}
