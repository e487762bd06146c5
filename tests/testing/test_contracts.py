"""The checks pass what keeps the contract, and name the clause that is broken."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsim.errors import ContextOverflowError
from dreamsim.protocols import Actor, Encoder, Engine, EpisodeSession, Retriever
from dreamsim.records.completion import Completion, Decision, GenerationRequest
from dreamsim.records.episode import Episode, Source, Transition
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import generator
from dreamsim.testing import (
    MemorySink,
    RandomPolicy,
    ScriptedEnvironment,
    ScriptedPolicy,
    check_decision,
    check_encoder,
    check_engine,
    check_environment,
    check_policy,
    check_retriever,
    check_sink,
    check_state_mapping,
    gold_path,
    scripted_task,
    scripted_tasks,
)
from dreamsim.testing.strategies import decisions, episodes
from dreamsim.testing.world import Position, layout_of

TASKS = scripted_tasks(6)
EPISODE = Episode(
    id="e",
    run="r",
    task=TASKS[0],
    repeat=0,
    source="real",
    purpose="training",
    transitions=(),
    outcome="truncated",
)


async def test_the_scripted_environment_keeps_the_contract() -> None:
    await check_environment(ScriptedEnvironment(), TASKS, gold_path)


@pytest.mark.parametrize("policy", [ScriptedPolicy(), RandomPolicy()])
async def test_the_policies_keep_the_contract(policy: ScriptedPolicy | RandomPolicy) -> None:
    await check_policy(policy, TASKS)


@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(1, 8))
def test_the_gold_path_solves_every_scripted_task(seed: int, rooms: int, objects: int) -> None:
    task = scripted_task(seed, rooms=rooms, objects=objects)
    position = Position(layout_of(task))
    outcomes = [position.take_action(action).outcome for action in gold_path(task)]
    assert outcomes == ["running"] * (len(outcomes) - 1) + ["success"]


@given(st.integers(0, 10_000))
def test_a_scripted_task_is_the_same_every_time(seed: int) -> None:
    assert scripted_task(seed) == scripted_task(seed)


class Altered(ScriptedEnvironment):
    """Changes every transition in one way."""

    def __init__(self, **changed: object) -> None:
        super().__init__()
        self._changed = changed

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[EpisodeSession]:  # type: ignore[override]
        async with super().session(task, episode_id=episode_id, seed=seed) as session:
            yield _AlteredSession(session, self._changed)


class _AlteredSession:
    def __init__(self, session: EpisodeSession, changed: dict[str, object]) -> None:
        self._session = session
        self._changed = changed
        self.state = session.state
        self.admissible = session.admissible

    async def step(self, action: str) -> Transition:
        transition = await self._session.step(action)
        transition = dataclasses.replace(transition, **self._changed)  # type: ignore[arg-type]
        self.state, self.admissible = transition.state, transition.admissible
        return transition


@pytest.mark.parametrize(
    ("changed", "clause"),
    [
        ({"action": "another"}, "action as given"),
        ({"reward": float("nan")}, "finite"),
        ({"reward": 0.5}, "worth nothing"),
        ({"outcome": "won"}, "no outcome"),
        ({"state": State(lines=("a: b", "a: c"))}, "normalised"),
        ({"samples": 0}, "at least one sample"),
        ({"admissible": ("",)}, "some text"),
    ],
)
async def test_a_broken_environment_is_told_which_clause_it_breaks(changed: dict[str, object], clause: str) -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group of whatever the tasks found
        await check_environment(Altered(**changed), TASKS[:1], lambda task: ())
    assert clause in str(caught.value.exceptions)  # type: ignore[attr-defined]


async def test_a_policy_with_one_actor_for_all_is_refused() -> None:
    class Lazy(RandomPolicy):
        def __init__(self) -> None:
            super().__init__()
            self._only = super().actor(TASKS[0], episode_id="x", seed=0)

        def actor(self, task: Task, *, episode_id: str, seed: int) -> Actor:
            return self._only

    with pytest.raises(ExceptionGroup) as caught:
        await check_policy(Lazy(), TASKS[:1])
    assert "actor of its own" in str(caught.value.exceptions)


@given(decisions())
def test_decisions_drawn_by_hypothesis_have_well_formed_completions(decision: Decision) -> None:
    if decision.completion is not None:
        prompt = np.zeros(max(1, decision.completion.prompt_tokens), dtype=np.int32)
        answer = dataclasses.replace(decision.completion, prompt_tokens=len(prompt))
        check_decision(Decision(action="x", prompt_token_ids=prompt, completion=answer))


async def test_the_memory_sink_keeps_the_contract() -> None:
    sink = MemorySink()

    async def stored() -> Collection[str]:
        return list(sink.episodes)

    await check_sink(sink, [EPISODE, dataclasses.replace(EPISODE, id="f")], stored)


async def test_a_sink_that_loses_episodes_is_refused() -> None:
    async def stored() -> Collection[str]:
        return []

    with pytest.raises(AssertionError, match="not stored"):
        await check_sink(MemorySink(), [EPISODE], stored)


@given(episodes())
def test_drawn_episodes_end_as_their_outcome_says(episode: Episode) -> None:
    assert (episode.error_kind is not None) == (episode.outcome == "error")
    assert all(not transition.done for transition in episode.transitions[:-1])


class Lines:
    """One element line per line of the observation."""

    def state(self, raw: str) -> State:
        return State.of(raw.splitlines())


def test_a_state_mapping_is_checked_along_an_episode() -> None:
    check_state_mapping(Lines(), ["at: hall\nbox: open", "at: attic\nkey: held", "at: hall\nkey: held\nbox: open"])


def test_a_mapping_that_does_not_normalise_is_refused() -> None:
    class Raw:
        def state(self, raw: str) -> State:
            return State(lines=tuple(raw.splitlines()))

    with pytest.raises(AssertionError, match="normalised"):
        check_state_mapping(Raw(), ["a: b\na: c"])


class CoinEngine(Engine):
    """Draws tokens by the request's seed."""

    name = "coin"
    version = "1"
    max_model_len = 64

    def __init__(self, *, extra_logprobs: int = 0) -> None:
        self._extra = extra_logprobs

    async def generate(self, request: GenerationRequest) -> Completion:
        await anyio.sleep(0.001)
        length, sampling = len(request.prompt_token_ids), request.sampling
        if length + sampling.max_tokens > self.max_model_len:
            raise ContextOverflowError(f"{length} tokens")
        drawn = generator(0 if sampling.temperature == 0 else request.seed, "coin").integers(2, 9, sampling.max_tokens)
        ids: NDArray[np.int32] = drawn.astype(np.int32)
        stops = [i for i, token in enumerate(ids.tolist()) if token in sampling.stop_token_ids]
        ids = ids[: stops[0] + 1] if stops else ids
        return Completion(
            token_ids=ids,
            logprobs=np.full(len(ids) + self._extra, -1.0, dtype=np.float32),
            finish_reason="stop" if stops else "length",
            prompt_tokens=length,
        )


PROMPT = np.array([1, 5, 6], dtype=np.int32)


async def test_an_engine_that_keeps_the_contract_passes() -> None:
    await check_engine(CoinEngine(), PROMPT)


async def test_an_engine_whose_logprobs_do_not_match_its_tokens_is_refused() -> None:
    with pytest.raises(AssertionError, match="one log-probability per token"):
        await check_engine(CoinEngine(extra_logprobs=1), PROMPT)


class LetterEncoder(Encoder):
    """Counts letters."""

    name = "letters"
    dimension = 8

    def __init__(self, *, normalised: bool = True) -> None:
        self._normalised = normalised

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.ones((len(texts), 8), dtype=np.float32)
        for row, text in enumerate(texts):
            for letter in text:
                vectors[row, ord(letter) % 8] += 1
        if self._normalised:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def test_an_encoder_that_keeps_the_contract_passes() -> None:
    check_encoder(LetterEncoder(), ["take key", "open box"])


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(AssertionError, match="length 1"):
        check_encoder(LetterEncoder(normalised=False), ["take key"])


class ListRetriever(Retriever):
    """Searches a list."""

    def __init__(self, *, heeds_exclusion: bool = True) -> None:
        self._heeds = heeds_exclusion
        source: Source = "real"
        self._all = [
            Experience(
                id=f"e{i}:0",
                episode_id=f"e{i}",
                task_key=f"t{i}",
                environment="x",
                fold="train",
                source=source,
                instruction="",
                state=(),
                action="go",
                changes=(),
                next_state=(),
                reasoning="",
                reward=0.0,
                outcome="running",
                similarity=1 - i / 10,
            )
            for i in range(5)
        ]

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        fitting = [one for one in self._all if one.fold in query.folds]
        if self._heeds:
            fitting = [one for one in fitting if one.task_key != query.exclude_task]
        return tuple(fitting[: query.k])


async def test_a_retriever_that_keeps_the_contract_passes() -> None:
    await check_retriever(ListRetriever(), ExperienceQuery(state=(), action="go", k=3))


async def test_a_retriever_that_shows_what_is_excluded_is_refused() -> None:
    with pytest.raises(AssertionError, match="excluded"):
        await check_retriever(ListRetriever(heeds_exclusion=False), ExperienceQuery(state=(), action="go", k=3))
