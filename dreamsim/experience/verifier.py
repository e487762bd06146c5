"""Verifiers: who says whether a dreamed step really ended the task.

In: a task, the transitions of its episode and the step in question. Out: a `Verdict`.
Always:
- a verifier that cannot tell says so (`outcome=None`); it never guesses, and never takes the dream's own word for it;
- nothing a verifier reads is executed;
- a name stands for a verifier's version: another rule file has another name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, cast, get_args

from dreamsim.errors import ConfigurationError
from dreamsim.experience.judge import JudgeVerifier
from dreamsim.experience.questions import load_prompt
from dreamsim.experience.rules import load_rules
from dreamsim.protocols import ChatModel, GoalLedger, LedgerSession, StateLedger, Verifier
from dreamsim.records.episode import Transition
from dreamsim.records.task import Task
from dreamsim.records.trust import Verdict

VerifierName = Literal["ledger", "rules", "judge"]
VERIFIERS: Final[tuple[VerifierName, ...]] = get_args(VerifierName)


class LedgerVerifier:
    """Checks the goal against what the ledger's books say. Pure: no model, no waiting."""

    def __init__(self, ledger: StateLedger) -> None:
        self._ledger = ledger
        self._knows_goals: dict[type, bool] = {}

    @property
    def name(self) -> str:
        """`ledger:` and the ledger's name."""
        return f"ledger:{self._ledger.name}"

    async def verify(
        self,
        task: Task,
        before: Sequence[Transition],
        transition: Transition,
        *,
        books: LedgerSession | None = None,
    ) -> Verdict:
        """The goal check of the books; without `books`, all of `before` is entered into new ones first."""
        if books is None:
            books = self._ledger.open(task)
            for seen in before:
                books.see(seen)
        return self.verdict(books, transition)

    def verdict(self, books: LedgerSession, transition: Transition) -> Verdict:
        """The verdict on `transition` from books that have seen everything before it, and not it; changes nothing."""
        kind = type(books)
        if kind not in self._knows_goals:  # once for each class: the check reads `facts`, which may be long
            self._knows_goals[kind] = isinstance(books, GoalLedger)
        if not self._knows_goals[kind]:
            return Verdict(verifier=self.name, outcome=None, reason="this ledger knows no goals")
        outcome = cast(GoalLedger, books).outcome(transition)
        reason = "the books do not decide it" if outcome is None else f"by the books: {outcome}"
        return Verdict(verifier=self.name, outcome=outcome, reason=reason)


class Verifiers:
    """Several verifiers, asked in turn: the first that can tell is believed."""

    def __init__(self, verifiers: Sequence[Verifier]) -> None:
        """Raises: ConfigurationError: there are none."""
        if not verifiers:
            raise ConfigurationError("a verifier of no verifiers cannot tell anything: name at least one")
        self._verifiers = tuple(verifiers)

    @property
    def name(self) -> str:
        """Their names, in the order of asking."""
        return ",".join(verifier.name for verifier in self._verifiers)

    async def verify(
        self,
        task: Task,
        before: Sequence[Transition],
        transition: Transition,
        *,
        books: LedgerSession | None = None,
    ) -> Verdict:
        """The verdict of the first that can tell; else one that gives everybody's reason.

        Raises:
            EpisodeError: one could not be asked, and none before it could tell.
        """
        reasons: list[str] = []
        for verifier in self._verifiers:
            verdict = await verifier.verify(task, before, transition, books=books)
            if verdict.outcome is not None:
                return verdict
            reasons.append(f"{verdict.verifier}: {verdict.reason}")
        return Verdict(verifier=self.name, outcome=None, reason="; ".join(reasons))


def make_verifier(
    names: Sequence[str],
    *,
    ledger: StateLedger | None = None,
    rules: Path | None = None,
    judge: ChatModel | None = None,
    prompts: Path | None = None,
) -> Verifier | None:
    """The verifier that a configuration names. Blocks: reads the rule file and the judge's prompts.

    Args:
        names: of `VERIFIERS`, in the order of asking; none is no verifier.
        ledger: for `ledger`.
        rules: rule file, for `rules`.
        judge: for `judge`.
        prompts: directory of the judge's prompts; None is the package's own.

    Raises:
        ConfigurationError: an unknown name, something it needs is missing, or the rule file is wrong.
    """
    found = [_one(name, ledger, rules, judge, prompts) for name in dict.fromkeys(names)]
    if not found:
        return None
    return found[0] if len(found) == 1 else Verifiers(found)


def _one(
    name: str, ledger: StateLedger | None, rules: Path | None, judge: ChatModel | None, prompts: Path | None
) -> Verifier:
    if name == "ledger":
        if ledger is None:
            raise ConfigurationError("the verifier 'ledger' needs a ledger, and this environment has none")
        return LedgerVerifier(ledger)
    if name == "rules":
        if rules is None:
            raise ConfigurationError("the verifier 'rules' needs a rule file: see docs/verification.md")
        return load_rules(rules)
    if name == "judge":
        if judge is None:
            raise ConfigurationError("the verifier 'judge' needs a model: see docs/verification.md")
        return JudgeVerifier(judge, load_prompt("verify", prompts))
    raise ConfigurationError(f"there is no verifier '{name}': there are {', '.join(VERIFIERS)}")
