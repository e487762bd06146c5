"""Things that go wrong, on a schedule that a seed fixes.

In: an environment or a policy that works (engines, stores and trainers: `faulty_engine`, `faulty_store`,
`faulty_trainer`). Out: the same, failing now and then in a stated way.
Always: what happens at a call is a function of the schedule's seed, the name of what is called and which call of that
name it is, and of nothing else; so the interleaving of episodes changes nothing as long as names are an episode's own.

    schedule = FaultSchedule(0, dict.fromkeys(FAULTS, 0.01))
    engine = FaultyEngine(engine, schedule)
    environment = FaultyEnvironment(environment, schedule)

| kind | what happens |
|---|---|
| `error` | the part's own typed error, which says that another try may help |
| `bug` | a ValueError |
| `group` | an exception group with a typed error inside |
| `hang` | no answer ever; only a cancellation ends the call |
| `slow` | the right answer, `slow_s` seconds late |
| `garbage` | an answer of noise: bytes that are no text, control signs, numbers that are none |
| `truncated` | an answer cut off in the middle |
| `disconnect` | a ConnectionResetError, as a library lets it through |
| `foreign` | a CancelledError that no scope of anyio asked for |
| `dead` | the part is gone: this call and every later one of the same engine or session fails |
| `disk_full` | ENOSPC of a file, `database or disk is full` of a database |
| `read_only` | EROFS of a file, `attempt to write a readonly database` |
| `locked` | `database is locked` |
| `corrupt_index` | the search fails as a damaged index does (`damage_index` damages the files) |
| `clock_jump` | the time of day jumps, an hour at most, either way; monotonic time jumps forward |
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal, get_args

import anyio

from dreamsim.errors import EnvironmentFailure, EpisodeError, ParseError
from dreamsim.protocols import Actor, Environment, EpisodeSession, Policy
from dreamsim.records.completion import Decision
from dreamsim.records.episode import Source, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import generator, seed_of

Fault = Literal[
    "error",
    "bug",
    "group",
    "hang",
    "slow",
    "garbage",
    "truncated",
    "disconnect",
    "foreign",
    "dead",
    "disk_full",
    "read_only",
    "locked",
    "corrupt_index",
    "clock_jump",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
"""Every kind."""
FAILING: tuple[Fault, ...] = ("error", "bug", "group", "hang", "disconnect", "foreign", "dead")
"""Those that end a step of an environment without an answer."""
FAULT_KINDS: Mapping[Fault, str] = {
    "error": "environment",
    "bug": "unexpected",
    "group": "parse",
    "hang": "timeout",
    "disconnect": "unexpected",
    "foreign": "cancelled",
    "dead": "environment",
}
"""The error kind that an episode ends with after one of `FAILING`; a hang needs an episode time limit."""
NOISE = "\x00\x07\x1b[31m\u202e\ud800\udfff\ufeff<state> <done> \r\n\t\"'\\;--{}[]\x7f\u2028"
"""What garbage is made of: control signs, lone surrogates, an escape sequence, tags of our own layout."""


class FaultSchedule:
    """Says what goes wrong, and where."""

    def __init__(self, seed: int, rates: Mapping[Fault, float], *, slow_s: float = 2.0) -> None:
        """A schedule.

        Args:
            seed: of all draws.
            rates: probability per call, by kind; their sum is at most 1. A part ignores kinds that it cannot have.
            slow_s: how late a slow answer comes, seconds of the event loop's time.
        """
        unknown = set(rates) - set(FAULTS)
        if unknown:
            raise ValueError(f"there is no fault called {min(unknown)!r}; there are {', '.join(FAULTS)}")
        if any(rate < 0 for rate in rates.values()) or sum(rates.values()) > 1 + 1e-9:
            raise ValueError("a rate is a probability, and the rates of all faults add up to at most 1")
        self._seed = seed
        self._rates = dict(rates)
        self._calls: Counter[str] = Counter()
        self.slow_s = slow_s
        """How late a slow answer comes."""
        self.struck: Counter[Fault] = Counter()
        """Faults that a part has committed so far, by kind."""

    def fault(self, *where: str | int) -> Fault | None:
        """What goes wrong at this occasion, if anything. Pure."""
        drawn = seed_of(self._seed, "fault", *where) / 2**63
        for fault, rate in self._rates.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return None

    def due(self, name: str, kinds: Sequence[Fault]) -> Fault | None:
        """What goes wrong at this call of `name`, if it is one of `kinds`: the n-th call gets `fault(name, n)`."""
        number = self._calls[name]
        self._calls[name] += 1
        fault = self.fault(name, number)
        if fault is None or fault not in kinds:
            return None
        self.struck[fault] += 1
        return fault

    def noise(self, *where: str | int) -> str:
        """A line of garbage."""
        drawn = generator(self._seed, "noise", *where).integers(len(NOISE), size=24)
        return "".join(NOISE[place] for place in drawn)

    async def strike(self, *where: str | int) -> None:
        """Let happen what is due at this occasion."""
        fault = self.fault(*where)
        if fault is not None:
            self.struck[fault] += 1
            await commit_fault(fault, slow_s=self.slow_s)


async def commit_fault(
    fault: Fault, *, error: type[EpisodeError] = EnvironmentFailure, slow_s: float = 2.0, what: str = "worker"
) -> None:
    """Let `fault` happen here; a kind that needs an answer to spoil, or files, does nothing here."""
    if fault in ("error", "dead"):
        raise error(f"the scripted {what} died")
    if fault == "bug":
        raise ValueError("a scripted bug")
    if fault == "group":
        raise ExceptionGroup("scripted", [KeyError("scripted"), ParseError("scripted: no <state>")])
    if fault == "disconnect":
        raise ConnectionResetError(104, f"the scripted {what} hung up")
    if fault == "hang":
        await anyio.sleep_forever()
    if fault == "slow":
        await anyio.sleep(slow_s)
    if fault == "foreign":
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

    __slots__ = ("_dead", "_schedule", "_seed", "_session", "_step")

    def __init__(self, session: EpisodeSession, schedule: FaultSchedule, seed: int) -> None:
        self._session = session
        self._schedule = schedule
        self._seed = seed
        self._step = 0
        self._dead = False

    @property
    def state(self) -> State:
        """As the session's."""
        return self._session.state

    @property
    def admissible(self) -> tuple[str, ...]:
        """As the session's."""
        return self._session.admissible

    async def step(self, action: str) -> Transition:
        """Fail, or take `action`; what it led to may be told wrongly."""
        self._step += 1
        where = ("step", self._seed, self._step)
        fault = self._schedule.fault(*where)
        self._dead = self._dead or fault == "dead"
        if self._dead:
            await commit_fault("dead")
        await self._schedule.strike(*where)
        transition = await self._session.step(action)
        if fault == "garbage":
            noise = self._schedule.noise(*where)
            return dataclasses.replace(transition, state=State.of([noise, *transition.state.lines]), reasoning=noise)
        if fault == "truncated":
            lines = transition.state.lines
            return dataclasses.replace(transition, state=State(lines=lines[: len(lines) // 2]))
        return transition


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
