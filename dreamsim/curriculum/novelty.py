"""Which tasks are known, and how far another one is from all of them.

In: tasks. Out: embeddings and cosine distances.
Always: two tasks that say the same (`task_writing.content_key`) are one; what is added is known from then on, and is
never further than 0 from itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from dreamsim.curriculum.task_writing import content_key
from dreamsim.curriculum.value import task_words
from dreamsim.protocols import Encoder
from dreamsim.records.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """How new a task is."""

    distance: float
    """1 - cosine similarity to the nearest known task of any family; 2 where none is known."""
    vector: NDArray[np.float32]
    """Its embedding, shape [dimension], of length 1."""


class KnownTasks:
    """All tasks that a new one must differ from."""

    def __init__(self, encoder: Encoder, tasks: Sequence[Task]) -> None:
        """Know `tasks`. Blocks: embeds them; call it off the event loop."""
        self._encoder = encoder
        self._keys = {content_key(task.instruction, task.first_state) for task in tasks}
        self.vectors: NDArray[np.float32] = encoder.encode([task_words(task) for task in tasks])
        """Of `tasks`, shape [tasks, dimension]."""
        self._different = np.unique(self.vectors, axis=0)

    def says_what_is_known(self, task: Task) -> bool:
        """Whether a known task says the same."""
        return content_key(task.instruction, task.first_state) in self._keys

    async def look(self, task: Task) -> Novelty:
        """How new `task` is; embedding and search run in a thread."""
        return await to_thread.run_sync(self._look, task)

    def _look(self, task: Task) -> Novelty:
        vector = self.embed(task)
        return Novelty(distance=self.distance(vector), vector=vector)

    def embed(self, task: Task) -> NDArray[np.float32]:
        """Its embedding, shape [dimension]. Blocks."""
        vector: NDArray[np.float32] = self._encoder.encode([task_words(task)])[0]
        return vector

    def distance(self, vector: NDArray[np.float32]) -> float:
        """1 - cosine similarity to the nearest known task; 2 where none is known."""
        nearest = float((self._different @ vector).max()) if len(self._different) else -1.0
        return max(0.0, 1.0 - nearest)

    def add(self, task: Task, vector: NDArray[np.float32]) -> None:
        """Know `task` too; its vector has shape [dimension]."""
        self._keys.add(content_key(task.instruction, task.first_state))
        self._different = np.concatenate([self._different, vector[None, :]])
