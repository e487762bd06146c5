"""A task: what an agent is asked to do, and where it begins.

In: an environment's task list, an imported trajectory or (later) the curriculum. Out: a `Task`.
Always: `key` is a hash of the content, so the same task has the same key in every run and store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from dreamsim.records.state import State

JsonScalar: TypeAlias = str | int | float | bool | None


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
