"""The transition cache: identical requests, one engine call."""

from __future__ import annotations

import dataclasses
from collections import Counter

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.errors import ConfigurationError, EngineError
from dreamsim.experience.cache import Answered, TransitionCache, request_key
from dreamsim.experience.checks import Checks
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.format import answer_segment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.prompt import PromptLayout
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.testing.virtual_time import VirtualTimeLoop

TOKENIZER = ByteTokenizer()


def request(prompt: str = "look", *, temperature: float = 0.0, seed: int = 0, name: str = "r") -> GenerationRequest:
    return GenerationRequest(
        request_id=name,
        prompt_token_ids=TOKENIZER.encode(prompt),
        sampling=Sampling(max_tokens=64, temperature=temperature),
        seed=seed,
    )


class Counting:
    """Counts what reaches the engine, and answers every call differently."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __call__(self, asked: GenerationRequest) -> str:
        prompt = TOKENIZER.decode(asked.prompt_token_ids)
        self.calls[prompt] += 1
        return f"{prompt} {self.calls.total()}"


def engine_of(script: Counting, **changes: object) -> ScriptedEngine:
    return ScriptedEngine(script, TOKENIZER, **changes)  # type: ignore[arg-type]


def text(answered: Answered) -> str:
    return TOKENIZER.decode(answered.completion.token_ids)


@given(
    waves=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), min_size=1, max_size=4),
    cancelled=st.sets(st.integers(0, 20)),
)
def test_of_identical_requests_one_reaches_the_engine_whoever_is_cancelled(
    waves: list[list[str]], cancelled: set[int]
) -> None:
    script = Counting()
    engine = engine_of(script, latency=Latency(start_s=1.0))
    cache = TransitionCache()
    answers: dict[str, set[str]] = {}

    async def ask(prompt: str, number: int) -> None:
        with anyio.move_on_after(0.5) if number in cancelled else anyio.CancelScope():
            answered = await cache.generate(engine, request(prompt, name=str(number)))
            answers.setdefault(prompt, set()).add(text(answered))

    async def run() -> None:
        number = 0
        for wave in waves:
            async with anyio.create_task_group() as group:
                for prompt in wave:
                    group.start_soon(ask, prompt, number)
                    number += 1

    anyio.run(run, backend_options={"loop_factory": VirtualTimeLoop})
    assert all(len(said) == 1 for said in answers.values())
    aborted = len(engine.aborted)
    assert script.calls.total() - aborted == len(answers)


async def test_a_request_asked_again_is_answered_from_memory() -> None:
    script, cache = Counting(), TransitionCache()
    engine = engine_of(script)
    first = await cache.generate(engine, request())
    again = await cache.generate(engine, request(name="another", seed=7))
    assert (first.cached, again.cached) == (False, True)
    assert again.completion is first.completion


@pytest.mark.parametrize(
    "other",
    [
        request("look up"),
        dataclasses.replace(request(), adapter="lora"),
        dataclasses.replace(request(), sampling=Sampling(max_tokens=63, temperature=0.0)),
        request(temperature=0.7),
    ],
    ids=["prompt", "adapter", "length", "temperature"],
)
def test_whatever_changes_the_answer_changes_the_key(other: GenerationRequest) -> None:
    engine = engine_of(Counting())
    assert request_key(engine, request()) != request_key(engine, other)


def test_the_seed_counts_only_where_something_is_drawn() -> None:
    engine = engine_of(Counting())
    assert request_key(engine, request(seed=1)) == request_key(engine, request(seed=2))
    drawn = [request_key(engine, request(temperature=0.7, seed=seed)) for seed in (1, 2)]
    assert drawn[0] != drawn[1]


async def test_another_version_or_model_is_asked_anew() -> None:
    script, cache = Counting(), TransitionCache()
    engine = engine_of(script)
    said = text(await cache.generate(engine, request()))
    engine.version = "1"
    assert text(await cache.generate(engine, request())) != said
    assert text(await cache.generate(engine_of(script, name="other"), request())) != said
    engine.version = "0"
    assert text(await cache.generate(engine, request())) == said


async def test_an_answer_of_a_newer_version_than_was_asked_is_not_kept() -> None:
    script, cache = Counting(), TransitionCache()

    class Reloading(ScriptedEngine):
        async def generate(self, request: GenerationRequest) -> Completion:
            self.version = "1"
            return await super().generate(request)

    await cache.generate(Reloading(script, TOKENIZER), request())
    assert len(cache) == 0


async def test_memory_is_bounded_and_what_was_asked_longest_ago_goes_first() -> None:
    script, cache = Counting(), TransitionCache(mib=4096 / 2**20)
    engine = engine_of(script)
    for prompt in "abcdefgh":
        await cache.generate(engine, request(prompt))
        await cache.generate(engine, request("a"))
    assert cache.mib <= 4096 / 2**20
    assert 0 < len(cache) < 8
    assert (await cache.generate(engine, request("a"))).cached
    assert not (await cache.generate(engine, request("b"))).cached


class Failing(ScriptedEngine):
    """Fails, but only after others could ask too."""

    recoverable = True

    async def generate(self, request: GenerationRequest) -> Completion:
        await anyio.lowlevel.checkpoint()
        raise EngineError("broken", recoverable=self.recoverable)


@pytest.mark.parametrize("recoverable", [True, False])
async def test_a_failure_is_shared_by_those_who_wait_and_not_kept(recoverable: bool) -> None:
    cache, failed = TransitionCache(), list[EngineError]()
    engine = Failing(Counting(), TOKENIZER)
    engine.recoverable = recoverable

    async def ask() -> None:
        with pytest.raises(EngineError, match="broken") as caught:
            await cache.generate(engine, request())
        failed.append(caught.value)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
    assert [error.recoverable for error in failed] == [recoverable] * 3
    assert len({id(error) for error in failed}) == 3
    assert len(cache) == 0


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="switch it off"):
        TransitionCache(mib=0)


async def test_a_dream_tells_which_steps_cost_no_engine_call_and_counts_them() -> None:
    calls: list[str] = []

    def script(asked: GenerationRequest) -> str:
        calls.append(asked.request_id)
        return answer_segment(reasoning="so it is", changed=["egg: held"], reward=0, outcome="running")

    task = Task(environment="t", instruction="go", first_state=State.of(["egg: here"]), fold="train")
    checks = Checks(cache=TransitionCache())
    settings = ExperienceSettings(layout=PromptLayout(retrieve="off"))
    model = ExperienceModel(ScriptedEngine(script, TOKENIZER), TOKENIZER, settings, checks=checks)
    for number in range(3):
        async with DreamEnvironment(model).session(task, episode_id=str(number), seed=number) as session:
            steps = [await session.step("take egg"), await session.step("wave")]
        assert [step.trust.cached for step in steps if step.trust is not None] == [number > 0] * 2
        assert [step.state.lines for step in steps] == [("egg: held",)] * 2
    figures = checks.count.figures
    assert (len(calls), figures.saved_calls, figures.saved_share) == (2, 4, 4 / 6)
    assert figures.saved_tokens > 0
