"""The verifiers over ledgers, judges and each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dreamsim.errors import ConfigurationError, EngineError, JudgeError
from dreamsim.experience.judge import Judge, JudgeVerifier
from dreamsim.experience.questions import Exchange, Patience, Prompt, load_prompt
from dreamsim.experience.verifier import LedgerVerifier, Verifiers, make_verifier
from dreamsim.protocols import LedgerSession
from dreamsim.records.completion import ChatAnswer
from dreamsim.records.episode import Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction, Verdict, VerifiedOutcome

JUDGE, VERIFY = load_prompt("judge"), load_prompt("verify")
TASK = Task(
    environment="test/count",
    instruction="wave twice",
    first_state=State.of(["at: hall", "waved: 0"]),
    fold="train",
)


def wave(count: int, outcome: VerifiedOutcome = "running") -> Transition:
    state = State.of(["at: hall", f"waved: {count}"])
    return Transition(action="wave", state=state, reward=0.0, outcome=outcome, reasoning="because I say so")


class CountingBooks:
    """Success when the second wave is shown."""

    def __init__(self) -> None:
        self.seen: list[Transition] = []

    @property
    def facts(self) -> Mapping[str, str]:
        return {"waved": str(len(self.seen))}

    def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
        return ()

    def see(self, transition: Transition) -> None:
        self.seen.append(transition)

    def outcome(self, transition: Transition) -> VerifiedOutcome | None:
        return "success" if len(self.seen) + 1 >= 2 else "running"


class CountingLedger:
    def __init__(self) -> None:
        self.opened = 0

    @property
    def name(self) -> str:
        return "counting@1"

    def open(self, task: Task) -> CountingBooks:
        self.opened += 1
        return CountingBooks()


class FactsOnly:
    """A ledger whose books know nothing of goals."""

    name = "facts@1"

    def open(self, task: Task) -> LedgerSession:
        class Books:
            facts: Mapping[str, str] = {}

            def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
                return ()

            def see(self, transition: Transition) -> None: ...

        return Books()


class Model:
    """A chat model that says in turn what it was told to."""

    def __init__(self, *said: str | EngineError, finish_reason: str = "stop") -> None:
        self.said = list(said)
        self.asked: list[tuple[str, str]] = []
        self.seeds: list[int] = []
        self.temperatures: list[float] = []
        self.schemas: list[str | None] = []
        self.finish_reason = finish_reason

    @property
    def name(self) -> str:
        return "model@1"

    async def answer(
        self,
        system: str,
        user: str,
        *,
        json_schema: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        request_id: str = "chat",
    ) -> ChatAnswer:
        self.asked.append((system, user))
        self.seeds.append(seed)
        self.temperatures.append(temperature)
        self.schemas.append(json_schema)
        said = self.said[min(len(self.asked), len(self.said)) - 1]
        if isinstance(said, EngineError):
            raise said
        return ChatAnswer(
            text=said, finish_reason=self.finish_reason, prompt_tokens=100, completion_tokens=10, model="m"
        )


def scored(**changes: object) -> str:
    given = {"reason": "fine", "consistency": 2, "diversity": 1, "informativeness": 0, "hallucination": 2}
    return json.dumps(given | changes)


SAYS_SUCCESS = '{"reason": "both waves are there", "outcome": "success"}'


async def test_the_books_decide_whether_the_goal_is_reached() -> None:
    verifier = LedgerVerifier(CountingLedger())
    assert (await verifier.verify(TASK, [], wave(1, "success"))).outcome == "running"
    verdict = await verifier.verify(TASK, [wave(1)], wave(2))
    assert (verdict.outcome, verdict.verifier) == ("success", "ledger:counting@1")


async def test_books_that_are_open_anyway_are_not_opened_again() -> None:
    ledger, books = CountingLedger(), CountingBooks()
    books.see(wave(1))
    verdict = await LedgerVerifier(ledger).verify(TASK, [wave(1)], wave(2), books=books)
    assert (verdict.outcome, ledger.opened, len(books.seen)) == ("success", 0, 1)


async def test_books_that_know_no_goals_leave_it_open() -> None:
    assert (await LedgerVerifier(FactsOnly()).verify(TASK, [], wave(1))).outcome is None


async def test_the_first_verifier_that_can_tell_is_believed() -> None:
    model = Model(SAYS_SUCCESS)
    both = Verifiers([LedgerVerifier(CountingLedger()), JudgeVerifier(model, VERIFY)])
    assert (await both.verify(TASK, [], wave(1))).outcome == "running"
    assert model.asked == []


async def test_the_next_verifier_is_asked_when_one_cannot_tell() -> None:
    both = Verifiers([LedgerVerifier(FactsOnly()), JudgeVerifier(Model(SAYS_SUCCESS), VERIFY)])
    verdict = await both.verify(TASK, [wave(1)], wave(2))
    assert (verdict.outcome, verdict.verifier) == ("success", "judge:model@1")


async def test_when_nobody_can_tell_everybodys_reason_is_given() -> None:
    unknown = '{"reason": "I do not see it", "outcome": "unknown"}'
    both = Verifiers([LedgerVerifier(FactsOnly()), JudgeVerifier(Model(unknown), VERIFY)])
    verdict = await both.verify(TASK, [], wave(1))
    assert verdict == Verdict(
        verifier="ledger:facts@1,judge:model@1",
        outcome=None,
        reason="ledger:facts@1: this ledger knows no goals; judge:model@1: I do not see it",
    )


async def test_the_judge_is_not_told_what_the_dream_claims() -> None:
    model = Model(SAYS_SUCCESS)
    await JudgeVerifier(model, Prompt(system="s", user="{action}|{next_state}|{outcome}|{reasoning}")).verify(
        TASK, [], wave(1, "success")
    )
    assert model.asked[0][1] == "wave|at: hall\nwaved: 1|{outcome}|{reasoning}"


@pytest.mark.parametrize(
    "bad",
    [
        "It looks fine to me.",
        "I cannot help with that.",
        scored(consistency=3),
        scored(hallucination=-1),
        scored(diversity=1.5),
        scored(diversity="2"),
        scored(diversity=True),
        scored(extra=1),
        scored(reason=None),
        "[2, 2, 2, 2]",
        '{"consistency": 2}',
        scored()[:-1],
        "1" * 5000,
        "[" * 50_000,
        "",
    ],
    ids=lambda bad: bad[:40],
)
async def test_an_answer_that_is_not_as_asked_is_asked_for_again(bad: str) -> None:
    model = Model(bad, scored())
    scores = await Judge(model, JUDGE).scores(TASK, [], wave(1), request_id="e-0")
    assert scores.by_name == {"consistency": 2, "diversity": 1, "informativeness": 0, "hallucination": 2}
    assert len(set(model.seeds)) == 2
    assert model.temperatures == [0.0, 0.7]


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "<think>2 {{</think>\n{}"])
async def test_the_form_around_the_json_may_vary(around: str) -> None:
    model = Model(around.replace("{{", "{").replace("{}", scored()))
    assert (await Judge(model, JUDGE).scores(TASK, [], wave(1), request_id="e-0")).consistency == 2


async def test_a_judge_that_never_answers_as_asked_is_a_typed_error() -> None:
    noted: list[Exchange] = []

    async def note(exchange: Exchange) -> None:
        noted.append(exchange)

    judge = Judge(Model("no"), JUDGE, patience=Patience(attempts=2))
    with pytest.raises(JudgeError, match=r"model@1 gave no usable answer to e-0 in 2 requests: not JSON"):
        await judge.scores(TASK, [], wave(1), request_id="e-0", note=note)
    assert [exchange.prompt_tokens for exchange in noted] == [100, 100]


async def test_an_answer_cut_off_is_no_answer() -> None:
    with pytest.raises(JudgeError, match="longer than allowed"):
        await Judge(Model(scored(), finish_reason="length"), JUDGE).scores(TASK, [], wave(1), request_id="e-0")


async def test_an_engine_that_stumbles_is_asked_again_and_a_dead_one_is_not() -> None:
    stumbling = Model(EngineError("busy"), scored())
    assert (await Judge(stumbling, JUDGE).scores(TASK, [], wave(1), request_id="e-0")).diversity == 1
    dead = Model(EngineError("gone", recoverable=False))
    with pytest.raises(EngineError, match="gone"):
        await Judge(dead, JUDGE).scores(TASK, [], wave(1), request_id="e-0")
    assert len(dead.asked) == 1


async def test_the_judge_sees_history_state_action_and_prediction() -> None:
    model = Model(scored())
    await Judge(model, JUDGE).scores(TASK, [wave(1)], wave(2), request_id="e-1")
    asked = model.asked[0][1]
    assert "wave twice" in asked
    assert "Step 1: wave\nwaved: 1" in asked
    assert "Predicted state:\nat: hall\nwaved: 2" in asked
    assert json.loads(model.schemas[0] or "")["required"][0] == "reason"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: make_verifier(["oracle"]), "there is no verifier 'oracle': there are ledger, rules, judge"),
        (lambda: make_verifier(["ledger"]), "needs a ledger"),
        (lambda: make_verifier(["rules"]), "needs a rule file"),
        (lambda: make_verifier(["judge"]), "needs a model"),
        (lambda: make_verifier(["judge"], judge=Model(), prompts=Path("/nowhere")), "verify.system.md cannot be read"),
    ],
)
def test_a_verifier_that_cannot_be_made_says_what_it_needs(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_verifiers_are_asked_in_the_order_of_their_names(tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text('[[rule]]\nsuccess = ["coin: held"]\n')
    made = make_verifier(["rules", "ledger"], ledger=CountingLedger(), rules=rules)
    assert made is not None
    assert made.name.split(",")[1] == "ledger:counting@1"
    assert make_verifier([]) is None
