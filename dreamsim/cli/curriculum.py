"""The curriculum of a training, put together as the settings say.

In: settings, real tasks, an encoder, whoever writes tasks. Out: a `CurriculumChooser`.
Always: nobody is asked for tasks who was trained by us without learning to write them; a written task is checked by the
domain of its environment, or by a generic one where the environment has none of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from dreamsim.cli.engines import tokenizer_source
from dreamsim.cli.ledgers import is_there
from dreamsim.cli.models import Prepared, frame_of
from dreamsim.curriculum.domain import ElementDomain
from dreamsim.curriculum.generator import TaskGenerator, WritingSettings
from dreamsim.curriculum.novelty import KnownTasks
from dreamsim.curriculum.source import SHOWN, Curriculum
from dreamsim.curriculum.value import TaskClusters
from dreamsim.engines.tokenizers import ChatFrame
from dreamsim.flow.choosing import CurriculumChooser
from dreamsim.protocols import Encoder, Engine, TaskDomain, Tokenizer
from dreamsim.records.task import Task
from dreamsim.runtime.config import ExperienceSection
from dreamsim.runtime.curriculum_settings import CurriculumSection

DOMAINS: Final = {
    "textworld_express": ("dreamsim_adapters.environments.textworld_express.domain", "TextWorldExpressDomain"),
}
"""What an environment's name begins with -> module and class of its domain, made from real tasks."""
LEARNED: Final = "tasks_shown"
"""In `dreamsim.json`: how many tasks are shown to a model that has learned to write them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWriter:
    """Who writes tasks."""

    engine: Engine
    """Answers."""
    tokenizer: Tokenizer
    """The engine's."""
    frame: ChatFrame
    """Ids around the prompt."""
    max_tokens: int
    """Longest answer."""
    shown: int
    """Tasks shown, the seed among them."""
    adapter: str | None = None
    """LoRA adapter, as the engine calls it."""


def task_writer(
    role: ExperienceSection, prepared: Prepared, engine: Engine, *, adapter: str | None, section: CurriculumSection
) -> TaskWriter | None:
    """The experience model as a writer of tasks; None where it has not learned to. Blocks: reads files."""
    trained = prepared.trained
    if trained and LEARNED not in trained:
        return None
    told = trained.get("max_tokens", 512) if role.max_tokens is None else role.max_tokens
    return TaskWriter(
        engine=engine,
        tokenizer=prepared.tokenizer,
        frame=frame_of(role, "tasks", tokenizer_source(role, "experience"), trained),
        max_tokens=told if section.max_tokens is None else section.max_tokens,
        shown=int(trained.get(LEARNED, SHOWN)),
        adapter=adapter,
    )


def curriculum_chooser(
    section: CurriculumSection,
    tasks: Sequence[Task],
    *,
    size: int,
    seed: int,
    clustered: bool,
    encoder: Encoder,
    writer: TaskWriter | None,
) -> CurriculumChooser:
    """A chooser for `flow.planning`. Blocks: embeds all tasks, and clusters them where asked.

    Args:
        section: how to choose.
        tasks: real tasks.
        size: episodes of a group.
        seed: root of every draw.
        clustered: whether clusters are valued instead of tasks (PPO).
        encoder: embeds tasks.
        writer: writes new tasks; None leaves it at real ones.
    """
    known = KnownTasks(encoder, tasks)
    clusters = TaskClusters.fit(known.vectors, clusters=section.clusters, seed=seed) if clustered else None
    examples = section.examples or (SHOWN if writer is None else writer.shown)
    curriculum = Curriculum(
        tasks,
        section.model_copy(update={"examples": examples}),
        size=size,
        seed=seed,
        clusters=clusters,
        vectors=known.vectors if clustered else None,
    )
    generator = None
    if writer is not None and section.mode == "value" and section.synthetic:
        settings = WritingSettings(
            samples=section.samples,
            temperature=section.temperature,
            max_tokens=writer.max_tokens,
            min_distance=section.min_distance,
            seed=seed,
            head=writer.frame.head,
            tail=writer.frame.tail,
            adapter=writer.adapter,
        )
        generator = TaskGenerator(writer.engine, writer.tokenizer, settings, known=known, domain=domain_for(tasks))
    return CurriculumChooser(curriculum, generator)


def domain_for(tasks: Sequence[Task]) -> TaskDomain:
    """The domain of the environment that these tasks are of; a generic one for several, or where there is none."""
    names = {task.environment.partition("/")[0] for task in tasks}
    module, kind = DOMAINS.get(names.pop(), ("", "")) if len(names) == 1 else ("", "")
    if not module or not is_there(module):
        return ElementDomain(tasks)
    made: TaskDomain = getattr(import_module(module), kind)(tasks)
    return made
