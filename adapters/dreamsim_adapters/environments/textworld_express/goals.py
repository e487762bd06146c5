"""When a task of TextWorldExpress is solved or lost, by the books.

In: the books of an episode before a step, and the step. Out: what it leads to, or None where they do not decide it.
Always: the step's own claim (its outcome and reward) is never looked at; the state that it shows is believed.

What each game asks for: `coin` the coin in hand; `mapreader` the coin in the box; `cookingworld` the meal eaten, and no
ingredient eaten or prepared otherwise than the recipe says; `twc` as many things as are asked for where they belong,
which the task does not say but the game's own table (`belongings`); `sorting` everything in the box by rising quantity;
`arithmetic` the right quantity in the box, and the problem read; `simonsays` what Simon says. `peckingorder` is lost
when something else is taken than the command says that was read and still stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from dreamsim.experience.books import Step, base_name
from dreamsim.records.episode import StepOutcome
from dreamsim.records.state import RESULT, is_held
from dreamsim_adapters.environments.textworld_express.books import TextWorldExpressBooks
from dreamsim_adapters.environments.textworld_express.furniture import COOKED, COOKED_BY, CUT, CUT_BY, STEP_MAKES

_PROBLEM: Final = re.compile(r"(add|subtract|multiply|divide) (\d+) (?:and|from|by) (\d+)\Z")
_PROBLEM_NAME: Final = "math problem"
_QUANTITY: Final = re.compile(r"(\d+)\s?(mg|kg|g|mm|cm|m|ml|l)?\b")
_UNITS: Final[Mapping[str, float]] = {
    "mg": 1e-3,
    "g": 1.0,
    "kg": 1e3,
    "mm": 1e-3,
    "cm": 1e-2,
    "m": 1.0,
    "ml": 1e-3,
    "l": 1.0,
    "": 1.0,
}

HELP: Final = "help"
"""Says the task again, and the game does not notice."""
_TAKE_THE: Final = "task take the "
_IN_BOX: Final = "in box"


def outcome(books: TextWorldExpressBooks, step: Step) -> StepOutcome | None:
    """What `step` leads to; None where the books do not decide it."""
    if step.failed:
        return "running"
    decide = _GAMES.get(books.game)
    return None if decide is None else decide(books, step)


def _coin(books: TextWorldExpressBooks, step: Step) -> StepOutcome | None:
    return "success" if is_held(step.after.get("coin", "")) else "running"


def _mapreader(books: TextWorldExpressBooks, step: Step) -> StepOutcome | None:
    return "success" if step.after.get("coin") == _IN_BOX else "running"


def _twc(books: TextWorldExpressBooks, step: Step) -> StepOutcome | None:
    verb, _, rest = step.action.partition(" ")
    name, _, place = rest.partition(" in ")
    if verb != "put" or not step.after.get(name, "").startswith(f"in {place}"):
        return "running"
    put = {**books.put, name: place}
    belong = [
        None if thing not in books.belongings else where in books.belongings[thing] for thing, where in put.items()
    ]
    total = books.task.parameters.get("numItemsToPutAway")
    if False in belong or (isinstance(total, int) and len(put) < total):
        return "running"  # every thing of this game must be put away
    return "success" if isinstance(total, int) and None not in belong else None


def _cookingworld(books: TextWorldExpressBooks, step: Step) -> StepOutcome | None:
    verb, _, rest = step.action.partition(" ")
    name, _, place = rest.partition(" in ")
    if verb not in (*CUT_BY, "cook", "eat"):
        return "running"
    if verb == "eat" and name == "meal":
        return "success"
    if books.recipe is None:
        return None
    if name not in books.recipe:
        return "running"
    if verb == "eat":
        return "failure"
    wanted = {STEP_MAKES.get(step, step) for step in books.recipe[name]}
    makes = COOKED_BY.get(place, "") if verb == "cook" else CUT_BY[verb]
    had = {word for value in books.held(name) for word in value.split()} & (COOKED if verb == "cook" else CUT)
    return None if had else "running" if makes in wanted else "failure"


def _arithmetic(books: TextWorldExpressBooks, step: Step) -> StepOutcome | None:
    if step.action == f"read {_PROBLEM_NAME}":
        return _now_read(step)
    name, put = _put_in_box(step)
    if not put:
        return "running"
    answer, found = _answer(books.texts.get(_PROBLEM_NAME, "")), _QUANTITY.match(name)
    if found is None:
        return "failure"
    return None if answer is None else "success" if int(found[1]) == answer else "failure"


def _now_read(step: Step) -> StepOutcome | None:
    """What reading the problem leads to: what lies in the box by then counts only from now on."""
    lying = [_QUANTITY.match(name) for name, value in step.after.items() if value == _IN_BOX]
    answer = _answer(step.after.get(RESULT, ""))
    if not lying:
        return "running"
    return None if answer is None else "success" if any(one and int(one[1]) == answer for one in lying) else "running"


def _answer(problem: str) -> int | None:
    found = _PROBLEM.match(problem)
    if found is None:
        return None
    one, other = int(found[2]), int(found[3])
    if found[1] == "divide":
        return one // other if other and one % other == 0 else None
    return {"add": one + other, "subtract": other - one, "multiply": one * other}[found[1]]


def _sorting(books: TextWorldExpressBooks, step: Step) -> StepOutcome | None:
    name, put = _put_in_box(step)
    if not put:
        taken = step.action.removeprefix("take ")
        out_of_box = step.action.startswith("take ") and _IN_BOX in books.values(taken)
        return None if out_of_box else "running"
    elements = step.after
    left = [quantity(key) for key, value in elements.items() if value != _IN_BOX and key[:1].isdigit()]
    mine, others = quantity(name), [found for found in left if found is not None]
    if mine is None or len(others) < len(left) or mine in others:
        return None
    if not others:
        return "success"
    return "failure" if min(others) < mine else "running"


def quantity(name: str) -> float | None:
    """How much of something there is, in grams, metres, litres or pieces; None where the name does not say."""
    found = _QUANTITY.match(base_name(name))
    return None if found is None else int(found[1]) * _UNITS[found[2] or ""]


def _put_in_box(step: Step) -> tuple[str, bool]:
    rest = step.action.removeprefix("put ")
    name, _, place = rest.partition(" in ")
    return name, step.action.startswith("put ") and place == "box"


def _simonsays(books: TextWorldExpressBooks, step: Step) -> StepOutcome | None:
    if step.action == HELP:
        return "running"
    if not books.orders:
        return None
    if step.action != books.orders[0]:
        return "failure"
    return "success" if books.followed + 1 == books.task.parameters.get("gameLength") else "running"


def _peckingorder(books: TextWorldExpressBooks, step: Step) -> StepOutcome | None:
    if step.verb not in ("take", "put"):
        return "running"
    wanted = books.command.removeprefix(_TAKE_THE)
    other = step.verb == "take" and wanted != books.command and step.action != f"take {wanted}"
    return "failure" if other else None


_GAMES: Final[Mapping[str, Callable[[TextWorldExpressBooks, Step], StepOutcome | None]]] = {
    "coin": _coin,
    "mapreader": _mapreader,
    "twc": _twc,
    "cookingworld": _cookingworld,
    "arithmetic": _arithmetic,
    "sorting": _sorting,
    "simonsays": _simonsays,
    "peckingorder": _peckingorder,
}
