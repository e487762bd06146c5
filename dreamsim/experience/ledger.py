"""The generic ledger: facts and contradictions of any environment whose states are element lines.

In: a task and, one after another, its transitions. Out: facts, contradictions, and what the books say of the goal.
Always: `contradictions` and `outcome` change nothing, only `see` moves the books on; what the books do not decide is
let pass, so that a real transition is never called a contradiction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dreamsim.experience.books import Books, Rule, Step, meanings
from dreamsim.experience.ledger_rules import RULES
from dreamsim.experience.parse import AnswerRules
from dreamsim.records.episode import StepOutcome, Transition
from dreamsim.records.state import RESULT
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction

VERSION = "elements-1"


class ElementLedger:
    """Keeps the books of any environment by the rules of `dreamsim.experience.ledger_rules`."""

    def __init__(self, rewards: AnswerRules | None = None, *, rules: Sequence[Rule[Books]] = RULES) -> None:
        """Keep to `rules`; `rewards` says what tasks pay: by default 1 for success and 0 for all else."""
        self._rewards = AnswerRules() if rewards is None else rewards
        self._rules = tuple(rules)

    @property
    def name(self) -> str:
        """Name and version."""
        return VERSION

    @property
    def rules(self) -> Mapping[str, str]:
        """Name of each rule -> what it says."""
        return meanings(self._rules)

    def open(self, task: Task) -> ElementBooks:
        """The books of one episode, with the task's first state entered."""
        return ElementBooks(Books(task, self._rewards), self._rules)


class ElementBooks:
    """The books of one episode. Made by `ElementLedger.open`."""

    __slots__ = ("_books", "_rules")

    def __init__(self, books: Books, rules: Sequence[Rule[Books]]) -> None:
        self._books = books
        self._rules = rules

    @property
    def facts(self) -> Mapping[str, str]:
        """The elements of the present scene; those of the other scenes as they were left, named `thing at scene`."""
        return facts_of(self._books)

    def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
        """Everything in `transition` that the books rule out."""
        return broken(self._rules, self._books, Step.of(transition))

    def outcome(self, transition: Transition) -> StepOutcome | None:
        """Running after an action that failed, else None: the goal is not known."""
        return "running" if Step.of(transition).failed else None

    def see(self, transition: Transition) -> None:
        """Enter `transition`."""
        self._books.enter(transition)


def broken(rules: Iterable[Rule[Books]], books: Books, step: Step) -> tuple[Contradiction, ...]:
    """What `step` breaks of `rules`."""
    return tuple(Contradiction(rule=rule.__name__, message=message) for rule in rules for message in rule(books, step))


def facts_of(books: Books) -> dict[str, str]:
    """What the books hold of all scenes."""
    facts = {key: value for key, value in books.before.items() if key != RESULT}
    for scene in books.scenes:
        if scene is not None and scene != books.scene:
            known = books.memory.base(scene)
            facts |= {f"{key} at {scene}": value for key, value in known.items() if key not in facts}
    return facts
