"""The ledger of TextWorldExpress: each of its rules has a lie that breaks it, and every game's goal is decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.protocols import GoalLedger
from dreamsim.records.episode import StepOutcome, Transition
from dreamsim.records.state import State
from dreamsim.records.task import JsonScalar, Task
from dreamsim_adapters.environments.textworld_express import belongings_table
from dreamsim_adapters.environments.textworld_express.belongings import belongings, from_package
from dreamsim_adapters.environments.textworld_express.goals import quantity
from dreamsim_adapters.environments.textworld_express.ledger import (
    TextWorldExpressLedger,
    TextWorldExpressLedgerSession,
)
from dreamsim_adapters.environments.textworld_express.ledger_rules import RULES

KITCHEN = (
    *("at: kitchen", "stove: here", "oven: here", "fridge: closed", "counter: here", "cookbook: in counter"),
    "kitchen cupboard: closed",
    *("apple: held", "potato: held raw", "knife: held", "north: closed door", "east: pantry"),
)
RECIPE = "result: gather apple, potato; slice apple; fry potato; prepare meal"


def _changed(lines: tuple[str, ...], *new: str) -> tuple[str, ...]:
    """The lines with some replaced, or removed by `name: gone`."""
    return State.of([*lines, *new]).lines


def _step(action: str, lines: tuple[str, ...], outcome: StepOutcome = "running") -> Transition:
    return Transition(action=action, state=State.of(lines), reward=float(outcome == "success"), outcome=outcome)


def _books(
    game: str = "cookingworld", lines: tuple[str, ...] = KITCHEN, **parameters: JsonScalar
) -> TextWorldExpressLedgerSession:
    task = Task(
        environment=f"textworld_express/{game}",
        instruction="",
        first_state=State.of(lines),
        fold="train",
        parameters=parameters,
    )
    return TextWorldExpressLedger().open(task)


def _reading(recipe: str, lines: tuple[str, ...] = KITCHEN) -> Transition:
    return _step("read cookbook", (*lines, f"result: {recipe}"))


BARE = _changed(KITCHEN, "fridge: open", "egg: in fridge raw", "kitchen cupboard: open", "spoon: in kitchen cupboard")
CUPBOARD = _step("open kitchen cupboard", BARE)
READ = _step("read cookbook", (*KITCHEN, RECIPE))
OPENED = _changed(KITCHEN, "fridge: open", "egg: in fridge raw")
PANTRY = (
    "at: pantry",
    "shelf: here",
    "salt: in shelf",
    "west: kitchen",
    "apple: held",
    "potato: held raw",
    "knife: held",
)
MEAL_READY = _changed(KITCHEN, "apple: held sliced", "potato: held fried")
THERE = (_step("move east", PANTRY), _step("move west", KITCHEN))

LIES: tuple[tuple[str, tuple[Transition, ...], Transition], ...] = (
    ("must_fail", (), _step("take moon", _changed(KITCHEN, "moon: held"))),
    ("must_fail", (), _step("move north", _changed(PANTRY, "at: attic"))),
    ("must_fail", (), _step("put apple in fridge", _changed(KITCHEN, "apple: in fridge"))),
    ("must_fail", (), _step("take fridge", _changed(KITCHEN, "fridge: held"))),
    ("must_fail", (), _step("cook potato in toaster", _changed(KITCHEN, "potato: held grilled"))),
    ("must_fail", (READ,), _step("prepare meal", _changed(KITCHEN, "apple: gone", "potato: gone", "meal: held"))),
    ("must_work", (), _step("take cookbook", (*KITCHEN, "result: failed"))),
    ("must_work", (), _step("open fridge", (*KITCHEN, "result: failed"))),
    ("must_work", (READ,), _step("slice apple", (*KITCHEN, "result: failed"))),
    ("result_line", (), _step("open fridge", (*OPENED, "result: opened"))),
    ("same_text", (READ,), _step("read cookbook", (*KITCHEN, "result: gather salt; prepare meal"))),
    ("exits", (), _step("move east", _changed(PANTRY, "at: garden"))),
    ("exits", (), _step("move east", _changed(PANTRY, "west: attic"))),
    ("exits", (), _step("look around", _changed(KITCHEN, "east: attic"))),
    ("taken_is_held", (), _step("take cookbook", _changed(KITCHEN, "cookbook: gone"))),
    ("put_lies_there", (), _step("put apple in counter", KITCHEN)),
    ("held_stays", (), _step("look around", _changed(KITCHEN, "apple: in counter"))),
    ("one_place", (), _step("take cookbook", _changed(KITCHEN, "cookbook: held", "cookbook #2: in counter"))),
    ("opens_closes", (), _step("open fridge", KITCHEN)),
    ("opened_stays", (_step("open fridge", OPENED),), _step("look around", KITCHEN)),
    (
        "contents_as_left",
        (_step("open fridge", OPENED), _step("close fridge", KITCHEN)),
        _step("open fridge", _changed(KITCHEN, "fridge: open", "cake: in fridge")),
    ),
    ("contents_as_left", (_step("open fridge", OPENED),), _step("close fridge", _changed(OPENED, "fridge: closed"))),
    ("preparation", (), _step("slice apple", _changed(KITCHEN, "apple: held diced"))),
    ("preparation", (), _step("cook potato in stove", _changed(KITCHEN, "potato: held raw fried"))),
    ("preparation", (), _step("look around", _changed(KITCHEN, "potato: held fried"))),
    ("meal", (READ, _step("slice apple", MEAL_READY)), _step("prepare meal", _changed(MEAL_READY, "meal: held"))),
    ("eaten", (), _step("eat apple", _changed(KITCHEN, "apple: in counter"))),
    ("room_as_left", (*THERE,), _step("move east", _changed(PANTRY, "salt: gone"))),
    ("vanished", (), _step("look around", _changed(KITCHEN, "counter: gone", "cookbook: gone"))),
    ("from_nowhere", (), _step("look around", _changed(KITCHEN, "ghost: here"))),
    ("recipe_size", (), _reading("gather apple; slice apple; prepare meal")),
    ("recipe_size", (), _reading("gather apple, potato, salt; prepare meal")),
    ("recipe_there", (), _reading("gather apple, banana; prepare meal")),
    ("recipe_there", (_step("open fridge", OPENED),), _reading("gather apple, carrot; prepare meal", OPENED)),
    ("recipe_there", (_reading("gather apple, carrot; prepare meal"),), _step("open fridge", OPENED)),
    ("recipe_there", (_reading("gather apple, salt; prepare meal"), _step("open fridge", OPENED)), CUPBOARD),
    ("recipe_there", (_step("open fridge", OPENED), CUPBOARD), _reading("gather apple, flour; prepare meal", BARE)),
)


@pytest.mark.parametrize(("rule", "before", "lie"), LIES, ids=[f"{rule}: {lie.action}" for rule, _, lie in LIES])
def test_a_lie_breaks_the_rule_that_is_meant(rule: str, before: tuple[Transition, ...], lie: Transition) -> None:
    books = _books(numLocations=1, numIngredients=2)
    for transition in before:
        books.see(transition)
    assert rule in {found.rule for found in books.contradictions(lie)}


def test_every_rule_has_a_lie() -> None:
    assert {rule for rule, _, _ in LIES} == set(RULES)


TRUE: tuple[tuple[tuple[Transition, ...], Transition], ...] = (
    ((), _step("open fridge", OPENED)),
    ((), _step("put apple in counter", _changed(KITCHEN, "apple: in counter"))),
    ((), _step("slice apple", _changed(KITCHEN, "apple: held sliced"))),
    ((), _step("cook potato in stove", _changed(KITCHEN, "potato: held fried"))),
    ((), _step("open door to north", _changed(KITCHEN, "north: attic open door"))),
    ((), _step("move east", PANTRY)),
    (THERE, _step("move east", PANTRY)),
    ((), _step("frobnicate", (*KITCHEN, "result: failed"))),
    ((), _step("prepare meal", _changed(KITCHEN, "apple: gone", "meal: held"))),
    ((), _reading("gather apple, carrot; prepare meal")),
    ((), _reading("gather salt, unheard of; prepare meal")),
    ((_step("open fridge", OPENED),), _reading("gather apple, egg; prepare meal", OPENED)),
    ((_reading("gather apple, egg; prepare meal"),), _step("open fridge", OPENED)),
    ((_reading("gather apple, salt; prepare meal"),), _step("open fridge", OPENED)),
    ((_step("open fridge", OPENED), CUPBOARD), _reading("gather apple, unheard of; prepare meal", BARE)),
)


@pytest.mark.parametrize(("before", "step"), TRUE, ids=[step.action for _, step in TRUE])
def test_a_true_step_breaks_none(before: tuple[Transition, ...], step: Transition) -> None:
    books = _books(numLocations=1, numIngredients=2)
    for transition in before:
        books.see(transition)
    assert books.contradictions(step) == ()


@pytest.mark.parametrize(
    ("missing", "before", "look", "shown"),
    [
        ("carrot", (), _step("open fridge", OPENED), "in fridge"),
        ("pork chop", (), _step("open fridge", OPENED), "in fridge raw"),
        ("salt", (_step("open fridge", OPENED),), CUPBOARD, "in kitchen cupboard"),
    ],
)
def test_what_a_recipe_asks_for_is_put_where_alone_it_can_be(
    missing: str, before: tuple[Transition, ...], look: Transition, shown: str
) -> None:
    books = _books(numLocations=1, numIngredients=2)
    for transition in (_reading(f"gather apple, {missing}; prepare meal"), *before):
        books.see(transition)
    amended = books.amended(look)
    assert amended is not None
    assert amended.elements == {**look.state.elements, missing: shown}


def test_a_kitchen_among_other_rooms_may_lack_what_its_recipe_asks_for() -> None:
    books = _books(numLocations=2, numIngredients=2)
    books.see(_reading("gather apple, carrot; prepare meal"))
    assert books.contradictions(_step("open fridge", OPENED)) == ()


def _box(*lines: str) -> tuple[str, ...]:
    return ("at: street", "box: here", *lines)


SAUNA = _step("move north", ("at: sauna", "ladle: here", "south: canteen"))
LADLE = _step("take ladle", ("at: sauna", "south: canteen", "ladle: held"))
REAL = (
    (
        *("twc", ("at: corridor", "umbrella: held", "umbrella stand: here", "gray coat: in umbrella stand"), ()),
        _step("take gray coat", ("at: corridor", "umbrella: held", "umbrella stand: here", "gray coat: held")),
    ),
    (
        *("arithmetic", _box("math problem: here"), ()),
        _step("read math problem", _box("math problem: here", "result: failed")),
    ),
    (
        *("mapreader", ("at: canteen", "ladle: here", "north: sauna"), (SAUNA, LADLE)),
        _step("move south", ("at: canteen", "ladle: here", "north: sauna", "ladle #2: held")),
    ),
)
"""Once taken for contradictions: names that begin alike, a problem that is not held, two things of one name."""


@pytest.mark.parametrize(("game", "first", "before", "step"), REAL)
def test_what_the_games_really_do_breaks_no_rule(
    game: str, first: tuple[str, ...], before: tuple[Transition, ...], step: Transition
) -> None:
    books = _books(game, first)
    for transition in before:
        assert books.contradictions(transition) == ()
        books.see(transition)
    assert books.contradictions(step) == ()


def test_full_hands_take_nothing_and_say_nothing() -> None:
    books = _books(limitInventorySize=1)
    assert books.contradictions(_step("take cookbook", KITCHEN)) == ()


def _room(*lines: str) -> tuple[str, ...]:
    return ("at: street", "box: here", "counter: here", *lines)


SUM = "result: add 3 and 4"
MATH = _step("read math problem", _room("math problem: held", "3 apples: held", "7 pears: here", SUM))
PUT = (_step("put cushion in sofa", _room("cushion: in sofa")),)
TAKE = _step("take cushion", _room("cushion: held"))
HELP, TOUCH = _step("help", ()), _step("touch", ())
SAID = (
    *(_step("fly", ("result: failed",)), _step("jump", ("result: Simon says sing",)), HELP),
    *(_step("sing", ("result: Simon says touch",)), _step("swim", ("result: failed",))),
)
"""A command stands while something else fails or the task is said again."""
GOALS: tuple[tuple[str, tuple[str, ...], tuple[Transition, ...], Transition, StepOutcome | None], ...] = (
    ("coin", _room("coin: here"), (), _step("take coin", _room("coin: held")), "success"),
    ("coin", _room("coin: here"), (), _step("take coin", _room("coin: here", "result: failed")), "running"),
    ("mapreader", _room("coin: held"), (), _step("put coin in box", _room("coin: in box")), "success"),
    ("mapreader", _room("coin: here"), (), _step("take coin", _room("coin: held")), "running"),
    ("twc", _room("cushion: held"), (), _step("put cushion in sofa", _room("cushion: in sofa")), "running"),
    ("twc", _room("cushion: in sofa", "lamp: held"), PUT, _step("look around", _room()), "running"),
    ("twc", _room("blue cap: held"), PUT, _step("put blue cap in hat rack", _room("blue cap: in hat rack")), "success"),
    ("twc", _room("blue cap: held"), PUT, _step("put blue cap in hat rack", _room("blue cap: held")), "running"),
    ("twc", _room("blue cap: held"), PUT, _step("put blue cap in sofa", _room("blue cap: in sofa")), "running"),
    (
        "twc",
        _room("blue cap: held"),
        (*PUT, TAKE),
        _step("put blue cap in hat rack", _room("blue cap: in hat rack")),
        "running",
    ),
    ("twc", _room("ghost: held"), PUT, _step("put ghost in hat rack", _room("ghost: in hat rack")), None),
    ("cookingworld", KITCHEN, (), _step("eat meal", KITCHEN), "success"),
    ("cookingworld", KITCHEN, (), _step("eat apple", _changed(KITCHEN, "apple: gone")), None),
    ("cookingworld", KITCHEN, (READ,), _step("eat apple", _changed(KITCHEN, "apple: gone")), "failure"),
    ("cookingworld", KITCHEN, (READ,), _step("dice apple", _changed(KITCHEN, "apple: held diced")), "failure"),
    ("cookingworld", KITCHEN, (READ,), _step("slice apple", _changed(KITCHEN, "apple: held sliced")), "running"),
    ("arithmetic", _room("7 pears: held"), (), _step("put 7 pears in box", _room("7 pears: in box")), None),
    ("arithmetic", _room("7 pears: held"), (MATH,), _step("put 7 pears in box", _room("7 pears: in box")), "success"),
    ("arithmetic", _room("7 pears: in box"), (), _step("read math problem", _room("7 pears: in box", SUM)), "success"),
    ("arithmetic", _room("7 pears: here"), (), _step("read math problem", _room("7 pears: here", SUM)), "running"),
    ("arithmetic", _room("3 apples: held"), (MATH,), _step("put 3 apples in box", _room()), "failure"),
    (
        *("sorting", _room("2kg of oak: held", "3g of oak: here"), ()),
        *(_step("put 2kg of oak in box", _room("2kg of oak: in box", "3g of oak: here")), "failure"),
    ),
    (
        *("sorting", _room("2kg of oak: held"), ()),
        *(_step("put 2kg of oak in box", _room("2kg of oak: in box")), "success"),
    ),
    ("simonsays", ("result: Simon says jump",), (), _step("jump", ("result: Simon says sing",)), "running"),
    ("simonsays", ("result: Simon says jump",), SAID, _step("touch", ()), "success"),
    (
        "simonsays",
        ("result: Simon says jump; sing; touch",),
        (_step("jump", ()), HELP, _step("sing", ())),
        TOUCH,
        "success",
    ),
    ("simonsays", ("result: Simon says jump; sing; touch",), (_step("jump", ()),), TOUCH, "failure"),
    ("simonsays", ("result: Simon says jump",), (), HELP, "running"),
    ("simonsays", (), (), _step("jump", ()), None),
    ("simonsays", ("result: Simon says jump",), (), _step("sing", ("result: incorrect",)), "failure"),
    ("peckingorder", _room("peach: here"), (), _step("take peach", _room("peach: held")), None),
    (
        *("peckingorder", _room("peach: here", "instructions book: here")),
        (_step("read instructions book", _room("peach: here", "result: task take the pear")),),
        *(_step("take peach", _room("peach: held")), "failure"),
    ),
)


@pytest.mark.parametrize(("game", "first", "before", "step", "outcome"), GOALS)
def test_the_books_know_the_goal(
    game: str, first: tuple[str, ...], before: tuple[Transition, ...], step: Transition, outcome: StepOutcome | None
) -> None:
    books = _books(game, first, numItemsToPutAway=2, gameLength=3)
    for transition in before:
        books.see(transition)
    assert isinstance(books, GoalLedger)
    assert books.outcome(step) == outcome


def test_what_a_ledger_is_not_told_it_does_not_decide() -> None:
    task = Task(
        environment="textworld_express/twc",
        instruction="",
        first_state=State.of(_room("newspaper: held")),
        fold="test",
        seed=20_000,
        parameters={"numItemsToPutAway": 1},
    )
    put = _step("put newspaper in end table", _room("newspaper: in end table"))
    assert TextWorldExpressLedger().open(task).outcome(put) == "success"
    assert TextWorldExpressLedger(belongings=belongings("train")).open(task).outcome(put) is None


def test_the_table_of_belongings_is_that_of_the_package() -> None:
    package = pytest.importorskip("textworld_express.constants", reason="textworld-express is not installed")
    assert from_package(Path(package.BASEPATH)) == Path(belongings_table.__file__).read_text()


def test_the_goal_does_not_believe_what_a_step_claims() -> None:
    books = _books("coin", _room("coin: here"))
    assert books.outcome(_step("look around", _room("coin: here"), outcome="success")) == "running"


def test_facts_hold_rooms_and_texts() -> None:
    books = _books()
    for transition in (READ, THERE[0]):
        books.see(transition)
    facts = books.facts
    assert facts["salt"] == "in shelf"
    assert facts["fridge at kitchen"] == "closed"
    assert facts["text of cookbook"].startswith("gather apple")


@pytest.mark.parametrize(
    ("name", "amount"), [("12 pears", 12), ("3kg of oak", 3000), ("5mm of oak", 0.005), ("box", None)]
)
def test_names_tell_quantities(name: str, amount: float | None) -> None:
    assert quantity(name) == amount


CLOSED_AGAIN = tuple(line for line in _changed(OPENED, "fridge: closed") if not line.startswith("egg"))


@pytest.mark.parametrize(
    ("before", "lie", "truth"),
    [
        (None, _step("take hat", (*KITCHEN, "hat: held")), (*KITCHEN, "result: failed")),
        (OPENED, _step("close fridge", _changed(OPENED, "apple: in fridge")), CLOSED_AGAIN),
        (None, _step("open fridge", _changed(OPENED, "apple: in fridge")), OPENED),
        (None, _step("slice apple", _changed(KITCHEN, "apple: held diced")), _changed(KITCHEN, "apple: held sliced")),
        (None, _step("take cookbook", (*KITCHEN, "result: failed")), _changed(KITCHEN, "cookbook: held")),
    ],
)
def test_a_lie_is_put_right(before: tuple[str, ...] | None, lie: Transition, truth: tuple[str, ...]) -> None:
    books = _books()
    if before is not None:
        books.see(_step("open fridge", before))
    assert books.contradictions(lie)
    amended = books.amended(lie)
    assert amended is not None
    assert amended.same_as(State.of(truth))


def test_what_lies_in_a_container_that_was_not_seen_open_is_not_made_up() -> None:
    assert _books().amended(_step("open fridge", (*KITCHEN, "result: failed"))) is None


def test_which_of_two_things_of_one_name_is_meant_is_not_guessed() -> None:
    books = _books(lines=(*KITCHEN, "egg: in counter raw", "egg #2: in stove raw"))
    assert books.amended(_step("take knife", KITCHEN)) is not None  # it fails: nothing changes
    assert books.amended(_step("take cookbook", KITCHEN)) is None


def test_a_second_thing_of_a_name_that_a_new_room_holds_is_not_taken_away() -> None:
    pantry = ("at: pantry", "west: kitchen", "apple: here", "apple #2: held", "potato: held raw")
    assert _books().amended(_step("move east", pantry)) is None
