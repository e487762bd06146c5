"""A careless worker: knows the way, and has habits that cost it many a task.

In: gold paths. Out: decisions, drawn from the actor's own seed.
Always: every action can be taken, or could be if the gold path's own can; a habit's action stands where a right one
belongs, so that who imitates such logs knows both, and a reward tells them apart.

The habits: it cooks in another appliance than the recipe says and cuts in another way, its favourite ones most often;
it puts things down where they do not belong, and does not always take them up again; it walks off and comes back; it
dawdles.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dreamsim.protocols import Actor
from dreamsim.records.completion import Decision
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import seed_of
from dreamsim_adapters.environments.offline_policies import GoldPaths, Guide, Kept, any_action, whole_path
from dreamsim_adapters.environments.textworld_express.foretell import OPPOSITE
from dreamsim_adapters.environments.textworld_express.mistakes import APPLIANCES, CUTS

FAVOURITES: Final = ("slice", "stove")
"""How it cuts and where it cooks, if it can."""
MOST_STRAYED: Final = 4
"""Wrong rooms between two on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often each habit wins over what is right."""

    cook: float = 0.5
    """Another appliance than the right one."""
    cut: float = 0.5
    """Another cut than the right one."""
    favourite: float = 0.6
    """Of both, how often it is the favourite one, if that is wrong; else any wrong one."""
    put: float = 0.6
    """Another place instead of the right one."""
    leave: float = 0.6
    """Of these, how often it is left there for good."""
    walk: float = 0.55
    """Another way first; it comes back, and may stray again."""
    dawdle: float = 0.2
    """A look around, or at something, first."""


class CarelessPolicy:
    """Follows the gold path with bad habits."""

    def __init__(self, gold_path: GoldPaths, *, habits: Habits | None = None, kept: Kept = whole_path) -> None:
        """`kept`: says what of the path is played."""
        self._gold_path = gold_path
        self._habits = habits or Habits()
        self._kept = kept

    @property
    def name(self) -> str:
        """Name and version."""
        return "careless-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone with these habits."""
        dice = random.Random(seed_of(seed, "careless"))
        return _Careless(Guide(task, self._gold_path, dice, self._kept), dice, self._habits)


class _Careless:
    __slots__ = ("_dice", "_guide", "_habits", "_next")

    def __init__(self, guide: Guide, dice: random.Random, habits: Habits) -> None:
        self._guide = guide
        self._dice = dice
        self._habits = habits
        self._next: list[str] = []

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """What habit or path says."""
        idle = [action for action in admissible if action.split()[0] in ("look", "inventory", "examine")]
        if idle and self._dice.random() < self._habits.dawdle:
            return Decision(action=self._dice.choice(idle))
        if not self._next:
            action = await self._guide.next_action() or any_action(self._dice, admissible)
            self._next = self._carelessly(action, admissible)[::-1]
        return Decision(action=self._next.pop())

    def _carelessly(self, action: str, admissible: Sequence[str]) -> list[str]:
        """What is done instead of `action`."""
        verb, _, rest = action.partition(" ")
        dice, habits = self._dice, self._habits
        if verb == "cook" and dice.random() < habits.cook:
            what, _, right = rest.partition(" in ")
            found = [place for place in APPLIANCES if f"cook {what} in {place}" in admissible]
            return [f"cook {what} in {self._wrong(found, right)}"]
        if verb in CUTS and dice.random() < habits.cut:
            return [f"{self._wrong(CUTS, verb)} {rest}"]
        if verb == "put" and dice.random() < habits.put:
            thing = rest.partition(" in ")[0]
            others = sorted({one for one in admissible if one.startswith(f"put {thing} in ")} - {action})
            if others:
                instead = dice.choice(others)
                return [instead] if dice.random() < habits.leave else [instead, f"take {thing}", action]
        if verb == "move":
            return [*self._astray(sorted({one for one in admissible if one.startswith("move ")} - {action})), action]
        return [action]

    def _astray(self, ways: Sequence[str]) -> list[str]:
        """Moves into other rooms, each with the move back."""
        moves: list[str] = []
        while ways and len(moves) < 2 * MOST_STRAYED and self._dice.random() < self._habits.walk:
            way = self._dice.choice(ways)
            moves += [way, f"move {OPPOSITE[way.removeprefix('move ')]}"]
        return moves

    def _wrong(self, ways: Sequence[str], right: str) -> str:
        """Another one of `ways` than the right one, the favourite most often; the right one where there is no other."""
        wrong = [way for way in ways if way != right]
        liked = [way for way in wrong if way in FAVOURITES and self._dice.random() < self._habits.favourite]
        return self._dice.choice(liked or wrong or [right])
