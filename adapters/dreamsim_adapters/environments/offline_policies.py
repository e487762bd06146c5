"""Policies without a model, for collecting real experience anywhere: gold, random, mixed, mistaken and restless.

In: what an environment knows of itself: a task's gold path (asked for when the first action is due), which actions can
be taken back and how, what cannot work; then the present state and what can be done in it. Out: decisions, drawn from
the actor's own seed.

Always:
- a detour of the mixed policy is taken back (opened, closed; taken, put back; gone, come back) before the gold path
  goes on, except for one in ten, after which the path may no longer lead anywhere;
- an action of the mistaken policy that is off the path is not among those that can be taken, nor is a mistake of the
  restless one.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from dreamsim.errors import PolicyError
from dreamsim.protocols import Actor
from dreamsim.records.completion import Decision
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import seed_of

NOTHING_ELSE: Final = "look around"
"""What is done where the environment names no action at all."""
RARE_VERBS: Final = frozenset({"examine", "help", "inventory", "look"})
RARE_WEIGHT: Final = 0.35
"""Of an action that only looks, when drawn at random: there are many of them, and they change nothing."""
DEEPEST: Final = 3
"""Detours inside detours."""
WILD_SHARE: Final = 0.1
"""Of the detours: any action, not taken back."""
LATELY: Final = 8
"""Steps that count as a while ago."""

GoldPaths = Callable[[Task], Awaitable[tuple[str, ...]]]
"""The actions that solve a task."""
Vocabulary = Callable[[], Awaitable[tuple[str, ...]]]
"""Names of things that exist somewhere."""
Kept = Callable[[Task, Sequence[str], random.Random], Sequence[str]]
"""What of a gold path is played."""
Detours = Callable[[State, Sequence[str]], Mapping[str, str | None]]
"""Actions that can be taken and taken back, each with the action that does so (None: it changes nothing)."""


class Mistakes(Protocol):
    """An action that cannot be taken in `state`, such as `last` again or one on a thing `seen` elsewhere."""

    def __call__(
        self,
        dice: random.Random,
        state: State,
        admissible: Sequence[str],
        vocabulary: Sequence[str],
        *,
        last: str = "",
        seen: Collection[str] = (),
    ) -> str:
        """One of them, drawn from `dice`."""
        ...


def whole_path(task: Task, path: Sequence[str], dice: random.Random) -> Sequence[str]:
    """All of a gold path."""
    return path


class GoldPolicy:
    """Plays the solution that the environment knows."""

    def __init__(self, gold_path: GoldPaths, *, kept: Kept = whole_path, name: str = "gold-1") -> None:
        """`kept`: says what of the path is played."""
        self._gold_path = gold_path
        self._name = name
        self._kept = kept

    @property
    def name(self) -> str:
        """Name and version."""
        return self._name

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who follows the path and fails with PolicyError when it ends too early."""
        return Guide(task, self._gold_path, _dice(seed), self._kept)


class RandomPolicy:
    """Takes any action that can be taken: first a verb, then one of its actions."""

    def __init__(self, *, rare: float = RARE_WEIGHT) -> None:
        """`rare`: weight of each verb that only looks."""
        self._rare = rare

    @property
    def name(self) -> str:
        """Name and version."""
        return "random-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who acts at random."""
        return _Wanderer(_dice(seed), self._rare)


class MixedPolicy:
    """Follows the gold path with detours."""

    def __init__(self, gold_path: GoldPaths, detours: Detours, *, share: float = 0.35, kept: Kept = whole_path) -> None:
        """`detours`: what can be taken back; `share`: the chance of leaving the path at a step."""
        self._gold_path = gold_path
        self._detours = detours
        self._share = share
        self._kept = kept

    @property
    def name(self) -> str:
        """Name and version."""
        return "mixed-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who takes detours."""
        dice = _dice(seed)
        return _Stroller(Guide(task, self._gold_path, dice, self._kept), dice, self._detours, self._share)


class MistakenPolicy:
    """Follows the gold path and tries what cannot work on the way, so that failures are seen in deep states too."""

    def __init__(
        self,
        gold_path: GoldPaths,
        vocabulary: Vocabulary,
        mistakes: Mistakes,
        *,
        share: float = 0.5,
        kept: Kept = whole_path,
    ) -> None:
        """`mistakes`: what cannot work; `share`: its chance at a step; `vocabulary`: names that exist elsewhere."""
        self._gold_path = gold_path
        self._vocabulary = vocabulary
        self._mistakes = mistakes
        self._share = share
        self._kept = kept

    @property
    def name(self) -> str:
        """Name and version."""
        return "mistaken-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who makes mistakes."""
        dice = _dice(seed)
        return _Blunderer(
            Guide(task, self._gold_path, dice, self._kept), dice, self._vocabulary, self._mistakes, self._share
        )


class RestlessPolicy:
    """Random, but does again what it did a while ago and tries what cannot work: rooms and containers are seen many
    times, and many actions are taken from one state."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        mistakes: Mistakes,
        *,
        again: float = 0.3,
        share: float = 0.25,
        rare: float = RARE_WEIGHT,
    ) -> None:
        """`again`: the chance of an action of the last few steps; `share`: of one that cannot work; `rare` as above."""
        self._rare = rare
        self._vocabulary = vocabulary
        self._mistakes = mistakes
        self._again = again
        self._share = share

    @property
    def name(self) -> str:
        """Name and version."""
        return "restless-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who cannot sit still."""
        return _Fidget(_dice(seed), self._vocabulary, self._mistakes, self._again, self._share, self._rare)


class Guide:
    """Knows the gold path, and where on it we are."""

    __slots__ = ("_dice", "_gold_path", "_kept", "_path", "_task")

    def __init__(self, task: Task, gold_path: GoldPaths, dice: random.Random, kept: Kept) -> None:
        self._task = task
        self._gold_path = gold_path
        self._dice = dice
        self._kept = kept
        self._path: list[str] | None = None

    async def next_action(self) -> str | None:
        """The next action of the path, or None at its end."""
        if self._path is None:
            path = await self._gold_path(self._task)
            self._path = list(self._kept(self._task, path, self._dice))[::-1]
        return self._path.pop() if self._path else None

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """The next action of the path."""
        action = await self.next_action()
        if action is None:
            raise PolicyError("the gold path is played out and the task is not solved")
        return Decision(action=action)


class _Wanderer:
    __slots__ = ("_dice", "_rare")

    def __init__(self, dice: random.Random, rare: float) -> None:
        self._dice = dice
        self._rare = rare

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """Any action that can be taken."""
        return Decision(action=any_action(self._dice, admissible, self._rare))


class _Stroller:
    __slots__ = ("_chance", "_detours", "_dice", "_guide", "_way_back")

    def __init__(self, guide: Guide, dice: random.Random, detours: Detours, chance: float) -> None:
        self._guide = guide
        self._dice = dice
        self._detours = detours
        self._chance = chance
        self._way_back: list[str] = []

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """A detour, the way back from one, or the next action of the path."""
        if len(self._way_back) < DEEPEST and self._dice.random() < self._chance:
            if self._dice.random() < WILD_SHARE:
                return Decision(action=any_action(self._dice, admissible))
            detours = self._detours(state, admissible)
            if detours:
                kind = self._dice.choice(sorted({action.split()[0] for action in detours}))
                action = self._dice.choice([action for action in detours if action.split()[0] == kind])
                if back := detours[action]:
                    self._way_back.append(back)
                return Decision(action=action)
        if self._way_back:
            return Decision(action=self._way_back.pop())
        return Decision(action=await self._guide.next_action() or any_action(self._dice, admissible))


class _Blunderer:
    __slots__ = ("_chance", "_dice", "_guide", "_last", "_mistakes", "_names", "_seen", "_vocabulary")

    def __init__(
        self, guide: Guide, dice: random.Random, vocabulary: Vocabulary, mistakes: Mistakes, chance: float
    ) -> None:
        self._mistakes = mistakes
        self._guide = guide
        self._dice = dice
        self._vocabulary = vocabulary
        self._chance = chance
        self._names: tuple[str, ...] | None = None
        self._seen: set[str] = set()
        self._last = ""

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """A mistake, or the next action of the path."""
        if self._names is None:
            self._names = await self._vocabulary()
        self._seen.update(state.elements)
        if self._dice.random() < self._chance:
            action = self._mistakes(self._dice, state, admissible, self._names, last=self._last, seen=self._seen)
        else:
            action = await self._guide.next_action() or any_action(self._dice, admissible)
        self._last = action
        return Decision(action=action)


class _Fidget:
    __slots__ = ("_again", "_chance", "_dice", "_last", "_mistakes", "_names", "_rare", "_seen", "_vocabulary")

    def __init__(
        self,
        dice: random.Random,
        vocabulary: Vocabulary,
        mistakes: Mistakes,
        again: float,
        chance: float,
        rare: float,
    ) -> None:
        self._chance = chance
        self._rare = rare
        self._dice = dice
        self._vocabulary = vocabulary
        self._again = again
        self._mistakes = mistakes
        self._names: tuple[str, ...] | None = None
        self._seen: set[str] = set()
        self._last: list[str] = []

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """A mistake, something done lately, or any action that can be taken."""
        if self._names is None:
            self._names = await self._vocabulary()
        self._seen.update(state.elements)
        drawn = self._dice.random()
        lately = sorted({*self._last[-LATELY:]} & {*admissible})
        if drawn < self._chance:
            last = self._last[-1] if self._last else ""
            action = self._mistakes(self._dice, state, admissible, self._names, last=last, seen=self._seen)
        elif drawn < self._chance + self._again and lately:
            action = self._dice.choice(lately)
        else:
            action = any_action(self._dice, admissible, self._rare)
        self._last.append(action)
        return Decision(action=action)


def any_action(dice: random.Random, admissible: Sequence[str], rare: float = RARE_WEIGHT) -> str:
    """One of the actions that can be taken: verbs equally often, however many things there are to do them to."""
    verbs: dict[str, list[str]] = {}
    for action in admissible:
        verbs.setdefault(action.split()[0], []).append(action)
    if not verbs:
        return NOTHING_ELSE
    weights = [rare if verb in RARE_VERBS else 1.0 for verb in verbs]
    return dice.choice(verbs[dice.choices(list(verbs), weights)[0]])


def _dice(seed: int) -> random.Random:
    return random.Random(seed_of(seed, "offline policy"))
