"""An engine that dies is started again, and nobody who asked it notices but by the time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from dreamsim.engines.restarting import RestartingEngine, open_restarting_engine
from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.errors import ConfigurationError, EngineDeadError
from dreamsim.protocols import Engine
from dreamsim.records.completion import GenerationRequest, Sampling
from dreamsim.records.weights import WeightsUpdate
from dreamsim.testing import FaultSchedule, FaultyEngine
from tests.flow.runs import in_virtual_time

TOKENIZER = ByteTokenizer()


class Garage:
    """Starts engines that take a second to start, and knows them all."""

    def __init__(self, *, broken_after: int = 99, answer_s: float = 1.0) -> None:
        self.started: list[FaultyEngine] = []
        self.scripted: list[ScriptedEngine] = []
        self.closed = 0
        self._broken_after = broken_after
        self._answer_s = answer_s

    async def opening(self) -> AbstractAsyncContextManager[Engine]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Engine]:
        if len(self.started) >= self._broken_after:
            raise ConfigurationError("no memory left for it")
        await anyio.sleep(1.0)
        scripted = ScriptedEngine(lambda r: "yes", TOKENIZER, latency=Latency(start_s=self._answer_s), adapters=["a"])
        self.scripted.append(scripted)
        self.started.append(_Loading(scripted))
        try:
            yield self.started[-1]
        finally:
            self.closed += 1


class _Loading(FaultyEngine):
    """Takes weights as the engine behind it does."""

    def __init__(self, engine: ScriptedEngine) -> None:
        super().__init__(engine, FaultSchedule(0, {}))
        self.load_weights = engine.load_weights
        self.load_adapter = engine.load_adapter


def request(id: str = "r") -> GenerationRequest:
    prompt = TOKENIZER.encode("hello")
    return GenerationRequest(request_id=id, prompt_token_ids=prompt, sampling=Sampling(max_tokens=9), seed=0)


def test_who_waits_when_the_engine_dies_gets_the_answer_of_the_next_one() -> None:
    async def main() -> tuple[list[str], float]:
        garage, answers = Garage(), []

        async def ask(engine: RestartingEngine, id: str) -> None:
            answers.append(TOKENIZER.decode((await engine.generate(request(id))).token_ids))

        async with open_restarting_engine(garage.opening, restarts=1) as engine:
            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(ask, engine, f"r{number}")
                await anyio.sleep(0.5)
                garage.started[0].die()
            assert engine.restarts == 1
            assert garage.closed == 1
        assert garage.closed == 2
        return answers, anyio.current_time()

    answers, seconds = in_virtual_time(main)
    assert answers == ["yes"] * 5
    assert seconds == 3.5  # started, died after half a second, started, answered


def test_an_engine_is_started_again_so_often_and_no_more() -> None:
    async def main() -> int:
        garage = Garage()
        async with open_restarting_engine(garage.opening, restarts=2) as engine:
            for number in range(3):
                await engine.generate(request())
                garage.started[-1].die()
                if number < 2:
                    await engine.generate(request())
            with pytest.raises(EngineDeadError, match="started again 2 times"):
                await engine.generate(request())
        return len(garage.started)

    assert in_virtual_time(main) == 3


def test_without_restarts_a_dead_engine_is_dead() -> None:
    async def main() -> None:
        garage = Garage()
        async with open_restarting_engine(garage.opening, restarts=0) as engine:
            garage.started[0].die()
            for _ in range(2):
                with pytest.raises(EngineDeadError, match="died"):
                    await engine.generate(request())

    in_virtual_time(main)


def test_an_engine_that_cannot_be_started_again_says_why_to_everyone_who_waits() -> None:
    async def main() -> int:
        garage, told = Garage(broken_after=1), []

        async def ask(engine: RestartingEngine, id: str) -> None:
            with pytest.raises(EngineDeadError, match="no memory left"):
                await engine.generate(request(id))
            told.append(id)

        async with open_restarting_engine(garage.opening, restarts=3) as engine, anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(ask, engine, f"r{number}")
            await anyio.sleep(0.5)
            garage.started[0].die()
        return len(told)

    assert in_virtual_time(main) == 4


def test_the_first_engine_that_cannot_be_started_is_a_setting_that_is_wrong() -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError, match="no memory left"):
            async with open_restarting_engine(Garage(broken_after=0).opening, restarts=3):
                raise AssertionError("never entered")

    in_virtual_time(main)


def test_an_engine_started_again_has_the_weights_that_were_loaded_last(tmp_path: Path) -> None:
    async def main() -> list[tuple[str, int]]:
        garage = Garage()
        async with open_restarting_engine(garage.opening, restarts=1) as engine:
            for version in (1, 2):
                await engine.load_weights(WeightsUpdate(version=version, path=tmp_path, kind="full"))
            await engine.load_adapter("a", WeightsUpdate(version=7, path=tmp_path, kind="lora"))
            garage.started[0].die()
            assert (await engine.generate(request())).version == "2"
            assert engine.version == "2"
        return [(one.kind, one.version) for one in garage.scripted[1].loaded]

    assert in_virtual_time(main) == [("full", 2), ("lora", 7)]


def test_at_most_so_many_requests_are_with_the_engine_first_come_first_served() -> None:
    async def main() -> tuple[int, list[str]]:
        garage, order, most = Garage(), [], 0

        async def ask(engine: RestartingEngine, id: str) -> None:
            nonlocal most
            await engine.generate(request(id))
            most = max(most, len(garage.started[0].in_flight) + 1)
            order.append(id)

        async with (
            open_restarting_engine(garage.opening, restarts=0, at_once=2) as engine,
            anyio.create_task_group() as group,
        ):
            for number in range(6):
                group.start_soon(ask, engine, f"r{number}")
            await anyio.sleep(0.5)
            assert engine.waiting == 4
        return most, order

    most, order = in_virtual_time(main)
    assert most <= 2
    assert order == [f"r{number}" for number in range(6)]


def test_a_cancelled_request_gives_its_place_back() -> None:
    async def main() -> float:
        garage = Garage()
        async with open_restarting_engine(garage.opening, restarts=0, at_once=1) as engine:
            for _ in range(3):
                with anyio.move_on_after(0.2):
                    await engine.generate(request())
            await engine.generate(request())
            assert engine.waiting == 0
        return anyio.current_time()

    assert in_virtual_time(main) == pytest.approx(2.6)


def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            async with open_restarting_engine(Garage().opening, restarts=1):
                raise KeyError("mine")

    in_virtual_time(main)


@pytest.mark.parametrize("settings", [{"restarts": -1}, {"restarts": 0, "at_once": 0}])
def test_numbers_that_make_no_sense_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        open_restarting_engine(Garage().opening, **settings)
