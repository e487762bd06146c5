"""The consistency suite as a Hypothesis state machine: Hypothesis looks for the shortest episode that contradicts.

In: what makes an environment, its tasks, and the ledger that knows its rules. Out: a state machine class; run it with
`hypothesis.stateful.run_state_machine_as_test`, or give its `TestCase` to pytest.
Always: each run has an environment and an event loop of its own, and closes both; what is judged is what
`check_consistency` judges. Needs `hypothesis` (the `dev` extra).

Example:
    Machine = consistency_machine(MyEnvironment, tasks)
    TestMyEnvironment = Machine.TestCase
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

from anyio.from_thread import start_blocking_portal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dreamsim.experience.ledger_rules import LOOKS
from dreamsim.protocols import Environment, EpisodeSession, StateLedger
from dreamsim.records.episode import Transition
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction
from dreamsim.testing.consistency import (
    Actions,
    judge_again,
    judge_beginning,
    ledger_of,
    one_step_too_many,
)
from dreamsim.testing.examination import IMPOSSIBLE, Examination, Inverse, element_actions, inverse_of

NUMBERS = st.integers(0, 2**16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to examine; see `consistency_machine`."""

    make_environment: Callable[[], Environment]
    """Makes the environment of one run."""
    tasks: Sequence[Task]
    """Its tasks."""
    ledger: StateLedger | Callable[[str], StateLedger] | None
    """Knows the rules."""
    actions: Actions
    """What can be tried where the environment does not tell."""
    impossible: Sequence[str]
    """What cannot work."""
    inverse: Inverse
    """What takes an action back."""
    repeatable: bool
    """Whether to take all steps again."""


class ConsistencyMachine(RuleBasedStateMachine):
    """One episode, step by step; `consistency_machine` makes the class that knows what to examine."""

    plan: ClassVar[Plan]
    """What to examine."""

    def __init__(self) -> None:
        super().__init__()
        self._exits = ExitStack()
        self._portal = self._exits.enter_context(start_blocking_portal())
        self._environment = self.plan.make_environment()
        self._history: list[Transition] = []

    @initialize(number=NUMBERS, seed=NUMBERS)
    def begin(self, number: int, seed: int) -> None:
        """Begin an episode of a task."""
        self._task, self._seed = self.plan.tasks[number % len(self.plan.tasks)], seed
        self._examination = Examination(
            self._task,
            ledger_of(self.plan.ledger, self._task),
            impossible=self.plan.impossible,
            inverse=self.plan.inverse,
        )
        self._session = self._open("first")
        _expect(judge_beginning(self._task, self._session.state))

    @precondition(lambda self: self._going)
    @rule(number=NUMBERS)
    def act(self, number: int) -> None:
        """Do something."""
        self._step(self._some_action(number))

    @precondition(lambda self: self._going)
    @rule(number=NUMBERS)
    def act_and_take_it_back(self, number: int) -> None:
        """Do something and its opposite."""
        self._step(self._examination.and_back(self._some_action(number)))
        if (back := self._examination.back) is not None:
            self._step(back)

    @precondition(lambda self: self._going)
    @rule(number=NUMBERS)
    def look_twice(self, number: int) -> None:
        """Look, and look again."""
        looks = [action for action in self._actions() if action.split()[0] in LOOKS]
        for _ in range(2 if looks else 0):
            if self._going:
                self._step(looks[number % len(looks)])

    @precondition(lambda self: self._going and bool(self.plan.impossible))
    @rule(number=NUMBERS)
    def try_the_impossible(self, number: int) -> None:
        """Do what cannot be done."""
        self._step(self._examination.impossible(number))

    @precondition(lambda self: bool(self._history) and not self._going)
    @rule()
    def go_on_after_the_end(self) -> None:
        """Take a step too many."""
        _expect(self._portal.call(one_step_too_many, self._session, self._history[-1].action))

    @precondition(lambda self: self.plan.repeatable and bool(self._history))
    @rule()
    def take_all_again(self) -> None:
        """Take the same steps in another session."""
        session = self._open("again")
        for before in self._history:
            _expect(judge_again(before, self._portal.call(session.step, before.action)))

    @property
    def _going(self) -> bool:
        return not (self._history and self._history[-1].done)

    def _open(self, name: str) -> EpisodeSession:
        episode_id = f"consistency-{self._task.key}-{name}"
        session = self._environment.session(self._task, episode_id=episode_id, seed=self._seed)
        return self._exits.enter_context(self._portal.wrap_async_context_manager(session))

    def _actions(self) -> Sequence[str]:
        return self._session.admissible or tuple(self.plan.actions(self._session.state))

    def _some_action(self, number: int) -> str:
        choices = self._actions() or self.plan.impossible
        return choices[number % len(choices)]

    def _step(self, action: str) -> None:
        transition = self._portal.call(self._session.step, action)
        self._history.append(transition)
        _expect(self._examination.see(transition))

    def teardown(self) -> None:
        """Close the sessions and the event loop."""
        self._exits.close()


def consistency_machine(
    make_environment: Callable[[], Environment],
    tasks: Sequence[Task],
    *,
    ledger: StateLedger | Callable[[str], StateLedger] | None = None,
    actions: Actions | None = None,
    impossible: Sequence[str] = IMPOSSIBLE,
    inverse: Inverse = inverse_of,
    repeatable: bool = True,
) -> type[RuleBasedStateMachine]:
    """A state machine whose rules are: act, act and take it back, look twice, try the impossible, take all again.

    Args:
        make_environment: makes the environment of one run; called in the test's own thread.
        tasks: its tasks.
        ledger: knows the environment's rules, or gives the ledger of an environment's name; by default the generic one.
        actions: what can be tried in a state, where the environment does not tell it.
        impossible: actions that cannot work in any state.
        inverse: which action takes another one back.
        repeatable: whether to take all steps again and compare.
    """
    plan = Plan(
        make_environment=make_environment,
        tasks=tasks,
        ledger=ledger,
        actions=element_actions if actions is None else actions,
        impossible=impossible,
        inverse=inverse,
        repeatable=repeatable,
    )
    return type("Machine", (ConsistencyMachine,), {"plan": plan})


def _expect(contradictions: Sequence[Contradiction]) -> None:
    told = "\n".join(f"{found.rule}: {found.message}" for found in contradictions)
    assert not contradictions, told
