"""Which of the tasks that a model writes are let through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsim.curriculum.domain import ElementDomain
from dreamsim.curriculum.generator import TaskGenerator, WritingSettings, supply
from dreamsim.curriculum.novelty import KnownTasks
from dreamsim.curriculum.source import Curriculum
from dreamsim.curriculum.task_writing import task_text
from dreamsim.curriculum.written import Order
from dreamsim.engines.scripted import ByteTokenizer, EngineFault, ScriptedEngine
from dreamsim.errors import EngineError
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.curriculum_settings import CurriculumSection
from dreamsim.testing import check_task_domain
from tests.curriculum.lists import a_task, run, written

pytestmark = pytest.mark.anyio
TASKS = [a_task(number) for number in range(12)]
NEW = task_text("find it", State.of(["at: room 0", "thing 4: here"]))
Answer = Callable[[GenerationRequest], str]


class Letters:
    """Embeds a text by how often it has each character."""

    name = "letters"
    dimension = 128

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found = np.zeros((len(texts), 128), dtype=np.float32)
        for row, text in enumerate(texts):
            for letter in text:
                found[row, ord(letter) % 128] += 1
        unit: NDArray[np.float32] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1)
        return unit


def an_engine(
    answer: Answer | str, fault: Callable[[GenerationRequest], EngineFault | None] | None = None
) -> ScriptedEngine:
    respond = (lambda request: answer) if isinstance(answer, str) else answer
    return ScriptedEngine(respond, ByteTokenizer(), name="writer", version="7", fault=fault, max_model_len=2000)


def a_generator(engine: ScriptedEngine, tasks: list[Task] = TASKS, **settings: object) -> TaskGenerator:
    section = WritingSettings(**{"samples": 2, "min_distance": 0.0, "max_tokens": 200, **settings})  # type: ignore[arg-type]
    known = KnownTasks(Letters(), tasks)
    return TaskGenerator(engine, ByteTokenizer(), section, known=known, domain=ElementDomain(tasks))


def an_order(seed: Task = TASKS[0], number: int = 0) -> Order:
    return Order(number=number, seed=seed, others=tuple(TASKS[1:4]))


async def test_a_new_task_is_of_its_seed_s_family_and_names_parent_and_writer() -> None:
    seed = written(a_task(0, rooms=2), 1)
    generator = a_generator(an_engine(NEW), [a_task(number, rooms=2) for number in range(12)])
    found = await generator.write(Order(number=0, seed=seed, others=()))
    assert found.task is not None
    assert (found.task.environment, found.task.fold, found.task.parameters["rooms"]) == ("e/coin", "train", 2)
    lineage = found.task.lineage
    assert lineage is not None
    assert (lineage.parent, lineage.depth, lineage.writer) == (seed.key, 2, "writer@7")
    assert found.refused == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("a task, if you please", "parse"),
        (NEW.replace("here", "h" * 300), "length"),
        (NEW.replace("thing 4", "dragon"), "domain: unknown element"),
        (NEW.replace("here", "burning"), "domain: unknown word"),
        (NEW.replace("find", "eat"), "domain: unknown word"),
        (NEW.replace("thing 4: here\n", ""), "domain: too many or too few lines"),
        (task_text("Find it", TASKS[7].first_state), "known"),
        (task_text("find it", State.of(reversed(TASKS[7].first_state.lines))), "known"),
    ],
)
async def test_what_is_no_new_task_is_refused_by_reason(answer: str, reason: str) -> None:
    found = await a_generator(an_engine(answer)).write(an_order())
    assert found.task is None
    assert found.refused == {reason: 2}


async def test_a_task_too_near_to_a_known_one_is_refused() -> None:
    far = await a_generator(an_engine(NEW), min_distance=1e-4).write(an_order())
    near = await a_generator(an_engine(NEW), min_distance=1.5).write(an_order())
    assert (far.task is None, near.task is None) == (False, True)
    assert near.refused == {"near": 2}


async def test_the_first_answer_in_order_that_can_be_let_through_counts() -> None:
    seeds: set[int] = set()

    def answer(request: GenerationRequest) -> str:
        seeds.add(request.seed)
        sample = int(request.request_id[-1])
        return NEW.replace("thing 4", f"thing {4 + sample // 2 * 3}") if sample % 2 else "no"

    found = await a_generator(an_engine(answer), samples=4).write(an_order())
    assert found.task is not None
    assert "thing 4: here" in found.task.first_state.lines
    assert found.refused == {"parse": 2}
    assert len(seeds) == 4


async def test_an_engine_that_stumbles_is_asked_again_and_a_dead_one_is_told_of() -> None:
    stumbling = an_engine(NEW, fault=lambda request: "error" if request.request_id.endswith("-0") else None)
    found = await a_generator(stumbling).write(an_order())
    assert found.task is not None
    assert found.refused == {"engine": 1}
    with pytest.raises(EngineError):
        await a_generator(an_engine(NEW, fault=lambda request: "dead")).write(an_order())


async def test_fewer_tasks_are_shown_where_an_answer_would_not_fit() -> None:
    asked: list[int] = []

    def answer(request: GenerationRequest) -> str:
        asked.append(len(request.prompt_token_ids))
        return NEW

    one, four = (a_generator(an_engine(answer), max_tokens=most) for most in (1850, 200))
    assert (await four.write(an_order())).task is not None
    assert (await one.write(an_order())).task is not None
    assert asked[0] > 150
    assert asked[-1] <= 150


def a_curriculum() -> Curriculum:
    made = Curriculum(TASKS, CurriculumSection(synthetic=0.5, waiting=3), size=4, seed=0)
    run(made, 4, lambda task: 2)
    return made


async def test_of_equal_tasks_the_first_that_is_settled_counts() -> None:
    curriculum, generator = a_curriculum(), a_generator(an_engine(NEW))
    orders = [curriculum.order(), curriculum.order()]
    answers = [await generator.write(order) for order in orders if order is not None]
    for order, answer in zip(orders, answers, strict=True):
        assert order is not None
        generator.settle(curriculum, order, answer)
    assert len(curriculum.written) == 1
    assert curriculum.refused == {"known": 1}


async def test_what_was_written_before_is_known_again() -> None:
    generator = a_generator(an_engine(NEW))
    first = await generator.write(an_order())
    assert first.task is not None
    generator.remember([first.task])
    assert (await generator.write(an_order())).refused == {"known": 2}


async def test_supply_writes_until_enough_is_waiting_and_ends_with_the_curriculum() -> None:
    curriculum = a_curriculum()
    numbers = iter(range(12))

    def answer(request: GenerationRequest) -> str:
        return NEW.replace("room 0", f"room {next(numbers) % 3}").replace("thing 4", f"thing {next(numbers)}")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(supply, curriculum, a_generator(an_engine(answer)))
            while len(curriculum.written) < 3:
                await curriculum.changed()
            assert curriculum.order() is None
            curriculum.close()
    assert all(one.standing == "candidate" for one in curriculum.written)


def test_a_domain_refuses_no_task_that_it_was_made_from() -> None:
    domain = ElementDomain(TASKS)
    check_task_domain(domain, TASKS)
    assert domain.refusal(a_task(0, "twc")) == "unknown family"
