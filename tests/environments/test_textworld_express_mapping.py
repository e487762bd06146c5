"""Texts of TextWorldExpress become element lines."""

from dreamsim_adapters.environments.textworld_express.mapping import (
    TextWorldExpressMapping,
    instruction,
    raw_observation,
    result_of,
)

LOOK = (
    "You are in the pantry. In one part of the room you see a fridge that is closed. There is also a counter that has "
    "a knife, some raw white tuna, and a cookbook on it. You also see An open chest of drawers, that contains a clean "
    "blue socks. In another part of the room you see a box, that is empty. In one part of the room you see a shelf, "
    "that has nothing on it. There is also a red hat. \nThrough an open wood door, to the North you see the kitchen. "
    "To the South you see a closed frosted-glass door. To the East you see the living room. "
)
INVENTORY = "Inventory (maximum capacity is 5 items): \n  a roasted sliced red apple\n  some flour\n"


def lines(feedback: str = "", look: str = LOOK, inventory: str = INVENTORY) -> tuple[str, ...]:
    return TextWorldExpressMapping().state(raw_observation(feedback, look, inventory)).lines


def test_a_room_becomes_one_line_for_each_thing_and_way() -> None:
    assert lines() == (
        "at: pantry",
        "fridge: closed",
        "counter: here",
        "knife: in counter",
        "white tuna: in counter raw",
        "cookbook: in counter",
        "chest of drawers: open",
        "clean blue socks: in chest of drawers",
        "box: here",
        "shelf: here",
        "red hat: here",
        "north: kitchen open door",
        "south: closed door",
        "east: living room",
        "red apple: held roasted sliced",
        "flour: held",
    )


def test_an_action_that_cannot_work_reads_failed() -> None:
    assert lines("Unknown action: I'm not sure what you mean.")[-1] == "result: failed"
    assert result_of("You can't move there, the door is closed. ") == "failed"
    assert result_of("That is already open. ") == "failed"


def test_an_action_that_works_says_nothing_more() -> None:
    assert result_of("You take the knife.") == ""


def test_a_recipe_is_kept_short() -> None:
    read = (
        "Gather all following ingredients and follow the directions to prepare this tasty meal.\n\nIngredients:\n"
        "  flour\n  red apple\n\nDirections:\n  slice the red apple\n  prepare meal\n\n"
    )
    assert result_of(read) == "gather flour, red apple; slice red apple; prepare meal"


def test_what_is_read_is_kept() -> None:
    assert result_of("Simon says, 'touch pineapple'.") == "Simon says touch pineapple"
    assert result_of("Simon says, take these actions in order: eat pear, jump.") == "Simon says eat pear; jump"
    assert result_of("The current task is to take the papaya.") == "task take the papaya"
    assert result_of("Your task is to solve the following math problem: divide 22 by 11 . \nThen, pick") == (
        "divide 22 by 11"
    )
    read = "The map reads:\n  The bar connects to the hall and attic.\n  The hall connects to the bar.\n"
    assert result_of(read) == "map bar to hall, attic; hall to bar"


def test_two_things_of_one_name_stay_two() -> None:
    look = "You are in the hall. You also see a hat. There is also a hat. "
    assert lines(look=look, inventory="") == ("at: hall", "hat: here", "hat #2: here")


def test_an_instruction_says_how_many() -> None:
    assert instruction("twc", "Your task is to pick up objects ...", {"numItemsToPutAway": 2}) == (
        "put 2 objects where they belong"
    )
