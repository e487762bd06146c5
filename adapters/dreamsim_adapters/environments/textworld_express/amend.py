"""The state that a step must show by the books, where it showed another.

In: the books of an episode and a step that contradicts them. Out: the elements after it, or None.
Always: nothing is made up: what the books leave open is as the step shows it, with what a recipe asks for where it can
be nowhere else; and where things cannot be told apart (of one name, a first look that failed) there is no state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from dreamsim.experience.books import Step, base_name
from dreamsim.records.state import RESULT
from dreamsim_adapters.environments.textworld_express.books import TextWorldExpressBooks, Things, things
from dreamsim_adapters.environments.textworld_express.foretell import Foretold, foretell
from dreamsim_adapters.environments.textworld_express.mapping import FAILED
from dreamsim_adapters.environments.textworld_express.pantry import found_in, owed

_NOTHING: Final[Things] = Counter()


def amended(books: TextWorldExpressBooks, step: Step) -> dict[str, str] | None:
    """The elements after `step`, in the order of those before it; None where the books do not decide them."""
    foretold = foretell(books, step.action)
    before = {key: value for key, value in books.before.items() if key != RESULT}
    if foretold.works is False or (foretold.works is None and step.failed):
        return {**before, RESULT: FAILED}
    if foretold.things is None or (step.failed and foretold.may_add is not None):
        return None
    seen = things(step.after)
    after = _settled(foretold, foretold.things, seen)
    after = after + Counter(
        [found_in(name, step.action) for name in owed(books, step.action) if not _is_in(name, after)]
    )
    if any(base_name(key) != key for key in before) or _share_names(after) or _share_names(seen):
        return None  # things of one name: which of them is meant is not written
    return {**_in_order(before, dict(after.keys())), **_result(books, foretold, step)}


def _is_in(name: str, some: Things) -> bool:
    return any(other == name for other, _ in some)


def _share_names(some: Things) -> bool:
    return sum(some.values()) > len({name for name, _ in some})


def _settled(foretold: Foretold, after: Things, seen: Things) -> Things:
    """`after` with what the step alone can say: what was found, and what was used up."""
    names = {name for name, _ in after}
    found, lost = _NOTHING, _NOTHING
    if (may_add := foretold.may_add) is not None:
        found = Counter({thing: n for thing, n in (seen - after).items() if thing[0] not in names and may_add(*thing)})
    if (may_lose := foretold.may_lose) is not None:
        lost = Counter({thing: n for thing, n in (after - seen).items() if may_lose(*thing)})
    return after + found - lost


def _in_order(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    kept = {name: after[name] for name in before if name in after}
    return {**kept, **{name: value for name, value in after.items() if name not in kept}}


def _result(books: TextWorldExpressBooks, foretold: Foretold, step: Step) -> dict[str, str]:
    """The line of what was read, if something was."""
    if foretold.reads is None:
        return {}
    text = books.texts.get(foretold.reads, "" if step.failed else step.after.get(RESULT, ""))
    return {RESULT: text} if text else {}
