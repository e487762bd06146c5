"""The ledger of ALFWorld: facts, contradictions, and whether a step ends the task.

In: a task and, one after another, its transitions. Out: facts, contradictions and outcomes. Always: no transition of
the engine (alfworld 0.4.2) is a contradiction, in either dialect.
"""

from __future__ import annotations

from collections.abc import Mapping

from dreamsim.experience.books import Step
from dreamsim.experience.parse import AnswerRules
from dreamsim.records.episode import StepOutcome, Transition
from dreamsim.records.state import RESULT
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction
from dreamsim_adapters.environments.alfworld.books import AlfworldBooks
from dreamsim_adapters.environments.alfworld.goals import outcome
from dreamsim_adapters.environments.alfworld.ledger_rules import RULES

VERSION = "alfworld-1"


class AlfworldLedger:
    """Keeps the books of ALFWorld."""

    def __init__(self, rewards: AnswerRules | None = None) -> None:
        """`rewards` says what tasks pay: by default 1 for success and 0 for all else."""
        self._rewards = AnswerRules() if rewards is None else rewards

    @property
    def name(self) -> str:
        """Name and version."""
        return VERSION

    @property
    def rules(self) -> Mapping[str, str]:
        """Name of each rule -> what it says."""
        return {rule.__name__: (rule.__doc__ or "").strip() for rule in RULES}

    def open(self, task: Task) -> AlfworldLedgerSession:
        """The books of one episode, with the task's first state entered."""
        return AlfworldLedgerSession(AlfworldBooks(task, self._rewards))


class AlfworldLedgerSession:
    """The books of one episode. Made by `AlfworldLedger.open`."""

    __slots__ = ("_books",)

    def __init__(self, books: AlfworldBooks) -> None:
        self._books = books

    @property
    def facts(self) -> Mapping[str, str]:
        """The present elements; places and things elsewhere as they were last shown."""
        books = self._books
        facts = {name: value for name, value in books.before.items() if name != RESULT}
        for place, status in books.status.items():
            facts.setdefault(place, status)
        for place, things in books.contents.items():
            for thing in sorted(things):
                conditions = " ".join(sorted(books.conditions.get(thing, ())))
                facts.setdefault(thing, f"in {place} {conditions}".strip())
        return facts

    def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
        """Everything in `transition` that the books rule out."""
        step = Step.of(transition)
        return tuple(
            Contradiction(rule=rule.__name__, message=message) for rule in RULES for message in rule(self._books, step)
        )

    def outcome(self, transition: Transition) -> StepOutcome | None:
        """What `transition` leads to; None where the books do not decide it."""
        return outcome(self._books, Step.of(transition))

    def see(self, transition: Transition) -> None:
        """Enter `transition`."""
        self._books.enter(transition)
