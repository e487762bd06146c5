"""The curriculum of a training, from settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dreamsim.cli.curriculum import TaskWriter, curriculum_chooser, domain_for, task_writer
from dreamsim.cli.models import Prepared
from dreamsim.cli.tasks import DATA, SHIPPED_TASKS, read_tasks
from dreamsim.curriculum.task_writing import content_key, task_text
from dreamsim.curriculum.value import GroupResult
from dreamsim.engines.scripted import ScriptedEngine
from dreamsim.engines.tokenizers import ChatFrame, load_tokenizer
from dreamsim.records.completion import GenerationRequest
from dreamsim.runtime.config import ExperienceSection
from dreamsim.runtime.curriculum_settings import CurriculumSection
from dreamsim.runtime.seeds import generator
from dreamsim.store.lexical import LexicalEncoder
from dreamsim.testing.world import scripted_tasks

TOKENIZER = load_tokenizer(DATA / "experience")
TWC = {
    content_key(task.instruction, task.first_state): task
    for task in read_tasks(SHIPPED_TASKS)
    if task.environment.endswith("/twc")
}
LISTED, HELD_BACK = list(TWC.values())[:300], list(TWC.values())[300:]


def answer(request: GenerationRequest) -> str:
    """A real task that is on no list: what a good writer could write."""
    draw = generator(request.seed, "answer")
    task = HELD_BACK[int(draw.integers(len(HELD_BACK)))]
    return task_text(task.instruction, task.first_state)


def a_writer() -> TaskWriter:
    engine = ScriptedEngine(answer, TOKENIZER)
    return TaskWriter(engine=engine, tokenizer=TOKENIZER, frame=ChatFrame(), max_tokens=200, shown=3)


@pytest.mark.parametrize("clustered", [False, True])
def test_a_curriculum_of_real_tasks_gets_written_ones(clustered: bool) -> None:
    import anyio

    section = CurriculumSection(synthetic=0.5, clusters=5, samples=8)
    chooser = curriculum_chooser(
        section, LISTED, size=4, seed=0, clustered=clustered, encoder=LexicalEncoder(), writer=a_writer()
    )

    async def play() -> list[bool]:
        synthetic = []
        for _ in range(30):
            task = await chooser.choose("dreamed")
            number = chooser.state()["numbers"][task.key] - 1
            result = GroupResult(task_key=task.key, number=number, returns=(1.0, 0.0), successes=1)
            chooser.curriculum.observe(result)
            synthetic.append(task.synthetic)
        return synthetic

    synthetic = anyio.run(play)
    assert 5 <= sum(synthetic) <= 15
    assert len(chooser.curriculum.written) >= 5
    assert set(chooser.curriculum.refused) <= {"known", "near"}


def prepared(trained: Mapping[str, Any]) -> Prepared:
    return Prepared(tokenizer=TOKENIZER, frame=ChatFrame(), trained=trained)


def test_a_model_that_has_not_learned_to_write_tasks_is_not_asked() -> None:
    engine, role, section = ScriptedEngine(answer, TOKENIZER), ExperienceSection(), CurriculumSection()
    silent = task_writer(role, prepared({"layout": "plain"}), engine, adapter=None, section=section)
    told = {"layout": "plain", "tasks_shown": 3, "max_tokens": 150}
    taught = task_writer(role, prepared(told), engine, adapter="experience", section=section)
    assert silent is None
    assert taught is not None
    assert (taught.shown, taught.max_tokens, taught.adapter) == (3, 150, "experience")


def test_an_environment_without_a_domain_of_its_own_gets_the_generic_one() -> None:
    assert domain_for(LISTED).name == "textworld-express-1"
    assert domain_for(scripted_tasks(3)).name == "words-1"
    assert domain_for([*LISTED, *scripted_tasks(3)]).name == "words-1"


def test_what_a_chat_model_is_told_shows_the_form_that_is_read() -> None:
    told = (DATA / "prompts" / "tasks.system.md").read_text(encoding="utf-8")
    assert all(f"\n<{tag}>" in told for tag in ("task", "state", "end"))
