"""k-step drift over a scripted engine: a dream that is right for some steps and then lies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.evaluation.drift import (
    DriftRecord,
    at_step,
    contradictions_per_100,
    ended_per_100,
    free,
    open_loop_curve,
    pieces,
    rejected_per_100,
    runs_of,
    teacher_forced_curve,
)
from dreamsim.evaluation.fidelity import DreamForeteller, Witnesses, foretell
from dreamsim.experience.format import answer_segment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.prompt import PromptLayout
from dreamsim.protocols import LedgerSession
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import Episode, StepOutcome, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction

TOKENIZER = ByteTokenizer()
LENGTH = 6


def counted(number: int, *, outcome: StepOutcome = "running") -> Transition:
    """The world counts its steps."""
    return Transition(
        action="wait",
        state=State.of(["at: hall", f"clock: {number}"]),
        reward=1.0 if outcome == "success" else 0.0,
        outcome=outcome,
    )


def real(name: str = "real", length: int = LENGTH) -> Episode:
    return Episode(
        id=name,
        run="r",
        task=Task(
            environment="test/clock",
            instruction=f"wait {name}",
            first_state=State.of(["at: hall", "clock: 0"]),
            fold="test",
        ),
        repeat=0,
        source="real",
        purpose="evaluation",
        transitions=tuple(counted(number) for number in range(1, length + 1)),
        outcome="truncated",
    )


def answer(number: int, outcome: StepOutcome = "running") -> str:
    reward = 1.0 if outcome == "success" else 0.0
    return answer_segment(reasoning="tick", changed=[f"clock: {number}"], reward=reward, outcome=outcome)


def dreaming(respond: Callable[[int, str], str]) -> DreamForeteller:
    """A dream whose answer follows from the steps so far and the prompt."""

    def script(request: GenerationRequest) -> str:
        step = int(request.request_id.rsplit("-", 2)[1].removeprefix("x"))
        return respond(step, TOKENIZER.decode(request.prompt_token_ids))

    settings = ExperienceSettings(layout=PromptLayout(retrieve="off"), samples=1)
    return DreamForeteller(ExperienceModel(ScriptedEngine(script, TOKENIZER), TOKENIZER, settings))


def everything(episode: Episode) -> list[bool]:
    return [True] * len(episode.transitions)


def goes_on(step: int, prompt: str) -> str:
    """One more than the last clock in the prompt: an error made once stays."""
    last = int(prompt.rsplit("clock: ", 1)[1].split("\n", 1)[0])
    return answer(last + (2 if step == 3 else 1))


class Suspicious:
    """A ledger that finds every even clock impossible."""

    name = "suspicious"
    facts: dict[str, str] = {}  # noqa: RUF012 - never written

    def open(self, task: Task) -> LedgerSession:
        return self

    def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
        even = int(transition.state.elements["clock"]) % 2 == 0
        return (Contradiction(rule="even", message=""),) if even else ()

    def see(self, transition: Transition) -> None:
        pass


async def test_a_dream_that_lies_once_is_wrong_from_then_on() -> None:
    records = await runs_of([real()], dreaming(goes_on), determined=everything)
    assert [(record.k, record.agrees) for record in records] == [(k, k <= 3) for k in range(1, 7)]
    assert [point.agreement.value for point in open_loop_curve(records)] == [1, 1, 1, 0, 0, 0]


async def test_teacher_forced_the_same_dream_is_wrong_once() -> None:
    dream = dreaming(goes_on)
    records = await runs_of([real()], dream, determined=everything)
    one_step = await foretell([real()], dream, determined=everything)
    curve = teacher_forced_curve(records, one_step)
    assert [point.agreement.value for point in curve] == [1, 1, 1, 0, 1, 1]


async def test_after_an_undetermined_step_the_dream_begins_again_from_the_real_history() -> None:
    prompts: list[str] = []

    def respond(step: int, prompt: str) -> str:
        prompts.append(prompt)
        return goes_on(step, prompt)

    records = await runs_of([real()], dreaming(respond), determined=lambda _: [True, True, True, True, False, True])
    assert [(record.step, record.k, record.agrees) for record in records] == [
        (0, 1, True),
        (1, 2, True),
        (2, 3, True),
        (3, 4, False),
        (5, 1, True),
    ]
    assert "clock: 5" in prompts[-1]
    assert at_step(open_loop_curve(records), 1) is not None


async def test_a_dream_that_ends_too_early_agrees_with_nothing_after() -> None:
    def respond(step: int, prompt: str) -> str:
        return answer(step + 1, "success" if step == 2 else "running")

    records = await free([real()], dreaming(respond))
    assert [record.agrees for record in records] == [True, True, False, False, False, False]
    assert [record.dreamed for record in records] == [True] * 3 + [False] * 3


async def test_a_dream_without_a_transition_breaks_once() -> None:
    records = await free([real()], dreaming(lambda step, _: answer(step + 1) if step < 2 else "nonsense"))
    assert [record.broke for record in records] == [False, False, True, False, False, False]
    assert ended_per_100(records).value == pytest.approx(100 / 3)


async def test_the_free_dream_keeps_its_own_books() -> None:
    records = await free([real()], dreaming(goes_on), witnesses=Witnesses(ledgers=lambda _: Suspicious()))
    assert [record.contradictions for record in records] == [0, 1, 0, 0, 1, 0]
    assert contradictions_per_100(records).value == pytest.approx(100 * 2 / 6)


async def test_the_longest_drift_is_respected() -> None:
    records = await free([real(length=9)], dreaming(lambda step, _: answer(step + 1)), steps=4)
    assert [record.k for record in records] == [1, 2, 3, 4]


def test_without_a_ledger_contradictions_have_no_value() -> None:
    record = DriftRecord(episode_id="a", step=0, k=1, dreamed=True, agrees=True, rejected=2)
    assert contradictions_per_100([record]).value is None
    assert rejected_per_100([record]).value == 200


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 9))
def test_pieces_hold_every_determined_step_once_and_no_other(determined: list[bool], steps: int) -> None:
    found = list(pieces(determined, steps))
    inside = [index for start, end in found for index in range(start, end)]
    assert inside == [index for index, known in enumerate(determined) if known]
    assert all(end - start <= steps for start, end in found)
