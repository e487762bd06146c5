"""The tasks of a run: from a list, from an environment's generator, or from the scripted world.

In: settings. Out: tasks in the order they are to be run. Always: the same settings give the same tasks in the
same order; a wrong line is named by file and number.
"""

from __future__ import annotations

import json
import lzma
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from anyio import to_thread

from dreamsim.errors import (
    ConfigurationError,
    DatasetError,
    EnvironmentFailure,
    MissingExtraError,
    RecordError,
    UsageError,
)
from dreamsim.records import limits
from dreamsim.records.codec import task_from_json, task_to_json
from dreamsim.records.strict_json import parse_json
from dreamsim.records.task import Task
from dreamsim.runtime.bounded_files import read_numbered_lines
from dreamsim.runtime.config import Settings, TasksSection
from dreamsim.runtime.whole_files import replacing

DATA = Path(__file__).parents[1] / "data"
SHIPPED_TASKS = DATA / "tasks.jsonl.xz"
SHIPPED_EXPERIENCES = DATA / "experiences.jsonl.xz"
SHIPPED = "shipped"


async def tasks_of(settings: Settings) -> tuple[Task, ...]:
    """The tasks of a run, from wherever they come.

    Raises:
        UsageError: there are none with these settings, a line is wrong, or the environment is not installed.
    """
    if makes_tasks(settings):
        return await _made_by_environment(settings)
    return await to_thread.run_sync(load_tasks, settings)


def makes_tasks(settings: Settings) -> bool:
    """Whether the environment itself is to make the tasks."""
    return settings.tasks.file is None and settings.experience.kind != "scripted"


async def _made_by_environment(settings: Settings) -> tuple[Task, ...]:
    section = settings.tasks
    if section.environment.partition("/")[0] != "textworld_express":
        raise ConfigurationError(
            f"tasks.file is none, and '{section.environment}' makes no tasks itself: name a list, or take "
            "textworld_express"
        )
    if section.fold == "any":
        raise ConfigurationError("tasks.file is none: say of which fold the tasks are, --tasks.fold train, dev or test")
    try:
        from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
        from dreamsim_adapters.environments.textworld_express.games import DEFAULT_MIX, GameSpec
    except ImportError as error:
        raise MissingExtraError(
            error.name or "textworld-express", extra="textworld-express", purpose="making tasks"
        ) from error
    mix = tuple(GameSpec.parse(text) for text in section.mix) or DEFAULT_MIX
    try:
        async with TextWorldExpressEnvironment() as environment:
            count = section.count or settings.episodes
            return tuple(await environment.tasks(mix, fold=section.fold, count=count))
    except EnvironmentFailure as error:
        raise UsageError(f"the environment makes no tasks: {error}") from error


def load_tasks(settings: Settings) -> tuple[Task, ...]:
    """The tasks of a run, where they are on a list or scripted. Blocks: call it off the event loop.

    Raises:
        ConfigurationError: there are none with these settings.
        DatasetError: a line of the list is wrong.
    """
    section = settings.tasks
    if settings.experience.kind == "scripted":
        from dreamsim.testing.world import scripted_tasks

        return scripted_tasks(section.count or settings.episodes, rooms=settings.scripted.rooms)
    path = task_file(section)
    assert path is not None, "made by the environment: see `tasks_of`"
    wanted = [task for task in read_tasks(path) if _matches(task, section)]
    if not wanted:
        raise ConfigurationError(
            f"no task in {path} is of environment '{section.environment}' and fold '{section.fold}': "
            "change tasks.environment or tasks.fold"
        )
    mixed = mix_tasks(wanted, parse_mix(section.mix), section.count) if section.mix else wanted
    return tuple(mixed[: section.count])


def task_file(section: TasksSection) -> Path | None:
    """The task list asked for."""
    if section.file is None:
        return None
    return SHIPPED_TASKS if section.file == SHIPPED else Path(section.file)


def experience_file(settings: Settings) -> Path | None:
    """The real experiences to import at the start, or None."""
    if settings.store.experiences is None or settings.experience.kind == "scripted":
        return None
    return SHIPPED_EXPERIENCES if settings.store.experiences == SHIPPED else Path(settings.store.experiences)


def read_tasks(path: Path) -> Iterator[Task]:
    """Tasks of a list (`.jsonl`, `.jsonl.gz`, `.jsonl.xz`), one JSON object a line.

    Raises:
        DatasetError: a line is not a task, or the file cannot be read.
    """
    for number, line in read_numbered_lines(path):
        if len(line) > limits.LINE_BYTES:
            raise DatasetError(path, number, f"is longer than {limits.LINE_BYTES} bytes")
        try:
            yield task_from_json(parse_json(line))
        except (RecordError, ValueError) as error:
            raise DatasetError(path, number, str(error)) from error


def write_tasks(path: Path, tasks: Sequence[Task]) -> None:
    """Write a list that `read_tasks` reads, at once or not at all."""
    opened = lzma.open if path.suffix == ".xz" else open
    with replacing(path) as work, opened(work, "wt", encoding="utf-8") as file:
        for task in tasks:
            file.write(json.dumps(task_to_json(task), ensure_ascii=False, separators=(",", ":")) + "\n")


def parse_mix(mix: Sequence[str]) -> dict[str, float]:
    """Weights by variant from `twc=2`, `coin`.

    Raises:
        ConfigurationError: a weight is no positive number.
    """
    weights: dict[str, float] = {}
    for part in mix:
        name, equals, number = part.partition("=")
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = -1.0
        if not 0 < weight < float("inf"):
            raise ConfigurationError(f"tasks.mix: '{part}' is not NAME or NAME=WEIGHT with a positive weight")
        weights[name.strip()] = weight
    return weights


def mix_tasks(tasks: Sequence[Task], weights: Mapping[str, float], count: int | None) -> list[Task]:
    """Tasks of the named variants in the proportion of their weights, until one variant has no more.

    Raises:
        ConfigurationError: there are no tasks of a variant.
    """
    waiting: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        waiting[task.environment.rpartition("/")[2]].append(task)
    absent = [name for name in weights if name not in waiting]
    if absent:
        raise ConfigurationError(f"tasks.mix: no tasks of '{absent[0]}'; there are: {', '.join(sorted(waiting))}")
    total = sum(weights.values())
    taken = dict.fromkeys(weights, 0)
    mixed: list[Task] = []
    while count is None or len(mixed) < count:
        behind = max(weights, key=lambda name: weights[name] / total * (len(mixed) + 1) - taken[name])
        if taken[behind] == len(waiting[behind]):
            break
        mixed.append(waiting[behind][taken[behind]])
        taken[behind] += 1
    return mixed


def _matches(task: Task, section: TasksSection) -> bool:
    named = task.environment == section.environment or task.environment.startswith(section.environment + "/")
    return named and section.fold in ("any", task.fold)
