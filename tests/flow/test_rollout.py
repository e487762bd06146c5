"""How one episode ends."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from dreamsim.errors import ConfigurationError, DreamsimError, EngineError
from dreamsim.flow.rollout import Rollout, RolloutSettings
from dreamsim.protocols import Actor, Assignment, Environment, EpisodeSession, Policy
from dreamsim.records.completion import Decision
from dreamsim.records.episode import Episode, Source, Transition
from dreamsim.records.state import NO_ACTION, State
from dreamsim.records.task import Task
from dreamsim.runtime.clock import VirtualClock
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.testing import (
    FAULT_KINDS,
    Fault,
    RandomPolicy,
    ScriptedEnvironment,
    ScriptedPolicy,
    gold_path,
    scripted_task,
)
from dreamsim.testing.faults import FAILING, commit_fault
from tests.flow.runs import in_virtual_time

TASK = scripted_task(0)
GOLD = gold_path(TASK)


class Interrupted:
    """The scripted environment, with something happening when a session is opened, steps or is left."""

    name = "interrupted-1"
    source: Source = "real"

    def __init__(
        self, *, opening: Fault | float = 0.0, step: Fault | float = 0.0, leaving: Fault | float = 0.0
    ) -> None:
        self._inner = ScriptedEnvironment()
        self._opening, self._step, self._leaving = opening, step, leaving

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        await _happen(self._opening)
        async with self._inner.session(task, episode_id=episode_id, seed=seed) as session:
            yield _Session(session, self._step)
            await _happen(self._leaving)


class Untidy(Interrupted):
    """The same, where something also happens when a session is left after a failure."""

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
        async with self._inner.session(task, episode_id=episode_id, seed=seed) as session:
            try:
                yield _Session(session, self._step)
            finally:
                await _happen(self._leaving)


class _Session:
    def __init__(self, session: EpisodeSession, happening: Fault | float) -> None:
        self._session = session
        self._happening = happening
        self._steps = 0

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def admissible(self) -> tuple[str, ...]:
        return self._session.admissible

    async def step(self, action: str) -> Transition:
        self._steps += 1
        if self._steps > 1:  # the first step always works
            await _happen(self._happening)
        return await self._session.step(action)


async def _happen(what: Fault | float) -> None:
    if isinstance(what, float):
        await anyio.sleep(what)
    else:
        await commit_fault(what)


def play(
    environment: Environment,
    *,
    policy: Policy | None = None,
    max_steps: int = 20,
    episode_seconds: float | None = 30.0,
    telemetry: Telemetry | None = None,
) -> Episode:
    """One episode of TASK, in virtual time."""
    return in_virtual_time(
        lambda: played(
            environment, policy=policy, max_steps=max_steps, episode_seconds=episode_seconds, telemetry=telemetry
        )
    )


async def played(
    environment: Environment,
    *,
    policy: Policy | None = None,
    max_steps: int = 20,
    episode_seconds: float | None = 30.0,
    telemetry: Telemetry | None = None,
) -> Episode:
    """The same, on the loop that runs."""
    counted = Telemetry(clock=VirtualClock()) if telemetry is None else telemetry
    rollout = Rollout(
        environment=environment,
        policy=ScriptedPolicy() if policy is None else policy,
        settings=RolloutSettings(run="r", max_steps=max_steps, episode_seconds=episode_seconds),
        telemetry=counted,
    )
    assignment = Assignment(task=TASK)
    id = rollout.settings.episode_id(assignment)
    return await rollout.play(assignment, counted.admitted(id, TASK.key))


def test_the_gold_path_ends_in_success_with_reward_1() -> None:
    episode = play(ScriptedEnvironment())
    assert episode.outcome == "success"
    assert episode.total_reward == 1
    assert tuple(t.action for t in episode.transitions) == GOLD


def test_an_episode_says_who_played_it_where() -> None:
    dreamed, real = play(ScriptedEnvironment()), play(Interrupted())
    assert (dreamed.policy, dreamed.source, dreamed.experience_model) == ("scripted-policy-1", "dreamed", "scripted-1")
    assert (dreamed.generation, real.generation) == (1, 0)
    assert (real.source, real.experience_model) == ("real", "")


def test_what_a_model_trained_on_dreams_dreams_is_a_generation_further() -> None:
    async def main() -> Episode:
        rollout = Rollout(
            environment=ScriptedEnvironment(),
            policy=ScriptedPolicy(),
            settings=RolloutSettings(run="r", generation=3),
            telemetry=Telemetry(clock=VirtualClock()),
        )
        return rollout.lost(Assignment(task=TASK), "killed")

    assert in_virtual_time(main).generation == 3


def test_every_transition_keeps_the_decision_that_led_to_it() -> None:
    episode = play(ScriptedEnvironment())
    assert [t.decision.action for t in episode.transitions if t.decision] == list(GOLD)


def test_a_task_that_is_lost_ends_in_failure() -> None:
    thing = TASK.instruction.split()[2]
    episode = play(ScriptedEnvironment(), policy=ScriptedPolicy(lambda task: (*gold_path(task)[:-1], f"break {thing}")))
    assert (episode.outcome, episode.total_reward) == ("failure", 0)


def test_running_out_of_steps_is_a_truncation_and_no_error() -> None:
    episode = play(ScriptedEnvironment(), max_steps=2)
    assert (episode.outcome, episode.error_kind, len(episode.transitions)) == ("truncated", None, 2)


@pytest.mark.parametrize("fault", FAILING)
def test_a_failing_step_ends_the_episode_with_its_kind_and_keeps_what_was_before(fault: Fault) -> None:
    episode = play(Interrupted(step=fault))
    assert (episode.outcome, episode.error_kind) == ("error", FAULT_KINDS[fault])
    assert [t.action for t in episode.transitions] == [GOLD[0]]


@pytest.mark.parametrize("fault", [fault for fault in FAILING if fault != "hang"])
def test_a_session_that_cannot_be_opened_is_a_failed_episode(fault: Fault) -> None:
    episode = play(Interrupted(opening=fault))
    assert (episode.error_kind, episode.transitions) == (FAULT_KINDS[fault], ())


@pytest.mark.parametrize("fault", FAILING)
def test_an_outcome_stands_although_leaving_the_session_fails(fault: Fault) -> None:
    telemetry = Telemetry(clock=VirtualClock())
    episode = play(Interrupted(leaving=fault), telemetry=telemetry)
    assert (episode.outcome, episode.error_kind) == ("success", None)


def test_a_failure_while_leaving_is_counted() -> None:
    telemetry = Telemetry(clock=VirtualClock())
    play(Interrupted(leaving="error"), telemetry=telemetry)
    assert telemetry.counters["session_close_failed"] == 1


def test_waiting_for_a_free_session_does_not_use_up_the_episodes_time() -> None:
    assert play(Interrupted(opening=1000.0), episode_seconds=1.0).outcome == "success"


def test_the_time_limit_is_for_all_steps_together() -> None:
    episode = play(Interrupted(step=1.0), episode_seconds=2.5)
    assert (episode.error_kind, len(episode.transitions)) == ("timeout", 3)
    assert "step 3" in (episode.error_message or "")


def test_a_bug_is_stored_with_the_place_it_happened_at() -> None:
    message = play(Interrupted(step="bug")).error_message or ""
    assert "a scripted bug" in message
    assert "faults.py:" in message


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["reward", "score"])
def test_a_number_that_could_not_be_stored_fails_the_episode(field: str, number: float) -> None:
    class Odd(Interrupted):
        @asynccontextmanager
        async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
            async with super().session(task, episode_id=episode_id, seed=seed) as session:
                yield _OddSession(session, 0.0)

    class _OddSession(_Session):
        async def step(self, action: str) -> Transition:
            return dataclasses.replace(await super().step(action), **{field: number})  # type: ignore[arg-type]

    episode = play(Odd())
    assert (episode.error_kind, episode.transitions) == ("environment", ())


def test_a_script_that_ends_too_early_is_the_policys_failure() -> None:
    assert play(ScriptedEnvironment(), policy=ScriptedPolicy(lambda task: ())).error_kind == "policy"


def test_a_session_that_swallows_what_ended_it_is_no_success() -> None:
    class Swallowing(Interrupted):
        @asynccontextmanager
        async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
            async with super().session(task, episode_id=episode_id, seed=seed) as session:
                with contextlib.suppress(BaseException):  # what a careless library does
                    yield session

    assert play(Swallowing(step="bug")).outcome == "error"


def test_a_cancellation_from_around_is_recorded_and_goes_on() -> None:
    async def main() -> tuple[Episode, bool]:
        telemetry = Telemetry()
        rollout = Rollout(
            environment=Interrupted(step="hang"),
            policy=RandomPolicy(),
            settings=RolloutSettings(run="r"),
            telemetry=telemetry,
        )
        with anyio.move_on_after(5) as scope:
            episode = await rollout.play(Assignment(task=TASK), telemetry.admitted("x", TASK.key))
            await anyio.lowlevel.checkpoint()
        return episode, scope.cancelled_caught

    episode, caught = in_virtual_time(main)
    assert (episode.error_kind, len(episode.transitions), caught) == ("cancelled", 1, True)


def test_a_dead_engine_is_remembered() -> None:
    async def main() -> DreamsimError | None:
        telemetry = Telemetry()
        rollout = Rollout(
            environment=ScriptedEnvironment(),
            policy=ScriptedPolicy(_raise),
            settings=RolloutSettings(run="r"),
            telemetry=telemetry,
        )
        await rollout.play(Assignment(task=TASK), telemetry.admitted("x", TASK.key))
        return rollout.halt

    assert in_virtual_time(main) is not None


def _raise(task: Task) -> tuple[str, ...]:
    raise EngineError("the engine's process is gone", recoverable=False)


@pytest.mark.parametrize("settings", [{"max_steps": 0}, {"episode_seconds": 0.0}, {"generation": 0}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        RolloutSettings(run="r", **settings)  # type: ignore[arg-type]


class _Silent:
    """Follows the gold path of `TASK`, but every other decision holds no action."""

    name = "silent-1"

    def actor(self, task: Task, *, episode_id: str, seed: int) -> _SilentActor:
        return _SilentActor()


class _SilentActor:
    def __init__(self) -> None:
        self._turn = 0

    async def act(self, state: State, admissible: Sequence[str]) -> Decision:
        self._turn += 1
        return Decision(action="" if self._turn % 2 else GOLD[self._turn // 2 - 1])


@pytest.mark.anyio
async def test_a_decision_without_an_action_wastes_its_step_and_the_environment_is_not_asked() -> None:
    telemetry = Telemetry()
    rollout = Rollout(
        environment=ScriptedEnvironment(),
        policy=_Silent(),
        settings=RolloutSettings(run="r"),
        telemetry=telemetry,
    )
    episode = await rollout.play(Assignment(task=TASK), telemetry.admitted("e", TASK.key))
    assert episode.outcome == "success"
    assert [step.action for step in episode.transitions[1::2]] == list(GOLD)
    first = episode.transitions[0]
    assert first.decision is not None
    assert (first.action, first.reward) == (NO_ACTION, 0)
    assert first.state.elements == {**TASK.first_state.elements, "result": "no action"}
    assert telemetry.counters["wasted_steps"] == len(GOLD)


@pytest.mark.parametrize(("world_size", "worlds"), [(1, 6), (3, 2), (6, 1)])
def test_attempts_of_a_group_meet_one_world_and_decide_for_themselves(world_size: int, worlds: int) -> None:
    seeds: dict[str, list[int]] = {"environment": [], "policy": []}

    class Seen(Interrupted):
        @asynccontextmanager
        async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:
            seeds["environment"].append(seed)
            async with super().session(task, episode_id=episode_id, seed=seed) as session:
                yield session

    class Dicing(RandomPolicy):
        def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
            seeds["policy"].append(seed)
            return super().actor(task, episode_id=episode_id, seed=seed)

    async def main() -> None:
        telemetry = Telemetry()
        settings = RolloutSettings(run="r", world_size=world_size, max_steps=2)
        rollout = Rollout(environment=Seen(), policy=Dicing(), settings=settings, telemetry=telemetry)
        for repeat in range(6):
            await rollout.play(Assignment(task=TASK, repeat=repeat), telemetry.admitted(f"x{repeat}", TASK.key))

    anyio.run(main)
    assert [len(set(found)) for found in seeds.values()] == [worlds, 6]
