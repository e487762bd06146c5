"""Things that go wrong, on a schedule that a seed fixes.

In: an environment, policy or sink that works. Out: the same, failing now and then in a stated way.
Always: what happens at a step depends on the schedule's seed, the episode and the step alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import anyio

from dreamsim.errors import EnvironmentFailure, ParseError
from dreamsim.protocols import Actor, Environment, EpisodeSession, EpisodeSink, Policy
from dreamsim.records.completion import Decision
from dreamsim.records.episode import Episode, Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import seed_of

Fault = Literal["error", "bug", "group", "hang", "foreign"]
FAULTS: tuple[Fault, ...] = ("error", "bug", "group", "hang", "foreign")
FAULT_KINDS: Mapping[Fault, str] = {
    "error": "environment",
    "bug": "unexpected",
    "group": "parse",
    "hang": "timeout",
    "foreign": "cancelled",
}
"""The error kind an episode should end with; a hang needs an episode time limit."""


class FaultSchedule:
    """Says what goes wrong, and where."""

    def __init__(self, seed: int, rates: Mapping[Fault, float]) -> None:
        """`rates` are probabilities per occasion; their sum is at most 1."""
        if sum(rates.values()) > 1:
            raise ValueError("the rates of all faults add up to more than 1")
        self._seed = seed
        self._rates = dict(rates)

    def fault(self, *where: str | int) -> Fault | None:
        """What goes wrong at this occasion, if anything."""
        drawn = seed_of(self._seed, "fault", *where) / 2**63
        for fault, rate in self._rates.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return None

    async def strike(self, *where: str | int) -> None:
        """Let happen what is due at this occasion."""
        fault = self.fault(*where)
        if fault is not None:
            await commit_fault(fault)


async def commit_fault(fault: Fault) -> None:
    """Let `fault` happen here."""
    if fault == "error":
        raise EnvironmentFailure("the scripted worker died")
    if fault == "bug":
        raise ValueError("a scripted bug")
    if fault == "group":
        raise ExceptionGroup("scripted", [KeyError("scripted"), ParseError("scripted: no <state>")])
    if fault == "hang":
        await anyio.sleep_forever()
    else:
        # What a library on plain asyncio does when it cancels a future we wait for.
        raise anyio.get_cancelled_exc_class()


class FaultyEnvironment:
    """An environment whose sessions fail on a schedule: when opened, at a step, when left."""

    def __init__(self, environment: Environment, schedule: FaultSchedule) -> None:
        """`environment`, with faults."""
        self._environment = environment
        self._schedule = schedule

    @property
    def name(self) -> str:
        """As the environment's."""
        return self._environment.name

    @property
    def source(self) -> Source:
        """As the environment's."""
        return self._environment.source

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        """Begin an episode. Nothing hangs while opening: that time is not the episode's own."""
        if self._schedule.fault("open", seed) not in (None, "hang"):
            await self._schedule.strike("open", seed)
        async with self._environment.session(task, episode_id=episode_id, seed=seed) as session:
            yield FaultySession(session, self._schedule, seed)
            await self._schedule.strike("close", seed)


class FaultySession:
    """One episode that may fail at a step."""

    __slots__ = ("_schedule", "_seed", "_session", "_step")

    def __init__(self, session: EpisodeSession, schedule: FaultSchedule, seed: int) -> None:
        self._session = session
        self._schedule = schedule
        self._seed = seed
        self._step = 0

    @property
    def state(self) -> State:
        """As the session's."""
        return self._session.state

    @property
    def admissible(self) -> tuple[str, ...]:
        """As the session's."""
        return self._session.admissible

    async def step(self, action: str) -> Transition:
        """Fail, or take `action`."""
        self._step += 1
        await self._schedule.strike("step", self._seed, self._step)
        return await self._session.step(action)


class FaultyPolicy:
    """A policy whose actors fail on a schedule."""

    def __init__(self, policy: Policy, schedule: FaultSchedule) -> None:
        """`policy`, with faults."""
        self._policy = policy
        self._schedule = schedule

    @property
    def name(self) -> str:
        """As the policy's."""
        return self._policy.name

    def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
        """Someone who may fail."""
        return _FaultyActor(self._policy.actor(task, episode_id=episode_id, seed=seed), self._schedule, seed)


class _FaultyActor:
    __slots__ = ("_actor", "_schedule", "_seed", "_step")

    def __init__(self, actor: Actor, schedule: FaultSchedule, seed: int) -> None:
        self._actor = actor
        self._schedule = schedule
        self._seed = seed
        self._step = 0

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        """Fail, or decide."""
        self._step += 1
        await self._schedule.strike("act", self._seed, self._step)
        return await self._actor.act(state, admissible)


class FaultySink:
    """A sink that fails on a schedule."""

    def __init__(self, sink: EpisodeSink, schedule: FaultSchedule) -> None:
        """`sink`, with faults."""
        self._sink = sink
        self._schedule = schedule

    async def add(self, episode: Episode) -> None:
        """Fail, or add."""
        await self._schedule.strike("add", episode.id)
        await self._sink.add(episode)
