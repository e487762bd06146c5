"""One episode: an actor and a session take turns until the task ends, the steps run out or something fails.

In: an `Assignment`. Out: an `Episode`, whatever happens.
Always:
- what happened before a failure is kept: an episode that ends in an error has all its transitions so far;
- a step whose reward or score is no finite number fails the episode, not the store that would hold it;
- steps, or names of parts, of which no record can be made fail the episode, too;
- an environment that ends an episode early (`TruncationError`) has it stored as truncated, without the step asked for;
- an episode that a dead engine ended is marked as cut off with the run (`flow.archive.was_cut_off`);
- an outcome that was reached stands, and so does what failed first, even if leaving the session then fails or takes
  longer than `CLOSING_SECONDS`: after that it is cancelled, however the episode ended;
- the episode's time limit counts from the first step: waiting for admission, for a free worker of a real
  environment, for the store, in a paused run or for a place at the engine (`runtime.own_time`) does not use it up;
- a decision that holds no action uses up a step in which nothing changes; the environment is not asked;
- seeds come from the run's seed, the task and the repeat alone, so neighbours change nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import anyio.lowlevel

from dreamsim.errors import (
    ConfigurationError,
    DreamsimError,
    EnvironmentFailure,
    EpisodeCancelledError,
    EpisodeTimeoutError,
    TruncationError,
    UnexpectedError,
)
from dreamsim.protocols import Actor, Assignment, Environment, EpisodeSession, Policy
from dreamsim.records.completion import Decision
from dreamsim.records.episode import Episode, EpisodeOutcome, Transition, episode_id
from dreamsim.records.quality import trust_scores
from dreamsim.records.state import NO_ACTION, State, after_nothing
from dreamsim.runtime.boundary import CUT_OFF, MESSAGE_LIMIT, Boundary, Failure, failure_of, leaves
from dreamsim.runtime.limits import Gate
from dreamsim.runtime.own_time import own_time
from dreamsim.runtime.seeds import seed_of
from dreamsim.runtime.snapshot import PAUSED
from dreamsim.runtime.telemetry import LiveEpisode, Telemetry

CLOSING_SECONDS = 10.0
"""Most time that leaving a session may take before it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """What all episodes of a run have in common."""

    run: str
    """The run's name, part of every episode's id."""
    seed: int = 0
    """Root of all seeds."""
    max_steps: int = 50
    """An episode that is not over after this many steps is truncated."""
    episode_seconds: float | None = None
    """Most time for the steps of one episode; None is no limit."""
    generation: int = 1
    """Of dreamed episodes: 1 + the greatest generation of what the experience model was trained on."""
    world_size: int = 1
    """So many consecutive repeats of a task share the environment's seed: the attempts of a group meet one world, as
    far as their actions agree, and each group another one."""

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ConfigurationError("max_steps must be at least 1: an episode without a step says nothing")
        if self.episode_seconds is not None and self.episode_seconds <= 0:
            raise ConfigurationError("episode_seconds must be positive; leave it out for no limit")
        if self.world_size < 1:
            raise ConfigurationError("world_size must be at least 1: each episode has a world")
        if self.generation < 1:
            raise ConfigurationError("generation must be at least 1: 0 is what really happened")

    def episode_id(self, assignment: Assignment) -> str:
        """The id that the assignment's episode will have."""
        return episode_id(self.run, assignment.task.key, assignment.repeat)


@dataclass(slots=True)
class _Course:
    """What has happened in an episode so far."""

    transitions: list[Transition] = field(default_factory=list)
    """Its steps."""
    outcome: EpisodeOutcome | None = None
    """How it ended, once it has."""
    stopped: BaseException | None = None
    """What ended its steps without an outcome, other than its time limit."""


class Rollout:
    """Plays episodes of one environment with one policy."""

    def __init__(
        self,
        *,
        environment: Environment,
        policy: Policy,
        settings: RolloutSettings,
        telemetry: Telemetry,
        gate: Gate | None = None,
    ) -> None:
        """Ready to `play`; any number at once. While `gate` is closed no step is begun."""
        self._environment = environment
        self._source = environment.source
        self._policy = policy
        self.settings = settings
        self._telemetry = telemetry
        self._gate = Gate() if gate is None else gate
        self._acting = telemetry.station("policy")
        self._stepping = telemetry.station("environment")
        self.halt: DreamsimError | None = None
        """Why nothing more should be begun, if anything says so: an engine is dead, no later episode can succeed."""
        self._running: LiveEpisode | None = None
        """Whose step was begun last."""
        self.cut = False
        """Whether what is being played is to be cut off as well, once there is a reason."""

    async def play(self, assignment: Assignment, live: LiveEpisode, *, attempt: int = 0) -> Episode:
        """Play one episode; each further `attempt` at it has seeds of its own. Never raises for what the episode did.

        A cancellation of a scope around the call ends the episode with kind `cancelled` and is not raised
        here; anyio raises it again at the caller's next checkpoint, so shield what keeps the episode.
        """
        clock = self._telemetry.clock
        started_at, begun = clock.unix(), clock.monotonic()
        course, limit = _Course(), anyio.CancelScope()
        with Boundary() as caught, limit:
            await self._play(assignment, live, attempt, limit, course)
        failure = None if course.outcome is not None else self._failure(caught, course, limit, live)
        if course.outcome is not None and caught.failure is not None:
            self._telemetry.counters["session_close_failed"] += 1
        dead = next((one.dead_engine for one in (failure, caught.failure) if one is not None and one.dead_engine), None)
        if dead is not None:
            self.halt = dead
        if failure is not None and failure.dead_engine is not None:
            # Nothing is wrong with the episode: it is owed, by whoever goes on with another engine.
            failure = replace(failure, message=f"{CUT_OFF}: {failure.message}"[:MESSAGE_LIMIT])
        return self._episode(
            assignment,
            transitions=tuple(course.transitions),
            outcome="error" if course.outcome is None else course.outcome,
            failure=failure,
            started_at=started_at,
            duration_s=clock.monotonic() - begun,
        )

    def _failure(self, caught: Boundary, course: _Course, limit: anyio.CancelScope, live: LiveEpisode) -> Failure:
        """Why an episode has no outcome: what ended its steps, also where leaving its session then failed otherwise."""
        stopped, cancelled_type = course.stopped, anyio.get_cancelled_exc_class()
        if stopped is None and limit.cancel_called and not caught.cancelled:
            said = f"not over after {self.settings.episode_seconds} s of its own time, in step {live.step}"
            return Failure(kind=EpisodeTimeoutError.kind, message=said)
        if stopped is not None and not _is_about(caught.error, stopped):
            if not all(isinstance(leaf, cancelled_type) for leaf in leaves(stopped)):
                return failure_of(stopped, cancelled_type=cancelled_type)
            if anyio.current_effective_deadline() == -math.inf:
                return Failure(kind=EpisodeCancelledError.kind, message=CUT_OFF)
            # Else who cancelled it may be what the session says when it is left.
        # A session may swallow what ended it (anyio groups do so with foreign cancellations).
        said = "the session was left before the episode was over, and nothing was raised"
        return caught.failure or Failure(kind=EpisodeCancelledError.kind, message=said)

    def lost(self, assignment: Assignment, said: str) -> Episode:
        """The episode of an assignment that never came to play; `said` is why."""
        failure = Failure(kind=EpisodeCancelledError.kind, message=said)
        return self._episode(
            assignment,
            transitions=(),
            outcome="error",
            failure=failure,
            started_at=self._telemetry.clock.unix(),
            duration_s=0.0,
        )

    def _episode(
        self,
        assignment: Assignment,
        *,
        transitions: tuple[Transition, ...],
        outcome: EpisodeOutcome,
        failure: Failure | None,
        started_at: float,
        duration_s: float,
    ) -> Episode:
        dreamed = self._source == "dreamed"
        made = partial(
            Episode,
            id=self.settings.episode_id(assignment),
            run=self.settings.run,
            task=assignment.task,
            repeat=assignment.repeat,
            source=self._source,
            purpose=assignment.purpose,
            started_at=started_at,
            duration_s=duration_s,
            generation=self.settings.generation if dreamed else 0,
        )
        with Boundary() as caught:
            return made(
                transitions=transitions,
                outcome=outcome,
                error_kind=None if failure is None else failure.kind,
                error_message=None if failure is None else failure.message,
                policy=self._policy.name,
                experience_model=self._environment.name if dreamed else "",
                quality=trust_scores(transitions),
            )
        # What the environment's steps hold, or what a part says of itself, fits no record.
        failure = failure or caught.failure or Failure(kind=UnexpectedError.kind, message="")
        return made(
            transitions=(),
            outcome="error",
            error_kind=failure.kind,
            error_message=failure.message,
            policy=_name_of(self._policy),
            experience_model=_name_of(self._environment) if dreamed else "",
        )

    async def _play(
        self,
        assignment: Assignment,
        live: LiveEpisode,
        attempt: int,
        limit: anyio.CancelScope,
        course: _Course,
    ) -> None:
        settings, task = self.settings, assignment.task
        seed, id = seed_of(settings.seed, task.key, assignment.repeat), live.id
        world = seed_of(settings.seed, task.key, assignment.repeat // settings.world_size)
        if attempt:
            # The same draws could fail the same way, and what the last try left behind may still bear its name.
            seed, world, id = seed_of(seed, "attempt", attempt), seed_of(world, "attempt", attempt), f"{id}.{attempt}"
        opened = self._environment.session(task, episode_id=id, seed=seed_of(world, "environment"))
        async with opened as session:
            try:
                actor = self._policy.actor(task, episode_id=id, seed=seed_of(seed, "policy"))
                if settings.episode_seconds is None:
                    course.outcome = await self._steps(session, actor, live, limit, course.transitions)
                else:
                    limit.deadline = anyio.current_time() + settings.episode_seconds
                    with own_time(limit):
                        course.outcome = await self._steps(session, actor, live, limit, course.transitions)
            except BaseException as error:
                course.stopped = None if limit.cancel_called else error  # else it used up its time
                raise
            finally:
                live.station = "closing"
                live.since = self._telemetry.clock.monotonic()
                limit.deadline = anyio.current_time() + CLOSING_SECONDS

    async def _steps(
        self,
        session: EpisodeSession,
        actor: Actor,
        live: LiveEpisode,
        limit: anyio.CancelScope,
        transitions: list[Transition],
    ) -> EpisodeOutcome:
        acting, stepping, telemetry, gate = self._acting, self._stepping, self._telemetry, self._gate
        source = self._source
        state, admissible = session.state, session.admissible
        for step in range(self.settings.max_steps):
            live.step = step
            if gate.closed:
                await self._paused(live, limit)
            self._running = live
            live.station = "policy"
            live.since = entered = acting.enter()
            try:
                decision = await actor.act(state, admissible)
            finally:
                acting.leave(entered)
            if not decision.action:
                telemetry.counters["wasted_steps"] += 1
                state = after_nothing(state)
                transitions.append(wasted_step(state, admissible, decision))
                telemetry.stepped(source)
                await self._turn(live)
                continue
            live.station = "environment"
            live.since = entered = stepping.enter()
            try:
                transition = await session.step(decision.action)
            except TruncationError:
                telemetry.counters["truncated_early"] += 1
                return "truncated"
            finally:
                stepping.leave(entered)
            if not (math.isfinite(transition.reward) and math.isfinite(transition.score or 0.0)):
                raise EnvironmentFailure(
                    f"the environment gave reward {transition.reward} and score {transition.score} for a step"
                )
            if transition.decision is None:
                transition = transition.decided(decision)
            transitions.append(transition)
            telemetry.stepped(source)
            if transition.outcome != "running":
                return transition.outcome
            state, admissible = transition.state, transition.admissible
            await self._turn(live)
        return "truncated"

    async def _turn(self, live: LiveEpisode) -> None:
        """One turn each: parts that never wait (scripted ones) must not keep the loop to themselves."""
        if self._running is live:  # else somebody began a step while this one was being taken, so it has waited
            await anyio.lowlevel.checkpoint()

    async def _paused(self, live: LiveEpisode, limit: anyio.CancelScope) -> None:
        """Wait for the gate; the episode's time stands still."""
        left = limit.deadline - anyio.current_time()
        limit.deadline = math.inf
        live.station, live.since = PAUSED, self._telemetry.clock.monotonic()
        await self._gate.wait()
        limit.deadline = anyio.current_time() + left


def _is_about(error: BaseException | None, first: BaseException) -> bool:
    """Whether `error` is `first`, holds it, or says what it means (was raised from it)."""
    causes = set(map(id, leaves(first)))
    seen: set[int] = set()  # causes may be made to go round in a circle
    for leaf in () if error is None else leaves(error):
        told: BaseException | None = leaf
        while told is not None and id(told) not in seen:
            seen.add(id(told))
            told = told.__cause__
    return not causes.isdisjoint(seen)


def _name_of(part: Policy | Environment) -> str:
    """Its name; none if it cannot say it."""
    with Boundary():
        return part.name
    return ""


def wasted_step(state: State, admissible: tuple[str, ...], decision: Decision) -> Transition:
    """The transition of a decision without an action; `state` is the one after it."""
    return Transition(
        action=NO_ACTION, state=state, reward=0.0, outcome="running", admissible=admissible, decision=decision
    )
