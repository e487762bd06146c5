"""Episodes laid out as tokens: the agent's tokens, and only they, are marked and carry the engine's logprobs."""

from __future__ import annotations

import itertools

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.agents.language_model import LanguageModelPolicy, PolicySettings
from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.errors import RecordError
from dreamsim.flow.batches import BatchBuilder, BatchSettings, anchor, continuation_of, layout, make_batches, trajectory
from dreamsim.flow.groups import ClosedGroup
from dreamsim.records.batch import Batch
from dreamsim.records.completion import Completion, Decision
from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.pipes import Pipe
from dreamsim.testing.decisions import Layout, decided_episode, decided_task

TOKENIZER = ByteTokenizer()
TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=4)


@st.composite
def decisions(draw: st.DrawFn) -> list[Decision]:
    """Decisions whose prompts go on from the one before, or begin anew, as it comes; few ids, so that they collide."""
    made: list[Decision] = []
    seen: list[int] = []
    for _ in range(draw(st.integers(1, 5))):
        more = draw(TOKENS)
        prompt = seen + more if draw(st.booleans()) else more
        answer = draw(TOKENS)
        logprobs = draw(st.lists(st.floats(-9, 0, width=32), min_size=len(answer), max_size=len(answer)))
        completion = Completion(
            token_ids=np.array(answer, dtype=np.int32),
            logprobs=np.array(logprobs, dtype=np.float32),
            finish_reason="stop",
            prompt_tokens=len(prompt),
        )
        made.append(Decision(action="act", prompt_token_ids=np.array(prompt, dtype=np.int32), completion=completion))
        seen = prompt + answer
    return made


@given(decisions())
def test_marked_tokens_are_exactly_those_of_the_decisions_with_the_logprobs_of_the_engine(made: list[Decision]) -> None:
    samples = layout(made)
    steps = np.concatenate([sample.step_index for sample in samples])
    ids = np.concatenate([sample.token_ids for sample in samples])
    logprobs = np.concatenate([sample.logprobs for sample in samples])
    for step, decision in enumerate(made):
        assert decision.completion is not None
        assert np.array_equal(ids[steps == step], decision.completion.token_ids)
        assert np.array_equal(logprobs[steps == step], decision.completion.logprobs)
    assert set(steps.tolist()) == {-1, *range(len(made))}
    assert not logprobs[steps == -1].any()


@given(decisions())
def test_every_decision_stands_right_after_its_own_prompt(made: list[Decision]) -> None:
    for sample in layout(made):
        for step in sorted(set(sample.step_index.tolist()) - {-1}):
            first = int(np.argmax(sample.step_index == step))
            assert np.array_equal(sample.token_ids[:first], made[step].prompt_token_ids)


@given(decisions())
def test_a_sequence_ends_only_where_the_next_prompt_does_not_go_on(made: list[Decision]) -> None:
    samples = layout(made)
    for before, after in itertools.pairwise(samples):
        prompt = made[int(after.step_index[after.step_index >= 0].min())].prompt_token_ids
        assert not (len(prompt) >= len(before) and np.array_equal(prompt[: len(before)], before.token_ids))


@pytest.mark.parametrize(("name", "sequences"), [("growing", 1), ("windowed", 4)])
def test_a_growing_episode_is_one_sequence_and_a_windowed_one_a_sequence_a_step(name: Layout, sequences: int) -> None:
    made = trajectory(decided_episode(1, steps=4, layout=name))
    assert len(made.samples) == sequences
    assert made.rewards.tolist() == [0, 0, 0, 1]


def test_an_episode_without_the_tokens_of_an_engine_is_refused() -> None:
    episode = Episode(
        id="e",
        run="r",
        task=decided_task(),
        repeat=0,
        source="real",
        purpose="training",
        transitions=(Transition(action="a", state=State.of(["x: 1"]), reward=1.0, outcome="success"),),
        outcome="success",
    )
    with pytest.raises(RecordError, match="no tokens"):
        trajectory(episode)


@given(st.permutations(["at: hall", "box: open", "key: held", "result: Taken."]), st.sampled_from(["Taken.", "No."]))
def test_anchors_see_the_state_and_not_the_order_or_the_last_result(lines: list[str], result: str) -> None:
    other = State.of([line for line in lines if not line.startswith("result")] + [f"result: {result}"])
    assert anchor(State.of(lines)) == anchor(other)
    assert anchor(other) != anchor(State.of(["at: hall", "box: closed", "key: held"]))


async def _play(policy_settings: PolicySettings) -> Episode:
    """Three real decisions of the policy over a scripted engine, cut off by the step limit."""
    task = Task(environment="test/one", instruction="wait", first_state=State.of(["at: hall", "n: 0"]), fold="train")
    engine = ScriptedEngine(lambda request: "<action> wait\n<end>", TOKENIZER)
    actor = LanguageModelPolicy(engine, TOKENIZER, policy_settings).actor(task, episode_id="e", seed=0)
    state = task.first_state
    admissible: tuple[str, ...] = ()
    steps: list[Transition] = []
    for number in range(1, 4):
        decision = await actor.act(state, admissible)
        state, admissible = State.of(["at: hall", f"n: {number}"]), ("wait", f"count {number}")
        steps.append(
            Transition(
                action="wait", state=state, reward=0.0, outcome="running", admissible=admissible, decision=decision
            )
        )
    return Episode(
        id="e",
        run="r",
        task=task,
        repeat=0,
        source="dreamed",
        purpose="training",
        transitions=tuple(steps),
        outcome="truncated",
    )


@pytest.mark.anyio
@pytest.mark.parametrize("window", [None, 1])
async def test_the_continuation_is_the_prompt_that_the_policy_would_have_got(window: int | None) -> None:
    wanted = PolicySettings(window=window)
    whole = await _play(wanted)
    shorter = Episode(
        id="e",
        run="r",
        task=whole.task,
        repeat=0,
        source="dreamed",
        purpose="training",
        transitions=whole.transitions[:-1],
        outcome="truncated",
    )
    made = trajectory(shorter, continuation=continuation_of(TOKENIZER, wanted))
    last = whole.transitions[-1].decision
    assert last is not None
    assert made.continuation is not None
    assert np.array_equal(made.continuation, last.prompt_token_ids)
    assert not made.terminated
    assert len(made.samples) == (1 if window is None else 2)


def group(number: int, *outcomes: str, steps: int = 2) -> ClosedGroup:
    task = decided_task(number)
    episodes = tuple(
        decided_episode(number, task=task, repeat=repeat, steps=steps, outcome="success" if good == "1" else "failure")
        for repeat, good in enumerate(outcomes)
    )
    return ClosedGroup(task_key=task.key, number=0, episodes=episodes, viable=len(episodes) > 1, complete=True)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["11", "01", "1"]), max_size=9), st.integers(1, 3), st.booleans())
def test_every_group_is_in_one_batch_or_counted_as_left_out(shapes: list[str], size: int, informative: bool) -> None:
    builder = BatchBuilder(BatchSettings(groups=size, informative_only=informative))
    made = [builder.add(group(number, *shape)) for number, shape in enumerate(shapes)]
    batches = [batch for batch in (*made, builder.rest()) if batch is not None]
    kept = [one.task_key for batch in batches for one in batch.groups]
    wanted = ["01"] if informative else ["01", "11"]
    assert kept == [decided_task(number).key for number, shape in enumerate(shapes) if shape in wanted]
    assert len(kept) + sum(builder.left_out.values()) == len(shapes)
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert all(len(batch.groups) == size for batch in batches[:-1])


def test_an_episode_that_is_too_long_is_left_out_and_counted() -> None:
    builder = BatchBuilder(BatchSettings(groups=1, max_tokens=5))
    assert builder.add(group(0, "1", "0")) is None
    assert builder.left_out["episodes too long"] == 2


@pytest.mark.anyio
async def test_the_station_sends_full_batches_and_closes() -> None:
    groups: Pipe[ClosedGroup] = Pipe("groups", 8, now=anyio.current_time)
    batches: Pipe[Batch] = Pipe("batches", 8, now=anyio.current_time)
    for number in range(3):
        groups.sender.send_nowait(group(number, "1", "0"))
    groups.sender.close()
    await make_batches(groups.receiver, batches.sender, BatchBuilder(BatchSettings(groups=2)), send_rest=True)
    with batches.receiver:
        assert [len(batch.groups) async for batch in batches.receiver] == [2, 1]
