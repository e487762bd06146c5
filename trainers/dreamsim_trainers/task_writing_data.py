"""Training samples for the writing of tasks, from real tasks.

In: real tasks, a tokenizer. Out: samples of token ids and labels.
Always:
- A sample is a seed task and one to `others` + 1 other real tasks of its family (environment, fold, parameters), laid
  out by `dreamsim.curriculum.task_writing`, the code that asks at inference. Nothing in it is invented: a task with
  renamed things need not be solvable.
- Each task after the seed is a variation of it: of `candidates` tasks drawn from the family, the one that shares most
  lines with the seed. Loss falls on each of them, for each stands where an answer stands.
- No two tasks of a sample say the same thing, so a copy of what is shown is never the answer; of real tasks that say
  the same thing only the first is used, so rare ones are written as readily as frequent ones.
- The same seed gives the same samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dreamsim.curriculum.task_writing import content_key, family_of, prompt_segments, task_text
from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Tokenizer
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import generator
from dreamsim_trainers.experience_data import IGNORED, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWriting:
    """How samples of task writing are made."""

    others: int = 3
    """Most tasks shown besides the seed; how many is drawn for each sample, from 0."""
    candidates: int = 8
    """Tasks drawn of which the nearest to the seed becomes the next one shown."""
    max_tokens: int = 1024
    """Longest sample: tasks that no longer fit are left out."""
    seed: int = 0
    """Seed of every draw."""


def task_writing_samples(
    tasks: Iterable[Task], tokenizer: Tokenizer, count: int, settings: TaskWriting | None = None
) -> Iterator[Sample]:
    """`count` samples; each family as often as it has different tasks.

    Raises:
        ConfigurationError: no family has two different tasks, or none is short enough.
    """
    settings = TaskWriting() if settings is None else settings
    families = [family for family in families_of(tasks) if len(family) > 1]
    if count and not families:
        raise ConfigurationError("task writing is learned from tasks of one family, and no two of these are of one")
    sizes = np.array([len(family) for family in families], dtype=np.float64)
    made = 0
    for number in range(count * 4):
        if made == count:
            return
        draw = generator(settings.seed, "family", number)
        family = families[int(draw.choice(len(families), p=sizes / sizes.sum()))]
        sample = _sample(variations(family, number, settings), tokenizer, settings.max_tokens)
        if sample is not None:
            made += 1
            yield sample
    if made < count:
        raise ConfigurationError(f"only {made} samples of task writing have at most {settings.max_tokens} tokens")


def families_of(tasks: Iterable[Task]) -> list[list[Task]]:
    """Real tasks by family, each task that says something new once, in the order of first appearance."""
    families: dict[str, dict[str, Task]] = defaultdict(dict)
    for task in tasks:
        families[family_of(task)].setdefault(content_key(task.instruction, task.first_state), task)
    return [list(family.values()) for family in families.values()]


def variations(family: Sequence[Task], number: int, settings: TaskWriting) -> list[Task]:
    """A seed and one to `others` + 1 variations of it, all different; `number` names the draw."""
    draw = generator(settings.seed, "task-writing", number)
    wanted = 1 + int(draw.integers(settings.others + 1))
    order = draw.permutation(len(family))
    seed, rest = family[int(order[0])], [int(place) for place in order[1:]]
    lines = set(seed.first_state.lines)
    shown = [seed]
    while rest and len(shown) <= wanted:
        drawn = rest[: settings.candidates]
        nearest = max(drawn, key=lambda place: _shared(lines, family[place]))  # of equals, the first drawn
        rest.remove(nearest)
        rest = [*rest[settings.candidates - 1 :], *rest[: settings.candidates - 1]]
        shown.append(family[nearest])
    return shown


def _shared(lines: set[str], task: Task) -> float:
    """Jaccard similarity of a task's first state with `lines`."""
    other = set(task.first_state.lines)
    return len(lines & other) / max(1, len(lines | other))


def _sample(tasks: Sequence[Task], tokenizer: Tokenizer, max_tokens: int) -> Sample | None:
    """The layout of `tasks` as far as it fits; None where not even one variation does."""
    segments = [*prompt_segments(tasks[0], tasks[1:-1]), task_text(tasks[-1].instruction, tasks[-1].first_state)]
    ids = [tokenizer.encode(segment) for segment in segments]
    fitting = len(ids)
    while fitting > 3 and sum(len(part) for part in ids[:fitting]) > max_tokens:
        fitting -= 2
    if fitting <= 3:
        return None
    labels = [
        part if place > 2 and place % 2 == 0 else np.full_like(part, IGNORED)
        for place, part in enumerate(ids[:fitting])
    ]
    return Sample(input_ids=np.concatenate(ids[:fitting]), labels=np.concatenate(labels))
