"""Tasks whose things bear other names, so that a policy reads names instead of remembering them.

In: tasks, names that may change, an environment. Out: tasks that say things otherwise, an environment that plays them.
Always:
- names are swapped in pairs, so what was said otherwise is said back by the same rule, and no two things become one;
- the environment inside, real or dreamed, meets the names it knows: what a thing is good for stays as it is;
- all episodes of a task have the same names for the same things, in every process;
- a task says in its parameters that it is renamed, and so wherever it is stored.

A policy that is trained on a few hundred names learns what to do with these, and may unlearn to copy others: in real
games of unknown things, actions that take or put what is not there become two to four times as many (docs/log.md; that
renaming helps is not shown yet). This is domain randomization (arXiv 1703.06907) of what a text world can vary most
cheaply.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import lru_cache
from types import TracebackType

from dreamsim.curriculum.lexicon import invented_name
from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Environment, EpisodeSession
from dreamsim.records.episode import Episode, Source, Transition
from dreamsim.records.state import State, is_held
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import generator

RENAMED = "renamed"
"""In a task's parameters: the number of its names, as text."""
NAMINGS = 64
"""Different names that a thing is given, over all tasks: inventing those of a world takes milliseconds."""
COMMON = 0.25
"""What is carried in more than this share of an environment's episodes belongs to the game and keeps its name: the
knife of all recipes, the coin that is to be found."""
LINES_KEPT = 512
"""Lines that are remembered with their other names, for each naming of an environment."""
NAMINGS_KEPT = 512
"""Namings remembered, over all environments."""


class OtherNames:
    """Names swapped with invented ones, in pairs: applied twice, a text is as it was."""

    __slots__ = ("_lines", "_others", "_pattern", "number")

    def __init__(self, names: Collection[str], number: int) -> None:
        """Invent a name for each of `names`; another `number`, other names."""
        drawn = generator(number, "names")
        others: dict[str, str] = {}
        for name in sorted(names):
            invented = name
            while invented in others or invented in names:
                invented = invented_name(drawn, [other for other in others if other not in names][-8:])
            others[name], others[invented] = invented, name
        longest_first = sorted(others, key=lambda name: (-len(name), name))
        self.number: int = number
        """Names all of these names."""
        self._others = others
        self._pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")
        self._lines: dict[str, str] = {}

    def text(self, said: str) -> str:
        """`said` with its names swapped."""
        if not self._others:
            return said
        known = self._lines.get(said)
        if known is None:
            known = self._pattern.sub(lambda found: self._others[found[0]], said)
            if len(self._lines) < LINES_KEPT:
                self._lines[said] = known
        return known

    def state(self, state: State) -> State:
        """`state` with its names swapped."""
        return State.of(map(self.text, state.lines))

    def task(self, task: Task) -> Task:
        """`task` as it is said with these names; of a renamed task, the one it was."""
        parameters = {name: value for name, value in task.parameters.items() if name != RENAMED}
        if RENAMED not in task.parameters:
            parameters[RENAMED] = str(self.number)
        return replace(
            task,
            instruction=self.text(task.instruction),
            first_state=self.state(task.first_state),
            parameters=parameters,
        )


@lru_cache(maxsize=NAMINGS_KEPT)
def other_names(names: frozenset[str], number: int) -> OtherNames:
    """Those with this number."""
    return OtherNames(names, number)


def carried_in(episode: Episode) -> set[str]:
    """Names of everything that is carried at some time in `episode`."""
    return {name for step in episode.transitions for name, value in step.state.elements.items() if is_held(value)}


def world_names(episodes: Iterable[Episode], *, common: float = COMMON) -> dict[str, frozenset[str]]:
    """For each environment what is carried at some time in its `episodes`, but not in more than `common` of them."""
    carried: dict[str, Counter[str]] = defaultdict(Counter)
    of: Counter[str] = Counter()
    for episode in episodes:
        of[episode.task.environment] += 1
        carried[episode.task.environment].update(carried_in(episode))
    return {
        environment: frozenset(name for name, times in found.items() if times <= common * of[environment])
        for environment, found in carried.items()
    }


def renamed_tasks(
    tasks: Sequence[Task], names: Mapping[str, frozenset[str]], *, share: float, seed: int
) -> tuple[Task, ...]:
    """`tasks`, of which a `share` (0 to 1) says its things otherwise; `names` are those of each environment.

    A task stays as it is where its environment has no names to change, or where they could not be said back.
    """
    return tuple(_perhaps(task, names.get(task.environment, frozenset()), share, seed) for task in tasks)


def _perhaps(task: Task, names: frozenset[str], share: float, seed: int) -> Task:
    if not names or RENAMED in task.parameters:
        return task
    drawn = generator(seed, "renamed", task.key)
    if drawn.random() >= share:
        return task
    others = other_names(names, int(drawn.integers(NAMINGS)))
    renamed = others.task(task)
    return renamed if others.task(renamed) == task else task


class RenamingEnvironment:
    """An environment that also plays renamed tasks; others it passes on as they are.

    Example:
        names = world_names(episodes)
        environment = RenamingEnvironment(DreamEnvironment(model), names)
        tasks = renamed_tasks(tasks, names, share=0.5, seed=0)
    """

    def __init__(self, environment: Environment, names: Mapping[str, frozenset[str]]) -> None:
        """Over `environment`; `names` must be those that the tasks were renamed with."""
        self._environment = environment
        self._names = dict(names)

    @property
    def name(self) -> str:
        """That of the environment inside."""
        return self._environment.name

    @property
    def source(self) -> Source:
        """That of the environment inside."""
        return self._environment.source

    def session(self, task: Task, *, episode_id: str, seed: int) -> AbstractAsyncContextManager[EpisodeSession]:
        """Begin an episode of `task`.

        Raises:
            ConfigurationError: the task was renamed with other names than this environment has.
        """
        told = task.parameters.get(RENAMED)
        if told is None:
            return self._environment.session(task, episode_id=episode_id, seed=seed)
        names = self._names.get(task.environment)
        if names is None or not str(told).isdigit():
            raise ConfigurationError(
                f"task {task.key} was renamed, and there are no names of '{task.environment}' here to say it back: "
                "play it with the experiences (store.experiences) that it was renamed with"
            )
        others = other_names(names, int(str(told)))
        inside = self._environment.session(others.task(task), episode_id=episode_id, seed=seed)
        return _Opening(inside, others)


class _Opening(AbstractAsyncContextManager["RenamedSession", bool | None]):
    """What `async with` enters."""

    __slots__ = ("_inside", "_others")

    def __init__(self, inside: AbstractAsyncContextManager[EpisodeSession], others: OtherNames) -> None:
        self._inside, self._others = inside, others

    async def __aenter__(self) -> RenamedSession:
        return RenamedSession(await self._inside.__aenter__(), self._others)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inside.__aexit__(kind, error, trace)


class RenamedSession:
    """One episode whose things bear other names."""

    __slots__ = ("_inside", "_others")

    def __init__(self, inside: EpisodeSession, others: OtherNames) -> None:
        self._inside, self._others = inside, others

    @property
    def state(self) -> State:
        """The present state."""
        return self._others.state(self._inside.state)

    @property
    def admissible(self) -> tuple[str, ...]:
        """Actions possible now, where the environment tells."""
        return tuple(map(self._others.text, self._inside.admissible))

    async def step(self, action: str) -> Transition:
        """Take `action`.

        Raises:
            EpisodeFinishedError: the episode is over.
            EpisodeError: the step could not be computed; the episode ends.
        """
        others = self._others
        made = await self._inside.step(others.text(action))
        return replace(
            made,
            action=action,
            state=others.state(made.state),
            reasoning=others.text(made.reasoning),
            admissible=tuple(map(others.text, made.admissible)),
        )
