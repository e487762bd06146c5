"""Contract checks for what plays episodes: environments, policies, state mappings and sinks.

In: an object that claims to follow a protocol, and something to try it on. Out: nothing, or an AssertionError
whose message says which clause is broken. Always: a check leaves nothing behind but what a sink was given.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Sequence

import anyio
import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import EpisodeFinishedError
from dreamsim.protocols import Environment, EpisodeSession, EpisodeSink, Policy, StateMapping
from dreamsim.records.completion import Completion, Decision
from dreamsim.records.episode import SOURCES, STEP_OUTCOMES, Episode, Transition
from dreamsim.records.state import State, StateMemory, apply_changes, changes
from dreamsim.records.task import Task

Script = Callable[[Task], Sequence[str]]


async def check_environment(
    environment: Environment,
    tasks: Sequence[Task],
    script: Script,
    *,
    impossible: str | None = "frobnicate the quux",
    repeatable: bool = True,
) -> None:
    """Check an `Environment`.

    Args:
        environment: what to check.
        tasks: a few of its tasks; all are run at the same time.
        script: actions to take in a task.
        impossible: an action that cannot work: it must give a transition with reward 0, not an error; None
            where the environment may refuse it otherwise.
        repeatable: whether the same task, seed and actions give the same transitions.
    """
    assert environment.name, "an environment has a name, for provenance"
    assert environment.source in SOURCES, f"source is one of {SOURCES}, not {environment.source!r}"
    async with anyio.create_task_group() as group:
        for index, task in enumerate(tasks):
            group.start_soon(_check_task, environment, task, script(task), impossible, repeatable, f"c{index}")


async def _check_task(
    environment: Environment,
    task: Task,
    actions: Sequence[str],
    impossible: str | None,
    repeatable: bool,
    episode_id: str,
) -> None:
    first = await _play(environment, task, actions, f"{episode_id}-first")
    if repeatable:
        again = await _play(environment, task, actions, f"{episode_id}-again")
        assert first == again, f"the same task, seed and actions gave other transitions: {first} and {again}"
    if impossible is not None:
        async with environment.session(task, episode_id=f"{episode_id}-bad", seed=1) as session:
            refused = await session.step(impossible)
            _check_step(session, refused, impossible)
            assert refused.reward == 0, f"an action that cannot work is worth nothing, not {refused.reward}"
    async with environment.session(task, episode_id=f"{episode_id}-left", seed=1):
        pass  # leaving an episode that has not begun is no error


async def _play(environment: Environment, task: Task, actions: Sequence[str], episode_id: str) -> list[Transition]:
    seen: list[Transition] = []
    async with environment.session(task, episode_id=episode_id, seed=1) as session:
        begun = session.state.lines
        assert session.state.same_as(task.first_state), (
            f"an episode begins in the task's first state: {task.first_state.lines}, not {begun}"
        )
        _check_actions(session.admissible)
        for action in actions:
            transition = await session.step(action)
            _check_step(session, transition, action)
            seen.append(transition)
            if transition.done:
                await _check_finished(session, action)
                break
    return seen


def _check_step(session: EpisodeSession, transition: Transition, action: str) -> None:
    assert transition.action == action, f"the action as given is {action!r}, not {transition.action!r}"
    assert math.isfinite(transition.reward), f"a reward is a finite number, not {transition.reward}"
    assert transition.outcome in STEP_OUTCOMES, f"no outcome of a step: {transition.outcome!r}"
    assert session.state == transition.state, "after a step the session's state is the transition's"
    assert tuple(session.admissible) == tuple(transition.admissible), (
        "after a step the session's admissible actions are the transition's"
    )
    _check_state(transition.state)
    _check_actions(transition.admissible)
    assert transition.samples >= 1, "at least one sample was needed"


async def _check_finished(session: EpisodeSession, action: str) -> None:
    try:
        await session.step(action)
    except EpisodeFinishedError:
        return
    raise AssertionError("a step after the end of an episode raises EpisodeFinishedError")


def _check_actions(actions: tuple[str, ...]) -> None:
    assert all(action.strip() for action in actions), f"an action is some text: {actions}"


def _check_state(state: State) -> None:
    assert State.of(state.lines) == state, f"a state's lines are normalised: {state.lines}"


async def check_policy(policy: Policy, tasks: Sequence[Task], *, repeatable: bool = True) -> None:
    """Check a `Policy` on the first states of some tasks, all at once.

    Args:
        policy: what to check.
        tasks: a few tasks.
        repeatable: whether the same task, state and seed give the same action.
    """
    assert policy.name, "a policy has a name, for provenance"
    async with anyio.create_task_group() as group:
        for index, task in enumerate(tasks):
            group.start_soon(_check_actor, policy, task, repeatable, f"c{index}")


async def _check_actor(policy: Policy, task: Task, repeatable: bool, episode_id: str) -> None:
    one = policy.actor(task, episode_id=f"{episode_id}-one", seed=7)
    two = policy.actor(task, episode_id=f"{episode_id}-two", seed=7)
    assert one is not two, "every episode has an actor of its own"
    decision = await one.act(task.first_state, ())
    check_decision(decision)
    if repeatable:
        again = await two.act(task.first_state, ())
        assert decision.action == again.action, (
            f"the same task, state and seed gave {decision.action!r} and {again.action!r}"
        )


def check_decision(decision: Decision) -> None:
    """Check that a decision can be acted on and learned from."""
    assert decision.action.strip(), "an action is some text"
    if decision.completion is not None:
        ids = decision.prompt_token_ids
        assert is_ids(ids), f"prompt ids have shape [length] and are int32: {ids!r}"
        assert len(ids) == decision.completion.prompt_tokens, "the prompt kept is the prompt that was sent"
        check_completion(decision.completion)


def check_completion(completion: Completion) -> None:
    """Check an engine's answer: shapes, types and ranges."""
    ids, logprobs = completion.token_ids, completion.logprobs
    assert is_ids(ids), f"token ids have shape [length] and are int32: {ids!r}"
    assert logprobs.shape == ids.shape, f"one log-probability per token: {logprobs!r} for {len(ids)} tokens"
    assert logprobs.dtype == np.float32, f"log-probabilities are float32, not {logprobs.dtype}"
    likely = np.isfinite(logprobs) & (logprobs <= 1e-4)
    assert likely.all(), f"no log-probabilities: {logprobs!r}"
    assert completion.finish_reason in ("stop", "length", "abort"), completion.finish_reason
    assert 0 <= completion.cached_tokens <= completion.prompt_tokens, "cached tokens are part of the prompt"


def is_ids(ids: NDArray[np.int32]) -> bool:
    """Whether this is an array of token ids: one dimension, int32."""
    return ids.ndim == 1 and ids.dtype == np.int32


def check_state_mapping(mapping: StateMapping, observations: Sequence[str]) -> None:
    """Check a `StateMapping` on the raw observations of one episode, in order."""
    memory: StateMemory | None = None
    for raw in observations:
        state = mapping.state(raw)
        assert state == mapping.state(raw), "the same observation gives the same state"
        _check_state(state)
        if memory is None:
            memory = StateMemory(state)
            continue
        back = apply_changes(memory, changes(memory, state))
        assert back.same_as(state), f"changes lose something of {state.lines}: they give {back.lines}"
        memory.see(state)


async def check_sink(
    sink: EpisodeSink,
    episodes: Sequence[Episode],
    stored: Callable[[], Awaitable[Collection[str]]],
) -> None:
    """Check an `EpisodeSink`: many adds at once, each twice; `stored` tells the ids that are durable."""
    async with anyio.create_task_group() as group:
        for episode in (*episodes, *episodes):
            group.start_soon(sink.add, episode)
    found, given = list(await stored()), [episode.id for episode in episodes]
    missing = set(given) - set(found)
    assert not missing, f"added but not stored: {sorted(missing)}"
    twice = [id for id in set(given) if found.count(id) > 1]
    assert not twice, f"adding is idempotent by id, but these are stored twice: {sorted(twice)}"
