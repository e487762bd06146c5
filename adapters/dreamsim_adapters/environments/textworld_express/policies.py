"""Policies without a model, for collecting real experience: gold, random, mixed, mistaken and restless.

In: a task's gold path (asked for when the first action is due), the present state and what can be done in it.
Out: decisions, drawn from the actor's own seed.
Always:
- a detour of the mixed policy is taken back (opened, closed; taken, put back; gone, come back) before the gold path
  goes on, except for one in ten, after which the path may no longer lead anywhere;
- an action of the mistaken policy that is off the path is not among those that can be taken, nor is a mistake of the
  restless one.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from dreamsim.errors import ConfigurationError, PolicyError
from dreamsim.protocols import Actor, Policy
from dreamsim.records.completion import Decision
from dreamsim.records.state import State, is_held
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import seed_of
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.mistakes import mistake

OPPOSITE: Final = {"north": "south", "south": "north", "east": "west", "west": "east"}
LOOK: Final = "look around"
RARE_VERBS: Final = frozenset({"examine", "inventory", "look"})
RARE_WEIGHT: Final = 0.35
"""Of an action that only looks, when drawn at random: there are many of them, and they change nothing."""
DEEPEST: Final = 3
"""Detours inside detours."""
WILD_SHARE: Final = 0.1
"""Of the detours: any action, not taken back."""

LATELY: Final = 8
"""Steps that count as a while ago."""

GoldPaths = Callable[[Task], Awaitable[tuple[str, ...]]]
Vocabulary = Callable[[], Awaitable[tuple[str, ...]]]


class GoldPolicy:
    """Plays the package's own solution."""

    def __init__(self, gold_path: GoldPaths, *, keep_look: float = 0.3) -> None:
        """`keep_look`: share of the path's `look around` that is kept; the others would only teach to look."""
        self._gold_path = gold_path
        self._keep_look = keep_look

    @property
    def name(self) -> str:
        """Name and version."""
        return "gold-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who follows the path and fails with PolicyError when it ends too early."""
        return _Guide(task, self._gold_path, _dice(seed), self._keep_look)


class RandomPolicy:
    """Takes any action that can be taken: first a verb, then one of its actions."""

    @property
    def name(self) -> str:
        """Name and version."""
        return "random-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who acts at random."""
        return _Wanderer(_dice(seed))


class MixedPolicy:
    """Follows the gold path with detours."""

    def __init__(self, gold_path: GoldPaths, *, detours: float = 0.35) -> None:
        """`detours`: the chance of leaving the path at a step."""
        self._gold_path = gold_path
        self._detours = detours

    @property
    def name(self) -> str:
        """Name and version."""
        return "mixed-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who takes detours."""
        dice = _dice(seed)
        return _Stroller(_Guide(task, self._gold_path, dice), dice, self._detours)


class MistakenPolicy:
    """Follows the gold path and tries what cannot work on the way, so that failures are seen in deep states too."""

    def __init__(self, gold_path: GoldPaths, vocabulary: Vocabulary, *, mistakes: float = 0.5) -> None:
        """`mistakes`: the chance of a mistake at a step; `vocabulary`: names that exist elsewhere."""
        self._gold_path = gold_path
        self._vocabulary = vocabulary
        self._mistakes = mistakes

    @property
    def name(self) -> str:
        """Name and version."""
        return "mistaken-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who makes mistakes."""
        dice = _dice(seed)
        return _Blunderer(_Guide(task, self._gold_path, dice), dice, self._vocabulary, self._mistakes)


class RestlessPolicy:
    """Random, but does again what it did a while ago and tries what cannot work: rooms and containers are seen many
    times, and many actions are taken from one state."""

    def __init__(self, vocabulary: Vocabulary, *, again: float = 0.3, mistakes: float = 0.25) -> None:
        """`again`: the chance of an action of the last few steps; `mistakes`: of one that cannot work."""
        self._vocabulary = vocabulary
        self._again = again
        self._mistakes = mistakes

    @property
    def name(self) -> str:
        """Name and version."""
        return "restless-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who cannot sit still."""
        return _Fidget(_dice(seed), self._vocabulary, self._again, self._mistakes)


POLICIES: Final = ("gold", "random", "mixed", "mistaken", "restless")
"""Names of the policies that experience is collected with."""


def offline_policy(name: str, environment: TextWorldExpressEnvironment) -> Policy:
    """The policy called `name`.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if name == "gold":
        return GoldPolicy(environment.gold_path)
    if name == "random":
        return RandomPolicy()
    if name == "mixed":
        return MixedPolicy(environment.gold_path)
    if name == "mistaken":
        return MistakenPolicy(environment.gold_path, environment.pool.vocabulary)
    if name == "restless":
        return RestlessPolicy(environment.pool.vocabulary)
    raise ConfigurationError(f"there is no policy {name!r} to collect with; there are {', '.join(POLICIES)}")


class _Guide:
    """Knows the gold path, and where on it we are."""

    __slots__ = ("_dice", "_gold_path", "_keep_look", "_path", "_task")

    def __init__(self, task: Task, gold_path: GoldPaths, dice: random.Random, keep_look: float = 0.3) -> None:
        self._task = task
        self._gold_path = gold_path
        self._dice = dice
        self._keep_look = keep_look
        self._path: list[str] | None = None

    async def next_action(self) -> str | None:
        """The next action of the path, or None at its end."""
        if self._path is None:
            path = await self._gold_path(self._task)
            # Where Simon says it, looking around is an action like any other.
            said = self._task.environment.endswith("/simonsays")
            kept = [a for a in path if a != LOOK or said or self._dice.random() < self._keep_look]
            self._path = kept[::-1]
        return self._path.pop() if self._path else None

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """The next action of the path."""
        action = await self.next_action()
        if action is None:
            raise PolicyError("the gold path is played out and the task is not solved")
        return Decision(action=action)


class _Wanderer:
    __slots__ = ("_dice",)

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """Any action that can be taken."""
        return Decision(action=any_action(self._dice, admissible))


class _Stroller:
    __slots__ = ("_chance", "_dice", "_guide", "_way_back")

    def __init__(self, guide: _Guide, dice: random.Random, chance: float) -> None:
        self._guide = guide
        self._dice = dice
        self._chance = chance
        self._way_back: list[str] = []

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """A detour, the way back from one, or the next action of the path."""
        if len(self._way_back) < DEEPEST and self._dice.random() < self._chance:
            if self._dice.random() < WILD_SHARE:
                return Decision(action=any_action(self._dice, admissible))
            detours = _detours(state, admissible)
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
    __slots__ = ("_chance", "_dice", "_guide", "_last", "_names", "_seen", "_vocabulary")

    def __init__(self, guide: _Guide, dice: random.Random, vocabulary: Vocabulary, chance: float) -> None:
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
            action = mistake(self._dice, state, admissible, self._names, last=self._last, seen=self._seen)
        else:
            action = await self._guide.next_action() or any_action(self._dice, admissible)
        self._last = action
        return Decision(action=action)


class _Fidget:
    __slots__ = ("_again", "_dice", "_last", "_mistakes", "_names", "_seen", "_vocabulary")

    def __init__(self, dice: random.Random, vocabulary: Vocabulary, again: float, mistakes: float) -> None:
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
        if drawn < self._mistakes:
            last = self._last[-1] if self._last else ""
            action = mistake(self._dice, state, admissible, self._names, last=last, seen=self._seen)
        elif drawn < self._mistakes + self._again and lately:
            action = self._dice.choice(lately)
        else:
            action = any_action(self._dice, admissible)
        self._last.append(action)
        return Decision(action=action)


def any_action(dice: random.Random, admissible: Sequence[str]) -> str:
    """One of the actions that can be taken: verbs equally often, however many things there are to do them to."""
    verbs: dict[str, list[str]] = {}
    for action in admissible:
        verbs.setdefault(action.split()[0], []).append(action)
    if not verbs:
        return LOOK
    weights = [RARE_WEIGHT if verb in RARE_VERBS else 1.0 for verb in verbs]
    return dice.choice(verbs[dice.choices(list(verbs), weights)[0]])


def _detours(state: State, admissible: Sequence[str]) -> dict[str, str | None]:
    """Actions that can be taken and taken back, each with the action that does so (None: it changes nothing)."""
    found: dict[str, str | None] = {}
    elements = state.elements
    for action in admissible:
        verb, _, rest = action.partition(" ")
        if verb in ("look", "inventory", "examine"):
            found[action] = None
        elif verb == "move" and rest in OPPOSITE:
            found[action] = f"move {OPPOSITE[rest]}"
        elif verb == "open":
            found[action] = f"close {rest}"
        elif verb == "close":
            found[action] = f"open {rest}"
        elif verb == "take" and elements.get(rest, "").startswith("in "):
            if place := _place(elements, elements[rest]):
                found[action] = f"put {rest} in {place}"
        elif verb == "put" and (thing := rest.partition(" in ")[0]) in elements and is_held(elements[thing]):
            found[action] = f"take {thing}"
    return found


def _place(elements: dict[str, str], value: str) -> str | None:
    """The piece of furniture that `in <furniture> <preparation>` names."""
    words = value.removeprefix("in ").split()
    names = (" ".join(words[:length]) for length in range(len(words), 0, -1))
    return next((name for name in names if name in elements), None)


def _dice(seed: int) -> random.Random:
    return random.Random(seed_of(seed, "offline policy"))
