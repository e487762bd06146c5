"""Training samples for an experience model, from stored real episodes.

In: episodes with reasoning, a tokenizer, a pool of experiences to retrieve demonstrations from. Out: samples of token
ids and labels. Always:
- Samples are made by `dreamsim.experience.prompt`, the code that asks at inference.
- Loss falls on what the model is to write (reasoning, state, reward, done); `-100` masks the rest, unless
  `loss_on="all"`, which a small model trained from scratch can use to learn the shape of everything.
- Demonstrations are retrieved as at inference: of the same environment, and never of the same task.
- `retrieve="episode"` gives one sample per episode with every step in it; `"step"` gives one sample per step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConfigurationError
from dreamsim.experience.format import transition_answer
from dreamsim.experience.prompt import ExperiencePrompt, PromptLayout
from dreamsim.protocols import Encoder, Tokenizer
from dreamsim.records.episode import Episode, Transition
from dreamsim.records.experience import Experience, embedding_text
from dreamsim.records.state import StateMemory, changes
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import seed_of
from dreamsim_trainers.renaming import rename_episode, renumber_episode

IGNORED = -100
LossOn = Literal["answers", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renaming:
    """Which episodes have their things renamed (`dreamsim_trainers.renaming`), for models trained from scratch."""

    share: float
    """Share of episodes, in [0, 1]."""
    names: frozenset[str]
    """Names that may change."""
    knowledge: str = ""
    """Steps whose reasoning holds this word depend on what a name means: not learned from renamed episodes."""
    renumber: float = 0.0
    """Share of episodes, in [0, 1], in which the numbers of names such as `mug 2` are shuffled within their kind."""
    seed: int = 0
    """Seed of the choice of episodes and names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One training sequence."""

    input_ids: NDArray[np.int32]
    """Shape [n]."""
    labels: NDArray[np.int32]
    """Shape [n]; `IGNORED` where no loss falls."""


class DemonstrationPool:
    """Experiences with their vectors, searched exactly: for training, where all queries are known beforehand."""

    def __init__(self, episodes: Sequence[Episode], encoder: Encoder) -> None:
        self._encoder = encoder
        self._experiences = [experience for episode in episodes for experience in experiences_of(episode)]
        self._tasks = np.array([_number(experience.task_key) for experience in self._experiences])
        self._environments = np.array([_number(experience.environment) for experience in self._experiences])
        texts = [embedding_text(experience.state, experience.action) for experience in self._experiences]
        self._vectors = encoder.encode(texts) if texts else np.zeros((0, 1), dtype=np.float32)

    def nearest(self, queries: Sequence[tuple[tuple[str, ...], str, Task]], k: int) -> list[tuple[Experience, ...]]:
        """For each (state lines, action, task) the k nearest experiences of other tasks in the task's environment, the
        nearest first; fewer where there are no more."""
        if k < 1 or not self._experiences:
            return [()] * len(queries)
        found: list[tuple[Experience, ...]] = []
        for start in range(0, len(queries), 256):
            block = queries[start : start + 256]
            vectors = self._encoder.encode([embedding_text(state, action) for state, action, _ in block])
            similarities = vectors @ self._vectors.T  # [block, pool]
            for near, (_, _, task) in zip(similarities, block, strict=True):
                others = (self._tasks != _number(task.key)) & (self._environments == _number(task.environment))
                far = np.where(others, -near, np.inf)
                best = np.argpartition(far, min(k, len(far)) - 1)[:k]
                best = best[np.argsort(far[best], kind="stable")]
                found.append(tuple(self._experiences[index] for index in best if others[index]))
        return found


def _number(text: str) -> int:
    """A number for a text, to compare many at a time."""
    return seed_of(0, text)


def experiences_of(episode: Episode) -> Iterator[Experience]:
    """The steps of an episode as experiences."""
    memory = StateMemory(episode.task.first_state)
    for index, transition in enumerate(episode.transitions):
        before = memory.current
        changed = changes(memory, transition.state)
        memory.see(transition.state)
        yield Experience(
            id=f"{episode.id}:{index}",
            episode_id=episode.id,
            task_key=episode.task.key,
            environment=episode.task.environment,
            fold=episode.task.fold,
            source=episode.source,
            instruction=episode.task.instruction,
            state=before.lines,
            action=transition.action,
            changes=changed,
            next_state=transition.state.lines,
            reasoning=transition.reasoning,
            reward=transition.reward,
            outcome=transition.outcome,
        )


def samples(
    episodes: Sequence[Episode],
    tokenizer: Tokenizer,
    layout: PromptLayout,
    pool: DemonstrationPool | None,
    *,
    loss_on: LossOn = "answers",
    max_tokens: int = 1024,
    renaming: Renaming | None = None,
) -> Iterator[Sample]:
    """Every sample of `episodes`; steps beyond `max_tokens` are left out. `renaming` is for `retrieve != "step"`.

    Raises:
        ConfigurationError: experiences of the whole episode are to be shown, but nothing else of it.
    """
    if layout.retrieve == "episode" and not layout.history:
        raise ConfigurationError("without history, a step stands alone: retrieve for each step, or not at all")
    for start in range(0, len(episodes), 512):
        block = episodes[start : start + 512]
        if layout.retrieve == "step" or not layout.history:
            yield from _step_samples(block, tokenizer, layout, pool, loss_on, max_tokens)
        else:
            yield from _episode_samples(block, tokenizer, layout, pool, loss_on, max_tokens, renaming)


def _episode_samples(
    episodes: Sequence[Episode],
    tokenizer: Tokenizer,
    layout: PromptLayout,
    pool: DemonstrationPool | None,
    loss_on: LossOn,
    max_tokens: int,
    renaming: Renaming | None,
) -> Iterator[Sample]:
    shown: list[tuple[Experience, ...]] = [()] * len(episodes)
    if pool is not None and layout.retrieve == "episode":
        queries = [(e.task.first_state.lines, e.task.instruction, e.task) for e in episodes]
        shown = pool.nearest(queries, layout.demonstrations)
    for real, examples in zip(episodes, shown, strict=True):
        episode, renamed = (real, False) if renaming is None else _renamed(real, renaming)
        prompt = ExperiencePrompt(tokenizer, layout, episode.task, examples)
        learned = [False] * len(prompt.parts)
        for transition, (action, answer) in zip(episode.transitions, _answers(episode, layout), strict=True):
            prompt.append(action, answer)
            learned += [False, not (renamed and _needs_names(transition, renaming))]
        sample = _sample(prompt.parts, learned, loss_on, max_tokens)
        if sample is not None:
            yield sample


def _needs_names(transition: Transition, renaming: Renaming | None) -> bool:
    return renaming is not None and bool(renaming.knowledge) and renaming.knowledge in transition.reasoning


def _renamed(real: Episode, renaming: Renaming) -> tuple[Episode, bool]:
    """The episode as it is to be learned, and whether its things have other names."""
    generator = np.random.default_rng(seed_of(renaming.seed, "renaming", real.id))
    renamed = generator.random() < renaming.share
    episode = rename_episode(real, renaming.names, generator) if renamed else real
    if generator.random() < renaming.renumber:
        episode = renumber_episode(episode, generator)
    return episode, renamed


def _step_samples(
    episodes: Sequence[Episode],
    tokenizer: Tokenizer,
    layout: PromptLayout,
    pool: DemonstrationPool | None,
    loss_on: LossOn,
    max_tokens: int,
) -> Iterator[Sample]:
    steps = [(e, experience) for e in episodes for experience in experiences_of(e)]
    queries = [(step.state, step.action, e.task) for e, step in steps]
    found: list[tuple[Experience, ...]] = [()] * len(queries)
    if pool is not None and layout.retrieve == "step":
        found = pool.nearest(queries, layout.demonstrations)
    number = 0
    for episode in episodes:
        prompt = ExperiencePrompt(tokenizer, layout, episode.task)
        for action, answer in _answers(episode, layout):
            target = tokenizer.encode(answer)
            sample = _sample([prompt.ask(action, found[number]), target], [False, True], loss_on, max_tokens)
            if sample is not None:
                yield sample
            prompt.append(action, target)
            number += 1


def _answers(episode: Episode, layout: PromptLayout) -> Iterator[tuple[str, str]]:
    memory = StateMemory(episode.task.first_state)
    for transition in episode.transitions:
        changed = changes(memory, transition.state)
        memory.see(transition.state)
        yield transition.action, transition_answer(transition, changed, with_reasoning=layout.reasoning)


def _sample(
    parts: Sequence[NDArray[np.int32]], learned: Sequence[bool], loss_on: LossOn, max_tokens: int
) -> Sample | None:
    ids: list[NDArray[np.int32]] = []
    labels: list[NDArray[np.int32]] = []
    length = 0
    for part, learn in zip(parts, learned, strict=True):
        length += len(part)
        if length > max_tokens:
            break
        ids.append(part)
        labels.append(part if learn or loss_on == "all" else np.full_like(part, IGNORED))
    if not any((label != IGNORED).any() for label in labels):
        return None
    return Sample(input_ids=np.concatenate(ids), labels=np.concatenate(labels))


def names_of(episodes: Iterable[Episode], *, leave_out: Callable[[str], bool] = lambda name: False) -> list[str]:
    """Names of all elements that occur in the states of `episodes`, sorted."""
    names: set[str] = set()
    for episode in episodes:
        for state in (episode.task.first_state, *(t.state for t in episode.transitions)):
            names.update(state.elements)
    return sorted(name for name in names if not leave_out(name))
