"""The consistency suite: is an environment, real or dreamed, one and the same world from step to step?

In: any `Environment` (an experience model's too), tasks, and the ledger that knows the environment's rules.
Out: a `ConsistencyReport` from `check_consistency`; `dreamsim.testing.consistency_machine` makes a
Hypothesis state machine of the same judges.
Always: what is judged is judged by `dreamsim.testing.examination` and the ledger alone; an episode that fails with a
typed error (an experience model's unreadable output) is counted and is no contradiction.

Example:
    report = await check_consistency(environment, tasks, ledger=ElementLedger())
    assert report.consistent, report
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import anyio

from dreamsim.errors import EpisodeError, EpisodeFinishedError
from dreamsim.experience.books import differences
from dreamsim.experience.ledger import ElementLedger
from dreamsim.protocols import Environment, EpisodeSession, StateLedger
from dreamsim.records.episode import Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction
from dreamsim.runtime.seeds import seed_of
from dreamsim.testing.examination import IMPOSSIBLE, Examination, Inverse, element_actions, inverse_of

MOST_FINDINGS = 200
"""Findings kept in full; all are counted."""

Actions = Callable[[State], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One contradiction, and where it was seen."""

    task: str
    """Key of the task."""
    step: int
    """Number of the step, from 0; -1 for the beginning."""
    action: str
    """The action."""
    contradiction: Contradiction
    """What contradicts."""

    def __str__(self) -> str:
        found = self.contradiction
        return f"task {self.task}, step {self.step}, {self.action!r}: {found.rule}: {found.message}"


@dataclass(slots=True)
class ConsistencyReport:
    """What the suite found."""

    environment: str
    """Name of what was examined."""
    episodes: int = 0
    """Episodes examined."""
    steps: int = 0
    """Steps judged; steps taken again to compare are not counted."""
    errors: int = 0
    """Episodes that ended with a typed error."""
    rules: Counter[str] = field(default_factory=Counter)
    """Rule -> how often it was broken."""
    findings: list[Finding] = field(default_factory=list)
    """The first of them in full."""

    @property
    def consistent(self) -> bool:
        """Whether steps were judged and nothing contradicts."""
        return self.steps > 0 and not self.rules

    @property
    def per_100_steps(self) -> float:
        """Contradictions per 100 steps."""
        return 100 * self.rules.total() / self.steps if self.steps else 0.0

    def add(self, finding: Finding) -> None:
        """Count `finding`, and keep it while there is room."""
        self.rules[finding.contradiction.rule] += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)

    def __str__(self) -> str:
        head = (
            f"{self.environment}: {self.rules.total()} contradictions in {self.steps} steps of {self.episodes} episodes"
        )
        return "\n".join([head, *(f"  {rule}: {count}" for rule, count in self.rules.most_common())])


async def check_consistency(
    environment: Environment,
    tasks: Sequence[Task],
    *,
    ledger: StateLedger | Callable[[str], StateLedger] | None = None,
    steps: int = 30,
    seed: int = 0,
    actions: Actions | None = None,
    impossible: Sequence[str] = IMPOSSIBLE,
    inverse: Inverse = inverse_of,
    repeatable: bool = True,
    at_once: int = 16,
) -> ConsistencyReport:
    """Examine one episode of each task.

    Args:
        environment: what to examine.
        tasks: its tasks.
        ledger: knows the environment's rules, or gives the ledger of an environment's name; by default the generic one.
        steps: most steps of an episode.
        seed: of what is tried, and of the episodes.
        actions: what can be tried in a state, where the environment does not tell it; by default what lines suggest.
        impossible: actions that cannot work in any state; none if left empty.
        inverse: which action takes another one back.
        repeatable: whether to take all steps again and compare; off where the environment does not promise it.
        at_once: most episodes at the same time.
    """
    report = ConsistencyReport(environment=environment.name)
    suggest = element_actions if actions is None else actions
    turns = anyio.Semaphore(at_once)

    async def examine(number: int, task: Task) -> None:
        examination = Examination(
            task,
            ledger_of(ledger, task),
            seed=seed_of(seed, "examination", number),
            impossible=impossible,
            inverse=inverse,
        )
        one = _OneTask(environment, task, seed_of(seed, "episode", number), suggest, report)
        async with turns:
            try:
                history = await one.examine(examination, steps)
                if repeatable:
                    await one.repeat(history)
            except EpisodeError:
                report.errors += 1

    async with anyio.create_task_group() as group:
        for number, task in enumerate(tasks):
            group.start_soon(examine, number, task)
    return report


def ledger_of(ledger: StateLedger | Callable[[str], StateLedger] | None, task: Task) -> StateLedger:
    """The ledger of a task: the one given, the one named, or the generic one."""
    if ledger is None:
        return ElementLedger()
    return ledger(task.environment) if callable(ledger) else ledger


class _OneTask:
    """The episodes of one task, with one seed."""

    def __init__(
        self, environment: Environment, task: Task, seed: int, suggest: Actions, report: ConsistencyReport
    ) -> None:
        self._environment = environment
        self._task = task
        self._seed = seed
        self._suggest = suggest
        self._report = report

    def _session(self, name: str) -> AbstractAsyncContextManager[EpisodeSession]:
        return self._environment.session(self._task, episode_id=f"consistency-{self._task.key}-{name}", seed=self._seed)

    def _found(self, step: int, action: str, contradictions: Iterable[Contradiction]) -> None:
        for contradiction in contradictions:
            self._report.add(Finding(task=self._task.key, step=step, action=action, contradiction=contradiction))

    async def examine(self, examination: Examination, steps: int) -> list[Transition]:
        """One episode of what `examination` chooses; every step is judged."""
        history: list[Transition] = []
        self._report.episodes += 1
        async with self._session("first") as session:
            self._found(-1, "", judge_beginning(self._task, session.state))
            while len(history) < steps and not (history and history[-1].done):
                action = examination.choose(session.admissible or tuple(self._suggest(session.state)))
                transition = await session.step(action)
                self._report.steps += 1
                self._found(len(history), action, examination.see(transition))
                history.append(transition)
            if history and history[-1].done:
                self._found(len(history), history[-1].action, await one_step_too_many(session, history[-1].action))
        return history

    async def repeat(self, history: Sequence[Transition]) -> None:
        """The same actions again; every transition must be the same."""
        async with self._session("again") as session:
            for number, before in enumerate(history):
                again = await session.step(before.action)
                differing = judge_again(before, again)
                self._found(number, before.action, differing)
                if differing or again.done:
                    return  # what follows is another episode


def judge_beginning(task: Task, state: State) -> tuple[Contradiction, ...]:
    """Whether an episode that begins in `state` is one of `task`."""
    if state.same_as(task.first_state):
        return ()
    told = differences(task.first_state.elements, state.elements)
    return (Contradiction(rule="first_state", message=f"the episode does not begin as the task says: {told}"),)


def judge_again(before: Transition, again: Transition) -> tuple[Contradiction, ...]:
    """Whether the same step, taken again, led to the same."""
    one, other = before.state.elements, again.state.elements
    same = (one, before.reward, before.outcome) == (other, again.reward, again.outcome)
    if same:
        return ()
    told = differences(one, other) or (
        f"{before.outcome} with reward {before.reward}, and then {again.outcome} with reward {again.reward}"
    )
    return (Contradiction(rule="same_again", message=f"{before.action!r} taken again: {told}"),)


async def one_step_too_many(session: EpisodeSession, action: str) -> tuple[Contradiction, ...]:
    """Whether a finished episode refuses another step."""
    try:
        await session.step(action)
    except EpisodeFinishedError:
        return ()
    return (Contradiction(rule="after_end", message=f"the episode was over and took {action!r}"),)
