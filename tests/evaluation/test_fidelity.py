"""Teacher-forced fidelity over a scripted engine, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from dreamsim.engines.scripted import ByteTokenizer, EngineFault, ScriptedEngine
from dreamsim.errors import EngineError
from dreamsim.evaluation.fidelity import DreamForeteller, NearestNeighbour, StepRecord, foretell
from dreamsim.evaluation.report import fidelity_report
from dreamsim.experience.format import answer_segment, transition_answer
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.prompt import PromptLayout, Retrieve
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import Episode, StepOutcome, Transition
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.state import State, StateMemory, changes
from dreamsim.records.task import Task

TOKENIZER = ByteTokenizer()
TASK = Task(
    environment="test/one",
    instruction="take the egg",
    first_state=State.of(["at: kitchen", "egg: here", "hat: here"]),
    fold="test",
)


def step(action: str, *lines: str, outcome: StepOutcome = "running") -> Transition:
    reward = 1.0 if outcome == "success" else 0.0
    return Transition(
        action=action, state=State.of(["at: kitchen", *lines]), reward=reward, outcome=outcome, reasoning=f"on {action}"
    )


REAL = Episode(
    id="real",
    run="r",
    task=TASK,
    repeat=0,
    source="real",
    purpose="evaluation",
    transitions=(
        step("take hat", "egg: here", "hat: held"),
        step("eat hat", "egg: here", "hat: held", "result: failed"),
        step("take egg", "egg: held", "hat: held", outcome="success"),
    ),
    outcome="success",
)
FAILURE = answer_segment(reasoning="no", changed=["result: failed"], reward=0, outcome="running")


def truth(episode: Episode) -> list[str]:
    """What a model that knows everything would answer."""
    memory = StateMemory(episode.task.first_state)
    answers = []
    for transition in episode.transitions:
        answers.append(transition_answer(transition, changes(memory, transition.state)))
        memory.see(transition.state)
    return answers


def step_of(request: GenerationRequest) -> tuple[int, int]:
    """Step and try that a request is for."""
    _, number, attempt = request.request_id.rsplit("-", 2)
    return int(number.removeprefix("x")), int(attempt)


class Neighbours:
    """A retriever that gives the same experience always, and remembers the queries."""

    def __init__(self, *found: Experience) -> None:
        self.found = found
        self.queries: list[ExperienceQuery] = []

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        self.queries.append(query)
        return self.found


def experience(changed: Sequence[str], *, reward: float = 0.0, outcome: StepOutcome = "running") -> Experience:
    return Experience(
        id="e:0",
        episode_id="e",
        task_key="other",
        environment="test/one",
        fold="train",
        source="real",
        instruction="",
        state=("at: hall",),
        action="take hat",
        changes=tuple(changed),
        next_state=(),
        reasoning="",
        reward=reward,
        outcome=outcome,
    )


Respond = Callable[[GenerationRequest], str]


def dreaming(
    respond: Respond,
    *,
    retriever: Neighbours | None = None,
    retrieve: Retrieve = "off",
    fault: Callable[[GenerationRequest], EngineFault | None] | None = None,
) -> DreamForeteller:
    settings = ExperienceSettings(layout=PromptLayout(retrieve=retrieve), samples=2)
    engine = ScriptedEngine(respond, TOKENIZER, fault=fault)
    return DreamForeteller(ExperienceModel(engine, TOKENIZER, settings, retriever))


def everything(episode: Episode) -> list[bool]:
    return [True] * len(episode.transitions)


async def records_of(foreteller: DreamForeteller | NearestNeighbour) -> list[StepRecord]:
    return await foretell([REAL], foreteller, determined=everything)


async def test_the_truth_is_exact_at_the_first_try() -> None:
    records = await records_of(dreaming(lambda request: truth(REAL)[step_of(request)[0]]))
    assert [record.exact for record in records] == [True] * 3
    assert [record.samples for record in records] == [1] * 3
    assert [record.failure_shown for record in records] == [False, True, False]
    assert [record.foretold_outcome for record in records] == ["running", "running", "success"]


async def test_each_step_is_asked_with_the_real_history_whatever_was_foretold() -> None:
    prompts: dict[int, str] = {}

    def respond(request: GenerationRequest) -> str:
        prompts[step_of(request)[0]] = TOKENIZER.decode(request.prompt_token_ids)
        return FAILURE

    records = await records_of(dreaming(respond))
    assert truth(REAL)[0] in prompts[1]
    assert truth(REAL)[1] in prompts[2]
    assert FAILURE not in prompts[1]
    assert [record.failure_shown for record in records] == [True] * 3


async def test_what_does_not_parse_counts_as_foretold_after_resampling_or_not_at_all() -> None:
    def respond(request: GenerationRequest) -> str:
        number, attempt = step_of(request)
        return truth(REAL)[number] if number == 0 or (number == 1 and attempt == 1) else "nonsense"

    records = await records_of(dreaming(respond))
    assert [record.samples for record in records] == [1, 2, 0]
    assert records[2].problem.startswith("experience: no transition in 2 samples")
    assert (records[2].exact, records[2].foretold_outcome, records[2].failure_shown) == (False, None, False)


async def test_a_failure_that_changes_something_else_is_not_shown_as_one() -> None:
    changed = answer_segment(reasoning="no", changed=["hat: gone", "result: failed"], reward=0, outcome="running")
    records = await records_of(dreaming(lambda request: changed))
    assert records[1].failure
    assert not records[1].failure_shown


async def test_retrieval_per_step_asks_with_the_real_state() -> None:
    neighbours = Neighbours(experience(["hat: held"]))
    await records_of(dreaming(lambda request: FAILURE, retriever=neighbours, retrieve="step"))
    assert [query.action for query in neighbours.queries] == ["take hat", "eat hat", "take egg"]
    assert neighbours.queries[2].state == REAL.transitions[1].state.lines


async def test_a_dead_engine_ends_the_measurement() -> None:
    with pytest.raises(EngineError, match="dead"):
        await records_of(dreaming(lambda request: FAILURE, fault=lambda request: "dead"))


async def test_the_neighbour_does_again_what_happened_elsewhere() -> None:
    neighbours = Neighbours(experience(["hat: held"]))
    records = await records_of(NearestNeighbour(neighbours))
    assert [record.exact for record in records] == [True, False, False]
    assert {query.exclude_task for query in neighbours.queries} == {TASK.key}
    assert {query.folds for query in neighbours.queries} == {("train",)}


async def test_without_a_neighbour_nothing_is_foretold() -> None:
    records = await records_of(NearestNeighbour(Neighbours()))
    assert [record.samples for record in records] == [0] * 3


async def test_the_report_counts_what_the_records_say() -> None:
    def respond(request: GenerationRequest) -> str:
        number, _ = step_of(request)
        return truth(REAL)[number] if number else FAILURE

    records = await foretell([REAL], dreaming(respond), determined=lambda episode: [True, False, True])
    report = fidelity_report(records)
    assert report.parse_first.value == 1
    assert report.exact.value == pytest.approx(2 / 3)
    assert report.determined_exact.value == 0.5
    assert report.done_f1.value == report.success_f1.value == 1
    assert (report.failure_shown.value, report.failure_shown.n) == (1, 1)
    assert report.false_failure.value == 0.5
    assert {name: estimate.value for name, estimate in report.exact_by_verb.items()} == {"take": 0.5}


def test_a_report_of_nothing_has_no_values() -> None:
    report = fidelity_report([])
    assert report.parse_first.value is None
    assert report.done_f1.value is None
