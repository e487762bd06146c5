"""What a consistent environment may not do, asked step by step: the half of the suite that waits for nothing.

In: a task, a ledger, dice or a caller that says what to try, and the transitions that come of it. Out: contradictions.
Always: an examination never touches an environment: it says what to do next and judges what is shown for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from dreamsim.experience.books import base_name, differences, without_result
from dreamsim.experience.ledger_rules import LOOKS, container_of
from dreamsim.protocols import StateLedger
from dreamsim.records.episode import Transition
from dreamsim.records.state import SCENE, State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction

IMPOSSIBLE: Final = ("frobnicate the quux", "take the moon", "open the sky")
"""Actions that no environment knows."""
OPPOSITES: Final[Mapping[str, str]] = MappingProxyType(
    {"north": "south", "south": "north", "east": "west", "west": "east", "up": "down", "down": "up"}
)
RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "first_state": "An episode begins in its task's first state.",
        "after_end": "A finished episode takes no step.",
        "same_again": "The same task, history, action and seed give the same state, reward and outcome.",
        "impossible_changes": "An action that cannot work changes nothing.",
        "impossible_earns": "An action that cannot work earns nothing.",
        "impossible_ends": "An action that cannot work does not end the task.",
        "look_twice": "Looking twice without acting shows the same.",
        "undone": "An action and its opposite (open and close, take and put, there and back) restore the state.",
    }
)
"""The rules of the suite; those of the ledger come on top."""

Inverse = Callable[[Mapping[str, str], str], str | None]
"""(elements before, action) -> the action that takes it back; None where there is none."""


def inverse_of(before: Mapping[str, str], action: str) -> str | None:
    """The opposite of `open X`, `close X`, `take X` out of something, `put X in Y`, `move <way>` and `go <room>`."""
    verb, _, rest = action.partition(" ")
    if verb in ("open", "close"):
        return f"{'close' if verb == 'open' else 'open'} {rest}"
    if verb in ("move", "go") and rest in OPPOSITES:
        return f"{verb} {OPPOSITES[rest]}"
    if verb == "go" and (room := before.get(SCENE)):
        return f"go {room}"
    if verb == "put":
        return f"take {rest.partition(' in ')[0]}"
    if verb == "take" and (place := container_of(before, before.get(rest, ""))):
        return f"put {rest} in {place}"
    return None


class Examination:
    """Examines one episode."""

    def __init__(
        self,
        task: Task,
        ledger: StateLedger,
        *,
        seed: int = 0,
        impossible: Sequence[str] = IMPOSSIBLE,
        inverse: Inverse = inverse_of,
    ) -> None:
        """`seed` decides what `choose` tries; `impossible` are actions that can never work there."""
        self._books = ledger.open(task)
        self._dice = np.random.default_rng(seed)
        self._impossible = tuple(impossible)
        self._inverse = inverse
        self._before = task.first_state.elements
        self._trying = ""
        self._undoes: tuple[str, Mapping[str, str]] | None = None
        self._planned: list[str] = []

    def choose(self, admissible: Sequence[str]) -> str:
        """What to do next: something impossible, a look (twice), an action, or one that is taken back afterwards."""
        if self._undoes is not None:
            return self._undoes[0]
        if self._planned:
            return self._planned.pop()
        drawn = self._dice.random()
        looks = [action for action in admissible if action.split()[0] in LOOKS]
        if (drawn < 0.15 or not admissible) and self._impossible:
            return self.impossible(int(self._dice.integers(len(self._impossible))))
        if drawn < 0.3 and looks:
            self._planned = [looks[int(self._dice.integers(len(looks)))]]
            return self._planned[0]
        action = admissible[int(self._dice.integers(len(admissible)))]
        return self.and_back(action) if drawn < 0.65 else action

    def impossible(self, number: int) -> str:
        """An action that cannot work; what comes of it is judged so."""
        self._trying = self._impossible[number % len(self._impossible)]
        return self._trying

    def and_back(self, action: str) -> str:
        """`action`, to be taken back by the next one where it has an opposite."""
        back = self._inverse(self._before, action)
        self._undoes = None if back is None else (back, self._before)
        self._planned = [action]
        return self._planned.pop()

    @property
    def back(self) -> str | None:
        """The action that is due because it takes the last one back."""
        return None if self._undoes is None else self._undoes[0]

    def see(self, transition: Transition) -> tuple[Contradiction, ...]:
        """Judge `transition`, and go on from it."""
        found = [*self._books.contradictions(transition), *self._own(transition)]
        self._books.see(transition)
        self._before = transition.state.elements
        return tuple(found)

    def _own(self, transition: Transition) -> list[Contradiction]:
        before, after = without_result(self._before), without_result(transition.state.elements)
        found: list[Contradiction] = []
        if self._trying and transition.action == self._trying:
            found += _judge_impossible(transition, before, after)
        self._trying = ""
        if self._undoes is not None:
            back, start = self._undoes
            if transition.action == back:
                self._undoes = None
                # An opposite that does not work says nothing here: whether it must work is the ledger's to know.
                if before != after and not transition.done and _things(after) != _things(without_result(start)):
                    told = differences(without_result(start), after)
                    found.append(Contradiction(rule="undone", message=f"{back!r} did not restore: {told}"))
            elif before == after or transition.done:
                self._undoes = None  # it did nothing, so there is nothing to take back
        return found


def _judge_impossible(
    transition: Transition, before: Mapping[str, str], after: Mapping[str, str]
) -> list[Contradiction]:
    action, found = transition.action, []
    if before != after:
        told = differences(before, after)
        found.append(Contradiction(rule="impossible_changes", message=f"{action!r} changed something: {told}"))
    if transition.reward != 0:
        found.append(Contradiction(rule="impossible_earns", message=f"{action!r} earned {transition.reward}"))
    if transition.done:
        found.append(Contradiction(rule="impossible_ends", message=f"{action!r} ended with {transition.outcome}"))
    return found


def _things(elements: Mapping[str, str]) -> Counter[tuple[str, str]]:
    return Counter((base_name(key), value) for key, value in elements.items())


def element_actions(state: State) -> tuple[str, ...]:
    """Actions that element lines suggest, for environments that do not tell what can be done."""
    elements = without_result(state.elements)
    names = [base_name(key) for key in elements if key != SCENE and key not in OPPOSITES]
    held = [base_name(key) for key, value in elements.items() if value.split()[:1] == ["held"]]
    actions = ["look around", "inventory", *(f"move {way}" for way in OPPOSITES if way in elements)]
    for name in names:
        actions += [f"open {name}", f"close {name}"] if name not in held else []
        actions += [f"put {thing} in {name}" for thing in held if thing != name]
        actions += [f"take {name}"] if name not in held else []
    return tuple(dict.fromkeys(actions))
