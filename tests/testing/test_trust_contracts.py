"""The checks pass what keeps the contract, and name the clause that is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytest

from dreamsim.engines.chat import EngineChat
from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.experience.ledger import ElementLedger
from dreamsim.experience.rules import RuleVerifier, parse_rules
from dreamsim.experience.verifier import LedgerVerifier, Verifiers
from dreamsim.protocols import LedgerSession
from dreamsim.records.episode import Transition
from dreamsim.records.task import Task
from dreamsim.records.trust import Verdict, VerifiedOutcome
from dreamsim.testing import check_chat_model, check_verifier, gold_path, scripted_task
from dreamsim.testing.world import Position, layout_of

TASK = scripted_task(0)


def steps() -> list[Transition]:
    position = Position(layout_of(TASK))
    return [position.take_action(action) for action in gold_path(TASK)]


class Saying:
    """A verifier that says what a function says."""

    name = "saying@1"

    def __init__(self, say: Callable[[int, Transition], str | None], *, writes: bool = False) -> None:
        self._say = say
        self._writes = writes
        self._asked = 0

    async def verify(
        self,
        task: Task,
        before: Sequence[Transition],
        transition: Transition,
        *,
        books: LedgerSession | None = None,
    ) -> Verdict:
        self._asked += 1
        if books is not None and self._writes:
            books.see(transition)
        outcome = cast(VerifiedOutcome | None, self._say(self._asked, transition))
        return Verdict(verifier=self.name, outcome=outcome)


async def test_the_verifiers_of_the_package_keep_the_contract() -> None:
    ledger = LedgerVerifier(ElementLedger())
    rules = RuleVerifier(parse_rules('[[rule]]\nsuccess = ["{}: in box"]', kind="toml"))
    for verifier in (ledger, rules, Verifiers([ledger, rules])):
        await check_verifier(verifier, TASK, steps(), ledger=ElementLedger())


async def test_a_verifier_that_believes_the_dream_is_refused() -> None:
    with pytest.raises(AssertionError, match="follows what the transition claims"):
        await check_verifier(Saying(lambda asked, step: step.outcome), TASK, steps())


async def test_a_verifier_that_changes_its_mind_is_refused() -> None:
    fickle = Saying(lambda asked, step: "running" if asked % 2 else None)
    with pytest.raises(AssertionError, match="two answers to one question"):
        await check_verifier(fickle, TASK, steps())


async def test_an_outcome_that_is_none_is_refused() -> None:
    with pytest.raises(AssertionError, match="no outcome of a step"):
        await check_verifier(Saying(lambda asked, step: "perhaps"), TASK, steps())


async def test_a_verifier_that_writes_into_the_books_is_refused() -> None:
    with pytest.raises(AssertionError, match="not its own"):
        await check_verifier(Saying(lambda *_: None, writes=True), TASK, steps(), ledger=ElementLedger())


async def test_an_engine_as_chat_model_keeps_the_contract() -> None:
    tokenizer = ByteTokenizer()
    engine = ScriptedEngine(lambda request: '{"sum": 2}', tokenizer)
    chat = EngineChat(engine, tokenizer, lambda system: None, max_tokens=64, timeout_s=30)
    await check_chat_model(chat, json_schema='{"type": "object"}')
