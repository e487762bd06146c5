"""The generator: asks a model for variations of tasks and lets through only what could be one.

It is M_task of Eq. 6 in arXiv 2511.03773: the experience model's own engine, asked in another way.

In: orders of the curriculum. Out: new tasks, each with its lineage and embedding; refusals, by reason.
Always: a task that is let through
- parses: instruction and first state, nothing missing, nothing said in two ways;
- is in the domain: the environment's adapter finds nothing impossible or foreign in it;
- is new: no known task says the same, and the nearest is further than `min_distance`;
- takes environment, fold and family parameters from its seed, and names its parent and its writer.
Whether it can be solved at all only a trial shows: that is the curriculum's part.

    reason          what was wrong with an answer
    engine          the engine failed, and another try may help
    length          longer than `max_tokens`
    parse           not a task
    domain: ...     what `TaskDomain.refusal` says
    known           says what a known task says
    near            nearer to a known task than `min_distance`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
import numpy as np
from numpy.typing import NDArray

from dreamsim.curriculum.novelty import KnownTasks
from dreamsim.curriculum.source import Curriculum
from dreamsim.curriculum.task_writing import family_parameters, parse_task, prompt_segments
from dreamsim.curriculum.written import Order
from dreamsim.errors import ContextOverflowError, EngineError, ParseError
from dreamsim.protocols import Engine, TaskDomain, Tokenizer
from dreamsim.records.completion import GenerationRequest, Sampling, empty_ids
from dreamsim.records.task import Lineage, Task
from dreamsim.records.text import END
from dreamsim.runtime.seeds import seed_of

ROLE: Final = "task writer"


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingSettings:
    """How a model is asked for tasks."""

    samples: int = 8
    """Answers asked for one order."""
    temperature: float = 0.7
    """Of sampling."""
    top_p: float = 1.0
    """Smallest set of tokens with this probability."""
    max_tokens: int = 512
    """Longest answer."""
    min_distance: float = 0.02
    """Least distance from every known task (`novelty`), not included."""
    seed: int = 0
    """Root of the seeds of requests."""
    head: NDArray[np.int32] = field(default_factory=empty_ids)
    """Ids before everything: the chat frame, shape [n]; empty for a model without one."""
    tail: NDArray[np.int32] = field(default_factory=empty_ids)
    """Ids after everything, shape [n]."""
    adapter: str | None = None
    """LoRA adapter, as the engine calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What came of one order."""

    task: Task | None
    """The new task; None where no answer could be let through."""
    vector: NDArray[np.float32] | None
    """Its embedding, shape [dimension]."""
    refused: Mapping[str, int]
    """Answers that were not let through, by reason."""


class TaskGenerator:
    """Writes tasks. Any number of orders may be under way at once."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        settings: WritingSettings,
        *,
        known: KnownTasks,
        domain: TaskDomain,
    ) -> None:
        """Write by `engine`, whose tokenizer is `tokenizer`, and let through what is new to `known` and in `domain`."""
        self._engine = engine
        self._tokenizer = tokenizer
        self._settings = settings
        self._known = known
        self._domain = domain
        end = tokenizer.encode(END)
        self._stop_token_ids = (int(end[0]),) if len(end) == 1 else ()

    async def write(self, order: Order) -> Written:
        """Ask for `samples` answers at once; the first of them, in their order, that can be let through counts.

        At once because planning waits for them, and their prompt is computed but once.

        Raises:
            EngineError: the engine is dead.
        """
        prompt = self._prompt(order)
        passed: dict[int, tuple[Task, NDArray[np.float32]]] = {}
        refused: Counter[str] = Counter()
        dead: list[EngineError] = []

        async def ask(sample: int) -> None:
            try:
                passed[sample] = await self._one(order, prompt, sample)
            except _RefusedError as why:
                refused[why.reason] += 1
            except EngineError as error:
                refused["engine"] += 1
                if not error.recoverable:
                    dead.append(error)

        async with anyio.create_task_group() as group:
            for sample in range(self._settings.samples):
                group.start_soon(ask, sample)
        if dead:
            raise dead[0]
        task, vector = passed[min(passed)] if passed else (None, None)
        return Written(task=task, vector=vector, refused=refused)

    async def _one(self, order: Order, prompt: NDArray[np.int32], sample: int) -> tuple[Task, NDArray[np.float32]]:
        settings = self._settings
        request = GenerationRequest(
            request_id=f"task-{order.number}-{sample}",
            prompt_token_ids=prompt,
            sampling=Sampling(
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                stop_token_ids=self._stop_token_ids,
            ),
            seed=seed_of(settings.seed, "task", order.number, sample),
            adapter=settings.adapter,
            role=ROLE,
        )
        try:
            completion = await self._engine.generate(request)
        except ContextOverflowError:
            raise _RefusedError("length") from None
        if completion.finish_reason == "length":
            raise _RefusedError("length")
        task = self._read(order, self._tokenizer.decode(completion.token_ids), completion.version)
        foreign = self._domain.refusal(task)
        if foreign is not None:
            raise _RefusedError(f"domain: {foreign}")
        if self._known.says_what_is_known(task):
            raise _RefusedError("known")
        novelty = await self._known.look(task)
        if novelty.distance <= settings.min_distance:
            raise _RefusedError("near")
        return task, novelty.vector

    def settle(self, curriculum: Curriculum, order: Order, written: Written) -> None:
        """Tell the curriculum what came of `order`, and know the task from now on.

        What another order has brought since is checked once more, so of equal tasks the first that is settled counts.
        """
        task, vector, refused = written.task, written.vector, Counter(written.refused)
        if task is not None and vector is not None:
            if self._known.says_what_is_known(task):
                refused["known"] += 1
            elif self._known.distance(task, vector) <= self._settings.min_distance:
                refused["near"] += 1
            else:
                self._known.add(task, vector)
                curriculum.take(order, task, vector)
        curriculum.refuse(order, refused)

    def remember(self, tasks: Sequence[Task]) -> None:
        """Know `tasks` too, which an earlier run wrote. Blocks: embeds them."""
        for task in tasks:
            self._known.add(task, self._known.embed(task))

    def _read(self, order: Order, text: str, version: str) -> Task:
        try:
            written = parse_task(text)
        except ParseError:
            raise _RefusedError("parse") from None
        seed = order.seed
        depth = 1 if seed.lineage is None else 1 + seed.lineage.depth
        lineage = Lineage(parent=seed.key, depth=depth, writer=f"{self._engine.name}@{version}")
        return Task(
            environment=seed.environment,
            instruction=written.instruction,
            first_state=written.first_state,
            fold=seed.fold,
            parameters={**family_parameters(seed), **lineage.parameters},
        )

    def _prompt(self, order: Order) -> NDArray[np.int32]:
        """The prompt, with as many other tasks as leave room for an answer."""
        settings = self._settings
        room = self._engine.max_model_len - settings.max_tokens - len(settings.head) - len(settings.tail)
        others = order.others
        while True:
            parts = [self._tokenizer.encode(segment) for segment in prompt_segments(order.seed, others)]
            if not others or sum(len(part) for part in parts) <= room:
                return np.concatenate([settings.head, *parts, settings.tail])
            others = others[:-1]


class _RefusedError(Exception):
    """An answer that is not let through."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def supply(curriculum: Curriculum, generator: TaskGenerator, *, at_once: int = 4) -> None:
    """Write what the curriculum orders until it is closed; never more than `at_once` orders at a time.

    Raises:
        EngineError: the engine is dead.
    """

    async def work() -> None:
        while not curriculum.closed:
            order = curriculum.order()
            if order is None:
                await curriculum.changed()
                continue
            generator.settle(curriculum, order, await generator.write(order))

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(work)
