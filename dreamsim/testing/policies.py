"""Policies without a model.

In: states and admissible actions. Out: decisions that depend on the task and the seed alone.
Always: an actor never waits unless a latency is asked for; a policy object keeps nothing of an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from dreamsim.errors import PolicyError
from dreamsim.protocols import Actor
from dreamsim.records.completion import Decision
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import seed_of
from dreamsim.testing.world import gold_path


class ScriptedPolicy:
    """Plays a fixed list of actions per task: by default the gold path of a scripted task."""

    def __init__(
        self,
        script: Callable[[Task], Sequence[str]] = gold_path,
        *,
        name: str = "scripted-policy-1",
        latency_s: float = 0.0,
    ) -> None:
        """`script` gives the actions of a task; each decision takes `latency_s` seconds."""
        self._script = script
        self._name = name
        self._latency_s = latency_s

    @property
    def name(self) -> str:
        """Name and version."""
        return self._name

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who plays the script."""
        return _Reader(self._script(task), self._latency_s)


class _Reader:
    __slots__ = ("_actions", "_latency_s", "_next")

    def __init__(self, actions: Sequence[str], latency_s: float) -> None:
        self._actions = actions
        self._latency_s = latency_s
        self._next = 0

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """The next line of the script."""
        if self._latency_s:
            await anyio.sleep(self._latency_s)
        if self._next >= len(self._actions):
            raise PolicyError(f"the script of {len(self._actions)} actions is played out")
        self._next += 1
        return Decision(action=self._actions[self._next - 1])


class RandomPolicy:
    """Takes any admissible action, by the seed; where the environment names none, one of `otherwise`."""

    def __init__(self, *, otherwise: Sequence[str] = ("wait",), name: str = "random-policy-1") -> None:
        """`otherwise` is used where no admissible actions are known."""
        self._otherwise = tuple(otherwise)
        self._name = name

    @property
    def name(self) -> str:
        """Name and version."""
        return self._name

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who acts at random."""
        return _Dice(seed, self._otherwise)


class _Dice:
    __slots__ = ("_otherwise", "_seed", "_step")

    def __init__(self, seed: int, otherwise: tuple[str, ...]) -> None:
        self._seed = seed
        self._otherwise = otherwise
        self._step = 0

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """Any action."""
        choices = admissible or self._otherwise
        chosen = choices[seed_of(self._seed, "action", self._step) % len(choices)]
        self._step += 1
        return Decision(action=chosen)
