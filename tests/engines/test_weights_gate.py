"""New weights while requests are in flight, on the scripted engine: who answers by which."""

from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.engines.adapted import AdaptedEngine
from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.engines.weights_gate import WeightsGate
from dreamsim.errors import ConfigurationError, EngineError
from dreamsim.protocols import Engine, WeightsReceiver
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.weights import InFlight, WeightsUpdate, version_number
from tests.flow.runs import in_virtual_time

WAYS: tuple[InFlight, ...] = ("drain", "keep", "abort")


def engine(*, answer_s: float = 10.0, load_s: float = 3.0) -> ScriptedEngine:
    def respond(request: GenerationRequest) -> str:
        return f"by {scripted.version}"

    scripted = ScriptedEngine(
        respond, ByteTokenizer(), latency=Latency(start_s=answer_s), load_s=load_s, adapters=["policy"]
    )
    return scripted


def request(name: str) -> GenerationRequest:
    prompt = np.arange(1, 9, dtype=np.int32)
    return GenerationRequest(request_id=name, prompt_token_ids=prompt, sampling=Sampling(max_tokens=20), seed=0)


def weights(version: int, kind: str = "full") -> WeightsUpdate:
    return WeightsUpdate(version=version, path=Path(f"v{version}"), kind="lora" if kind == "lora" else "full")


def words(completion: Completion) -> str:
    return ByteTokenizer().decode(completion.token_ids)


Asked = dict[str, tuple[str, str, float]]


async def swapped_while_asked(served: ScriptedEngine, in_flight: InFlight) -> tuple[Asked, float]:
    """Version, words and time of a request begun 1 s before the swap and of one that comes 1 s into it; and how long
    the swap took."""
    seen: Asked = {}

    async def ask(name: str, after: float) -> None:
        await anyio.sleep(after)
        completion = await served.generate(request(name))
        seen[name] = (completion.version, words(completion), anyio.current_time() - begun)

    begun = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(ask, "before", 0.0)
        group.start_soon(ask, "during", 2.0)
        await anyio.sleep(1.0)
        await served.load_weights(weights(7), in_flight=in_flight)
        took = anyio.current_time() - begun - 1.0
    return seen, took


def test_drained_requests_end_with_the_old_weights_and_hold_the_swap() -> None:
    seen, took = in_virtual_time(lambda: swapped_while_asked(engine(), "drain"))
    assert seen["before"] == ("0", "by 0", 10.0)
    assert seen["during"] == ("7", "by 7", 23.0)  # 10 s until drained, 3 s to load, 10 s to answer
    assert took == 12.0


def test_kept_requests_go_on_and_count_as_begun() -> None:
    seen, took = in_virtual_time(lambda: swapped_while_asked(engine(), "keep"))
    assert seen["before"] == ("0", "by 0", 10.0)
    assert seen["during"] == ("7", "by 7", 14.0)
    assert took == 3.0


def test_aborted_requests_are_asked_again_and_their_caller_only_waits() -> None:
    served = engine()
    seen, took = in_virtual_time(lambda: swapped_while_asked(served, "abort"))
    assert seen["before"] == seen["during"] == ("7", "by 7", 14.0)
    assert took == 3.0
    assert served.aborted == ["before"]


def test_what_does_not_end_in_time_is_begun_again() -> None:
    async def main() -> tuple[float, int]:
        gate, tries = WeightsGate(drain_seconds=5.0), 0

        async def ask() -> None:
            nonlocal tries
            tries += 1
            await anyio.sleep(100.0 if tries == 1 else 1.0)

        async with anyio.create_task_group() as group:
            group.start_soon(gate.through, ask)
            await anyio.wait_all_tasks_blocked()
            async with gate.closed("drain"):
                closed_at = anyio.current_time() - begun
        return closed_at, gate.repeated

    begun = 0.0
    closed_at, repeated = in_virtual_time(main)
    assert (closed_at, repeated) == (5.0, 1)


@pytest.mark.parametrize("in_flight", WAYS)
def test_a_cancelled_request_is_not_asked_again(in_flight: InFlight) -> None:
    async def main() -> list[str]:
        served = engine()
        async with anyio.create_task_group() as group:
            group.start_soon(served.generate, request("gone"))
            await anyio.sleep(1.0)
            group.cancel_scope.cancel()
        await served.load_weights(weights(1), in_flight=in_flight)
        return served.aborted

    assert in_virtual_time(main) == ["gone"]


def test_a_swap_that_fails_leaves_the_gate_open() -> None:
    async def main() -> int:
        gate = WeightsGate()
        with pytest.raises(ZeroDivisionError):
            async with gate.closed("drain"):
                raise ZeroDivisionError

        async def answer() -> int:
            return 5

        return await gate.through(answer)

    assert in_virtual_time(main) == 5


def test_an_adapter_is_replaced_while_others_go_on() -> None:
    async def main() -> list[tuple[str, float]]:
        served = engine()
        policy = AdaptedEngine(served, "policy")
        assert isinstance(policy, Engine)
        assert isinstance(policy, WeightsReceiver)
        assert policy.version == "0"
        seen: list[tuple[str, float]] = []

        async def ask(one: Engine) -> None:
            completion = await one.generate(request(str(len(seen))))
            seen.append((completion.version, anyio.current_time()))

        async with anyio.create_task_group() as group:
            group.start_soon(ask, policy)
            group.start_soon(ask, served)
            await anyio.sleep(1.0)
            await policy.load_weights(weights(2, "lora"))
            assert (policy.version, served.version) == ("policy-v2", "0")
            group.start_soon(ask, policy)
        return seen

    assert in_virtual_time(main) == [("0", 10.0), ("0", 10.0), ("policy-v2", 14.0)]


@pytest.mark.parametrize(("in_flight", "kept"), [("drain", {"policy-v1", "policy-v2"}), ("abort", {"policy-v2"})])
def test_an_old_adapter_goes_when_its_last_request_has_ended(in_flight: InFlight, kept: set[str]) -> None:
    async def main() -> tuple[set[str], set[str], str]:
        served = engine()
        policy = AdaptedEngine(served, "policy")
        await policy.load_weights(weights(1, "lora"))
        async with anyio.create_task_group() as group:
            group.start_soon(policy.generate, request("old"))
            await anyio.sleep(1.0)
            await policy.load_weights(weights(2, "lora"), in_flight=in_flight)
            during = set(served.held)
        return during, served.held, (await policy.generate(request("new"))).version

    assert in_virtual_time(main) == (kept, {"policy-v2"}, "policy-v2")


async def test_an_adapter_that_nobody_announced_cannot_be_loaded() -> None:
    with pytest.raises(EngineError, match="no adapter 'judge'"):
        await AdaptedEngine(engine(), "judge").load_weights(weights(1, "lora"))


@pytest.mark.parametrize(("kind", "adapted"), [("lora", False), ("full", True)])
async def test_weights_of_the_other_kind_are_refused(kind: str, adapted: bool) -> None:
    served = engine()
    receiver: WeightsReceiver = AdaptedEngine(served, "policy") if adapted else served
    with pytest.raises(ConfigurationError):
        await receiver.load_weights(weights(1, kind))
    assert served.loaded == []


@settings(max_examples=30)  # each runs an event loop
@given(
    st.lists(st.floats(0, 20), max_size=12),
    st.lists(st.tuples(st.floats(0, 20), st.sampled_from(WAYS)), max_size=4),
)
def test_every_answer_is_by_one_version_and_says_which(
    requests: list[float], swaps: list[tuple[float, InFlight]]
) -> None:
    async def main() -> list[Completion]:
        served = engine(answer_s=4.0, load_s=1.0)
        answers: list[Completion] = []

        async def ask(at: float, number: int) -> None:
            await anyio.sleep(at)
            answers.append(await served.generate(request(str(number))))

        async def swap() -> None:
            for version, (after, in_flight) in enumerate(swaps, start=1):
                await anyio.sleep(after)
                await served.load_weights(weights(version), in_flight=in_flight)

        async with anyio.create_task_group() as group:
            group.start_soon(swap)
            for number, at in enumerate(requests):
                group.start_soon(ask, at, number)
        return answers

    answers = in_virtual_time(main)
    assert len(answers) == len(requests)
    assert all(words(one) == f"by {version_number(one.version)}" for one in answers)
