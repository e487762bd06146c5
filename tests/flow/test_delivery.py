"""The station that brings weights to engines, and the closed loop of stations around it, on scripted engines."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import pytest

from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.errors import EngineError, UsageError
from dreamsim.flow.delivery import Delivered, DeliveryStatistics, deliver
from dreamsim.flow.staleness import Pace, PaceSettings
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.runtime.pipes import Pipe
from tests.flow.runs import in_virtual_time


def scripted(*, load_s: float) -> ScriptedEngine:
    return ScriptedEngine(lambda request: "a", ByteTokenizer(), load_s=load_s)


class Refusing(ScriptedEngine):
    """Cannot take weights."""

    async def load_weights(self, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        raise EngineError("no room", recoverable=False)


def updates(*versions: int) -> Pipe[WeightsUpdate]:
    pipe: Pipe[WeightsUpdate] = Pipe("updates", len(versions) + 1, now=anyio.current_time)
    for version in versions:
        pipe.sender.send_nowait(WeightsUpdate(version=version, path=Path(f"v{version}"), kind="full"))
    pipe.sender.close()
    return pipe


def test_every_engine_gets_every_version_and_the_slowest_sets_the_time() -> None:
    async def main() -> tuple[DeliveryStatistics, list[Delivered], list[str]]:
        engines = [scripted(load_s=1.0), scripted(load_s=4.0)]
        seen: list[Delivered] = []
        done = await deliver(updates(1, 2, 5).receiver, engines, report=seen.append)
        assert [[one.version for one in engine.loaded] for engine in engines] == [[1, 2, 5]] * 2
        return done, seen, [engine.version for engine in engines]

    done, seen, versions = in_virtual_time(main)
    assert versions == ["5", "5"]
    assert [one.seconds for one in seen] == [4.0, 4.0, 4.0]
    assert (done.versions, done.swap_s, done.slowest_s) == ([1, 2, 5], 12.0, 4.0)


def test_pacing_hears_of_a_version_when_all_engines_have_it() -> None:
    async def main() -> tuple[list[tuple[float, int]], float]:
        heard: list[tuple[float, int]] = []

        class Listening(Pace):
            def delivered(self, version: int) -> None:
                super().delivered(version)
                heard.append((anyio.current_time(), version))

        pace = Listening(PaceSettings(max_lag=1))
        await deliver(updates(1, 2).receiver, [scripted(load_s=1.0), scripted(load_s=3.0)], pace=pace)
        return heard, pace.statistics().engine_waited_s

    heard, waited = in_virtual_time(main)
    assert heard == [(3.0, 1), (6.0, 2)]
    assert waited == 6.0


async def test_an_engine_that_cannot_take_weights_ends_the_station_and_admission() -> None:
    pace = Pace(PaceSettings())
    engines = [scripted(load_s=0.0), Refusing(lambda request: "a", ByteTokenizer())]
    with pytest.raises(EngineError, match="no room"):
        await deliver(updates(1).receiver, engines, pace=pace)
    assert not await pace.turn()


async def test_versions_that_do_not_grow_are_refused() -> None:
    with pytest.raises(UsageError, match="version 2 came after 2"):
        await deliver(updates(2, 2).receiver, [scripted(load_s=0.0)])


async def test_a_cancelled_delivery_ends_admission() -> None:
    pace = Pace(PaceSettings())
    pipe: Pipe[WeightsUpdate] = Pipe("updates", 1, now=anyio.current_time)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(deliver, pipe.receiver, [scripted(load_s=0.0)], pace=pace))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert not await pace.turn()
    pipe.close()
