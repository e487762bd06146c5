"""The ledger of TextWorldExpress, all eight games: facts, contradictions, and whether a step ends the task.

In: a task and, one after another, its transitions. Out: facts, contradictions and outcomes.
Always: no transition of the package (version 1.1.0) is a contradiction; `benchmarks/ledger_alarms.py` counts them on
random real episodes.
"""

from __future__ import annotations

from collections.abc import Mapping

from dreamsim.experience.books import Step, meanings
from dreamsim.experience.ledger import broken, facts_of
from dreamsim.experience.ledger_rules import RULES as RULES_OF_ALL
from dreamsim.experience.parse import AnswerRules
from dreamsim.records.episode import StepOutcome, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction
from dreamsim_adapters.environments.textworld_express.amend import amended
from dreamsim_adapters.environments.textworld_express.belongings import BELONGINGS, Belongings
from dreamsim_adapters.environments.textworld_express.books import TextWorldExpressBooks
from dreamsim_adapters.environments.textworld_express.goals import outcome
from dreamsim_adapters.environments.textworld_express.ledger_rules import RULES, broken_rules

VERSION = "textworld_express-2"


class TextWorldExpressLedger:
    """Keeps the books of TextWorldExpress."""

    def __init__(self, rewards: AnswerRules | None = None, *, belongings: Belongings = BELONGINGS) -> None:
        """`rewards` says what tasks pay: by default 1 for success and 0 for all else; `belongings`, for twc, where
        things belong: by default what the package's table says of all folds."""
        self._rewards = AnswerRules() if rewards is None else rewards
        self._belongings = belongings

    @property
    def name(self) -> str:
        """Name and version."""
        return VERSION

    @property
    def rules(self) -> Mapping[str, str]:
        """Name of each rule -> what it says."""
        return {**meanings(RULES_OF_ALL), **RULES}

    def open(self, task: Task) -> TextWorldExpressLedgerSession:
        """The books of one episode, with the task's first state entered."""
        return TextWorldExpressLedgerSession(TextWorldExpressBooks(task, self._rewards, self._belongings))


class TextWorldExpressLedgerSession:
    """The books of one episode. Made by `TextWorldExpressLedger.open`."""

    __slots__ = ("_books", "_step", "_transition")

    def __init__(self, books: TextWorldExpressBooks) -> None:
        self._books = books
        self._transition: Transition | None = None
        self._step: Step | None = None

    @property
    def facts(self) -> Mapping[str, str]:
        """What is seen and held; other rooms as they were left (`thing at room`); what was read, as `text of thing`."""
        return {**facts_of(self._books), **{f"text of {name}": text for name, text in self._books.texts.items()}}

    def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
        """Everything in `transition` that the books rule out, each rule at most once for each thing."""
        step = self._taken_apart(transition)
        found = broken(RULES_OF_ALL, self._books, step)
        own = (Contradiction(rule=rule, message=told) for rule, told in broken_rules(self._books, step))
        return (*found, *own)

    def outcome(self, transition: Transition) -> StepOutcome | None:
        """What `transition` leads to; None where the books do not decide it."""
        return outcome(self._books, self._taken_apart(transition))

    def amended(self, transition: Transition) -> State | None:
        """The state after the action of `transition`, where the books decide it."""
        elements = amended(self._books, self._taken_apart(transition))
        return None if elements is None else State.from_elements(elements)

    def _taken_apart(self, transition: Transition) -> Step:
        if self._step is None or self._transition is not transition:  # each step is asked of more than once
            self._transition, self._step = transition, Step.of(transition)
        return self._step

    def see(self, transition: Transition) -> None:
        """Enter `transition`."""
        self._transition = self._step = None
        self._books.enter(transition)
