"""The experience model's prompt as token ids, grown one step at a time.

In: a task, retrieved experiences, actions and the answers given so far. Out: prompt ids.
Always:
- Every segment is tokenized once and copied once; `ask` copies what has grown so far and the few ids that are new.
- What does not change comes first: head, header, examples retrieved once, past steps. What is new comes last:
  examples retrieved for this step, the action, tail. So the engine's prefix cache covers all but the new part.
- Trainers build their samples with this class: what is learned is what is asked.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dreamsim.experience import format as text
from dreamsim.protocols import Tokenizer
from dreamsim.records.completion import empty_ids
from dreamsim.records.experience import Experience
from dreamsim.records.growing import GrowingIds
from dreamsim.records.task import Task

Retrieve = Literal["episode", "step", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLayout:
    """What the prompt holds; ablations are switched off here."""

    retrieve: Retrieve = "step"
    """When experiences are retrieved: per episode (the whole prompt is then a prefix of the next), per step, never."""
    demonstrations: int = 4
    """How many, at most."""
    example_state: bool = True
    """Whether a demonstration shows the state before its action."""
    history: bool = True
    """Whether past steps are shown."""
    reasoning: bool = True
    """Whether the model reasons before it answers."""
    head: NDArray[np.int32] = field(default_factory=empty_ids)
    """Ids before everything: system prompt and chat frame, shape [n]; empty for a model without one."""
    tail: NDArray[np.int32] = field(default_factory=empty_ids)
    """Ids after everything: the end of the chat frame, shape [n]."""


class ExperiencePrompt:
    """The prompt of one episode."""

    __slots__ = ("_ends", "_ids", "_layout", "_tokenizer")

    def __init__(
        self, tokenizer: Tokenizer, layout: PromptLayout, task: Task, examples: Sequence[Experience] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._layout = layout
        parts = [layout.head, tokenizer.encode(text.header(task)), *map(self._example, examples)]
        self._ids = GrowingIds(parts)
        self._ends = array("i", accumulate(map(len, parts)))

    @property
    def parts(self) -> tuple[NDArray[np.int32], ...]:
        """What the prompt has grown to so far, without the tail."""
        return tuple(self._ids.view(begin, end) for begin, end in pairwise([0, *self._ends]))

    def ask(self, action: str, examples: Sequence[Experience] = ()) -> NDArray[np.int32]:
        """The ids that ask what `action` leads to, shape [n]. Does not change the prompt."""
        new = [self._example(example) for example in examples]
        asked = self._tokenizer.encode(text.action_segment(action))
        return np.concatenate([self._ids.view(), *new, asked, self._layout.tail])

    def append(self, action: str, answer: NDArray[np.int32] | str) -> None:
        """Add a past step: the answer as the ids that were generated, or as text (real steps)."""
        if not self._layout.history:
            return
        asked = self._tokenizer.encode(text.action_segment(action))
        self._ids.append(asked, self._tokenizer.encode(answer) if isinstance(answer, str) else answer)
        self._ends.extend((self._ends[-1] + len(asked), len(self._ids)))

    def _example(self, experience: Experience) -> NDArray[np.int32]:
        segment = text.example_segment(
            experience, with_state=self._layout.example_state, with_reasoning=self._layout.reasoning
        )
        return self._tokenizer.encode(segment)
