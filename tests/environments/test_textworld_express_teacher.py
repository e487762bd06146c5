"""The teacher names facts before it concludes, and only facts that were seen."""

from dreamsim.records.episode import Episode, StepOutcome, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim_adapters.environments.textworld_express.teacher import annotate, recipe_of

FIRST = State.of(["at: kitchen", "fridge: closed", "counter: here", "egg: in counter raw", "north: pantry"])


def step(action: str, lines: list[str], *, score: float = 0.0, outcome: StepOutcome = "running") -> Transition:
    reward = 1.0 if outcome == "success" else 0.0
    return Transition(action=action, state=State.of(lines), reward=reward, outcome=outcome, score=score)


def reasons(game: str, *transitions: Transition) -> list[str]:
    task = Task(
        environment=f"textworld_express/{game}",
        instruction="",
        first_state=FIRST,
        fold="train",
        parameters={"numItemsToPutAway": 1},
    )
    episode = Episode(
        id="e",
        run="r",
        task=task,
        repeat=0,
        source="real",
        purpose="experience",
        transitions=transitions,
        outcome="truncated",
    )
    return [transition.reasoning for transition in annotate(episode).transitions]


KITCHEN = list(FIRST.lines)


def test_a_take_names_the_thing_and_what_it_lies_in() -> None:
    assert reasons("cookingworld", step("take egg", KITCHEN)) == ["egg: in counter raw; counter: here; works"]


def test_a_failure_names_what_is_missing() -> None:
    assert reasons("cookingworld", step("put hat in fridge", [*KITCHEN, "result: failed"])) == [
        "hat: none; fridge: closed; fails"
    ]


def test_a_move_says_whether_the_room_is_known() -> None:
    pantry = ["at: pantry", "south: kitchen"]
    assert reasons("coin", step("move north", pantry), step("move south", KITCHEN)) == [
        "at: kitchen; north: pantry; new; works",
        "at: pantry; south: kitchen; seen; works",
    ]


def test_opening_says_whether_what_is_inside_is_known() -> None:
    closed, opened = ["at: kitchen", "fridge: closed"], ["at: kitchen", "fridge: open", "egg: in fridge raw"]
    first = step("open fridge", opened), step("close fridge", closed), step("open fridge", opened)
    assert reasons("cookingworld", step("close fridge", closed), *first)[1::2] == [
        "fridge: closed; new; works",
        "fridge: closed; seen; works",
    ]


def test_closing_names_what_was_inside_and_where_it_is_now() -> None:
    opened = ["at: kitchen", "fridge: open", "egg: in fridge raw", "salt: in fridge"]
    taken = ["at: kitchen", "fridge: open", "egg: held raw", "salt: in fridge"]
    closed = ["at: kitchen", "fridge: closed", "egg: held raw"]
    again = ["at: kitchen", "fridge: open", "egg: held raw", "salt: in fridge"]
    said = reasons(
        "cookingworld",
        step("open fridge", opened),
        step("take egg", taken),
        step("close fridge", closed),
        step("open fridge", again),
        step("close fridge", closed),
    )
    assert said[2] == "fridge: open; egg: held raw; salt: in fridge; works"
    assert said[4] == "fridge: open; salt: in fridge; works"


def test_reading_again_says_so() -> None:
    read = [*KITCHEN, "result: gather egg; fry egg; prepare meal"]
    said = reasons(
        "cookingworld", step("read cookbook", read), step("look around", KITCHEN), step("read cookbook", read)
    )
    assert said[0].endswith("unread")
    assert said[2].endswith("read before")


def test_a_put_says_whether_the_thing_belongs_there_and_what_is_done() -> None:
    held = [*KITCHEN[:3], "egg: held raw", "north: pantry"]
    placed = [*KITCHEN[:3], "egg: in counter raw", "north: pantry"]
    assert reasons("twc", step("take egg", held, score=0.5), step("put egg in counter", placed, score=0.0))[1] == (
        "egg: held raw; counter: here; works; does not belong; 0 of 1 placed"
    )
    solved = step("put egg in counter", placed, score=1.0, outcome="success")
    assert reasons("twc", step("take egg", held, score=0.5), solved)[1].endswith(
        "works; belongs; 1 of 1 placed; task solved"
    )


def test_cooking_names_what_the_recipe_asks_once_it_is_read() -> None:
    held = [*KITCHEN[:3], "egg: held raw", "stove: here"]
    read = [*held, "result: gather egg; fry egg; prepare meal"]
    fried = [*KITCHEN[:3], "egg: held fried", "stove: here"]
    unread, _, after = reasons(
        "cookingworld",
        step("slice egg", [*held, "result: failed"]),
        step("read cookbook", read),
        step("cook egg in stove", fried),
    )
    assert unread == "egg: in counter raw; counter: here; knife: none; recipe unread; fails"
    assert after == "egg: held raw; stove: here; recipe fry; works"


def test_a_recipe_is_read_into_what_each_ingredient_needs() -> None:
    assert recipe_of("gather egg, salt; slice egg; fry egg; prepare meal") == {"egg": ["slice", "fry"], "salt": []}
