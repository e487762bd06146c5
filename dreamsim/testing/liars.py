"""Liars: environments that do one thing wrong, so that whoever claims to catch it can show it.

In: a truthful environment or a truthful transition. Out: the same with one kind of lie in it.
Always: a lie names the rule that it breaks (`Lie.rule`); a liar lies whenever its lie can be told, and otherwise shows
the truth; the world behind it stays the true one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from dreamsim.errors import EpisodeFinishedError
from dreamsim.experience.books import names_word_of
from dreamsim.protocols import Environment, EpisodeSession
from dreamsim.records.episode import Source, Transition
from dreamsim.records.state import RESULT, SCENE, State, is_held
from dreamsim.records.task import Task
from dreamsim.testing.examination import IMPOSSIBLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A true step, and what a liar has shown before it."""

    before: Mapping[str, str]
    """Elements of the state shown before the step."""
    last_action: str | None
    """The action before."""
    transition: Transition
    """The truth."""

    @property
    def verb(self) -> str:
        """First word of the action."""
        return self.transition.action.partition(" ")[0]

    @property
    def after(self) -> dict[str, str]:
        """Elements of the state after the step, as a copy to change."""
        return self.transition.state.elements

    @property
    def failed(self) -> bool:
        """Whether the state says that the action failed."""
        return self.after.get(RESULT) == "failed"

    @property
    def stays(self) -> bool:
        """Whether the step leads to no other scene."""
        return self.after.get(SCENE) == self.before.get(SCENE)

    def showing(self, elements: Mapping[str, str]) -> Transition:
        """The transition, but to these elements."""
        return dataclasses.replace(self.transition, state=State.from_elements(elements))


Tell = Callable[[Moment], "Transition | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """One kind of lie."""

    name: str
    """What is lied about."""
    rule: str
    """The rule that it breaks."""
    tell: Tell
    """The lie in a step's place; None where this step gives no occasion."""


def _takes_and_leaves(moment: Moment) -> Transition | None:
    name = moment.transition.action.removeprefix("take ")
    if moment.verb != "take" or not is_held(moment.after.get(name, "")) or is_held(moment.before.get(name, "held")):
        return None
    return moment.showing({**moment.after, f"{name} #2": moment.before[name]})


def _forgets_what_is_open(moment: Moment) -> Transition | None:
    if moment.verb not in ("take", "look") or moment.failed:
        return None
    for name, value in moment.before.items():
        named = names_word_of(moment.transition.action, name)
        if value == "open" and moment.after.get(name) == "open" and not named:
            rest = {key: here for key, here in moment.after.items() if not here.startswith(f"in {name}")}
            return moment.showing({**rest, name: "closed"})
    return None


def _drops_what_is_held(moment: Moment) -> Transition | None:
    if moment.verb not in ("open", "move", "go") or moment.failed:
        return None
    for name, value in moment.before.items():
        named = names_word_of(moment.transition.action, name)
        if is_held(value) and is_held(moment.after.get(name, "")) and not named:
            return moment.showing({key: here for key, here in moment.after.items() if key != name})
    return None


def _conjures(moment: Moment) -> Transition | None:
    if moment.verb not in ("take", "close") or moment.failed or not moment.stays or moment.before.get(SCENE) is None:
        return None
    return None if "ghost" in moment.before else moment.showing({**moment.after, "ghost": "here"})


def _shows_closed_contents(moment: Moment) -> Transition | None:
    shut = next((name for name, value in moment.after.items() if value == "closed"), None)
    return None if shut is None or moment.failed else moment.showing({**moment.after, "pebble": f"in {shut}"})


def _pays_for_nothing(moment: Moment) -> Transition | None:
    true = moment.transition
    return None if true.done or moment.failed else dataclasses.replace(true, reward=1.0)


def _pays_too_much(moment: Moment) -> Transition | None:
    return dataclasses.replace(moment.transition, reward=2.0)


def _pays_no_success(moment: Moment) -> Transition | None:
    true = moment.transition
    return dataclasses.replace(true, reward=0.0) if true.outcome == "success" else None


def _fails_and_changes(moment: Moment) -> Transition | None:
    return moment.showing(_without_one(moment.after)) if moment.failed else None


def _fails_and_earns(moment: Moment) -> Transition | None:
    return dataclasses.replace(moment.transition, reward=1.0) if moment.failed else None


def _fails_and_ends(moment: Moment) -> Transition | None:
    return dataclasses.replace(moment.transition, outcome="failure") if moment.failed else None


def _sees_other_things(moment: Moment) -> Transition | None:
    again = moment.verb == "look" and moment.last_action == moment.transition.action
    return moment.showing(_without_one(moment.after)) if again and not moment.failed else None


def _does_the_impossible(moment: Moment) -> Transition | None:
    return moment.showing(_without_one(moment.after)) if moment.transition.action in IMPOSSIBLE else None


def _pays_the_impossible(moment: Moment) -> Transition | None:
    return dataclasses.replace(moment.transition, reward=1.0) if moment.transition.action in IMPOSSIBLE else None


def _ends_at_the_impossible(moment: Moment) -> Transition | None:
    impossible = moment.transition.action in IMPOSSIBLE
    return dataclasses.replace(moment.transition, outcome="failure") if impossible else None


def _does_not_come_back(moment: Moment) -> Transition | None:
    last = moment.last_action
    if last is None or moment.verb != last.partition(" ")[0] or moment.failed or moment.stays:
        return None
    return moment.showing(_without_one(moment.after))


def _without_one(elements: Mapping[str, str]) -> dict[str, str]:
    """The elements without the last thing that says nothing of ways, scene or result."""
    things = [key for key in elements if key not in (SCENE, RESULT, "exits")]
    return {key: value for key, value in elements.items() if not things or key != things[-1]}


LIES: Final[tuple[Lie, ...]] = (
    Lie(name="takes it and leaves it there", rule="one_place", tell=_takes_and_leaves),
    Lie(name="forgets what is open", rule="opened_stays", tell=_forgets_what_is_open),
    Lie(name="drops what is held", rule="held_stays", tell=_drops_what_is_held),
    Lie(name="conjures a thing", rule="from_nowhere", tell=_conjures),
    Lie(name="shows what is in a closed container", rule="closed_hides", tell=_shows_closed_contents),
    Lie(name="pays for nothing", rule="reward_without_success", tell=_pays_for_nothing),
    Lie(name="pays too much", rule="reward_range", tell=_pays_too_much),
    Lie(name="does not pay success", rule="success_unpaid", tell=_pays_no_success),
    Lie(name="fails and changes something", rule="failed_changes", tell=_fails_and_changes),
    Lie(name="fails and pays", rule="failed_earns", tell=_fails_and_earns),
    Lie(name="fails and ends the task", rule="failed_ends", tell=_fails_and_ends),
    Lie(name="shows other things at a second look", rule="look_twice", tell=_sees_other_things),
)
"""Lies that a ledger catches, whatever the environment."""

LIES_TO_THE_SUITE: Final[tuple[Lie, ...]] = (
    Lie(name="does the impossible", rule="impossible_changes", tell=_does_the_impossible),
    Lie(name="pays for the impossible", rule="impossible_earns", tell=_pays_the_impossible),
    Lie(name="ends at the impossible", rule="impossible_ends", tell=_ends_at_the_impossible),
    Lie(name="does not come back to where it was", rule="undone", tell=_does_not_come_back),
)
"""Lies that show only when somebody tries for them."""


class LyingEnvironment:
    """Tells one kind of lie about a truthful environment, whenever there is an occasion."""

    def __init__(self, environment: Environment, lie: Lie) -> None:
        self._environment = environment
        self._lie = lie

    @property
    def name(self) -> str:
        """Name and version."""
        return f"{self._environment.name} that {self._lie.name}"

    @property
    def source(self) -> Source:
        """That of the environment."""
        return self._environment.source

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        """Begin an episode."""
        async with self._environment.session(task, episode_id=episode_id, seed=seed) as session:
            yield _Liar(session, self._lie)


class _Liar:
    __slots__ = ("_last_action", "_lie", "_over", "_session", "_state")

    def __init__(self, session: EpisodeSession, lie: Lie) -> None:
        self._session = session
        self._lie = lie
        self._state = session.state
        self._last_action: str | None = None
        self._over = False

    @property
    def state(self) -> State:
        """What was shown last."""
        return self._state

    @property
    def admissible(self) -> tuple[str, ...]:
        """What can truly be done."""
        return self._session.admissible

    async def step(self, action: str) -> Transition:
        """Take `action`, and lie about it."""
        if self._over:
            raise EpisodeFinishedError("the episode is over; begin another one")
        true = await self._session.step(action)
        moment = Moment(before=self._state.elements, last_action=self._last_action, transition=true)
        told = self._lie.tell(moment) or true
        self._state, self._last_action, self._over = told.state, action, told.done
        return told


class RestlessEnvironment:
    """Goes on after the end, begins elsewhere, or changes its mind: lies about whole episodes."""

    def __init__(
        self, environment: Environment, *, begins_elsewhere: bool = False, changes_its_mind: bool = False
    ) -> None:
        """With neither, it goes on after the end."""
        self._environment = environment
        self._begins_elsewhere = begins_elsewhere
        self._changes_its_mind = changes_its_mind
        self._sessions = 0

    @property
    def name(self) -> str:
        """Name and version."""
        return f"{self._environment.name}, restless"

    @property
    def source(self) -> Source:
        """That of the environment."""
        return self._environment.source

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        """Begin an episode."""
        self._sessions += 1
        lines = [f"weather: {self._sessions}"] if self._changes_its_mind else []
        async with self._environment.session(task, episode_id=episode_id, seed=seed) as session:
            yield _Restless(session, lines, begins_elsewhere=self._begins_elsewhere)


class _Restless:
    __slots__ = ("_last", "_lines", "_session", "_state")

    def __init__(self, session: EpisodeSession, lines: list[str], *, begins_elsewhere: bool) -> None:
        self._session = session
        self._lines = lines
        self._state = State.of([*session.state.lines, "dream: another"]) if begins_elsewhere else session.state
        self._last: Transition | None = None

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def admissible(self) -> tuple[str, ...]:
        """What can be done."""
        return self._session.admissible

    async def step(self, action: str) -> Transition:
        """Take `action`; after the end, show the end again."""
        if self._last is not None and self._last.done:
            return self._last
        true = await self._session.step(action)
        self._last = dataclasses.replace(true, state=State.of([*true.state.lines, *self._lines]))
        self._state = self._last.state
        return self._last
