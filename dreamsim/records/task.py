"""A task: what an agent is asked to do, and where it begins.

In: an environment's task list, an imported trajectory or the curriculum. Out: a `Task`.
Always: `key` is a hash of the content, so the same task has the same key in every run and store. A task that a model
wrote says so in its parameters, and so wherever it is stored: no real environment begins as it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from dreamsim.records.state import State

JsonScalar: TypeAlias = str | int | float | bool | None
DEPTH = "written_depth"
PARENT = "written_from"
WRITER = "written_by"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a task that a model wrote comes from."""

    parent: str
    """Key of the task that it is a variation of."""
    depth: int
    """1 for a variation of a real task; else 1 + its parent's."""
    writer: str
    """Name and version of the model that wrote it."""

    @property
    def parameters(self) -> dict[str, JsonScalar]:
        """What `Task.parameters` says of it."""
        return {DEPTH: self.depth, PARENT: self.parent, WRITER: self.writer}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task, real or written by the curriculum."""

    environment: str
    """The environment's name, with a variant after a slash: `textworld_express/twc`."""
    instruction: str
    """What to do, in words, as the agent and the experience model read it."""
    first_state: State
    """The state an episode of this task begins in."""
    fold: str
    """`train`, `dev` or `test`. Splits are by task: a task of another fold is never retrieved from."""
    seed: int = 0
    """The environment's own seed for this task."""
    parameters: Mapping[str, JsonScalar] = field(default_factory=dict)
    """What the environment needs to set this task up again."""
    key: str = field(init=False, default="")
    """Hash of all of the above: 16 hexadecimal digits."""

    def __post_init__(self) -> None:
        content = json.dumps(
            [
                self.environment,
                self.instruction,
                self.first_state.lines,
                self.fold,
                self.seed,
                sorted(self.parameters.items()),
            ],
            ensure_ascii=False,
            separators=(",", ":"),
        )
        object.__setattr__(self, "key", hashlib.blake2b(content.encode(), digest_size=8).hexdigest())

    @property
    def lineage(self) -> Lineage | None:
        """Where it comes from, if a model wrote it."""
        depth = self.parameters.get(DEPTH)
        if not isinstance(depth, int):
            return None
        parent, writer = self.parameters.get(PARENT), self.parameters.get(WRITER)
        return Lineage(parent=str(parent), depth=depth, writer=str(writer))

    @property
    def synthetic(self) -> bool:
        """Whether a model wrote it: it can be dreamed, but not played in a real environment."""
        return DEPTH in self.parameters
