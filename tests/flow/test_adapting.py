"""Whole runs on an engine whose cache is small, paused runs, and episodes that are ended or played again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.agents.language_model import LanguageModelPolicy, PolicySettings
from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.engines.scripted_cache import ScriptedCache
from dreamsim.errors import EngineError, UsageError
from dreamsim.flow.concurrency import LOOK_S
from dreamsim.records.episode import Episode
from dreamsim.records.load import EngineLoad
from dreamsim.runtime.clock import VirtualClock
from dreamsim.runtime.snapshot import Snapshot
from dreamsim.simulator import Simulator
from dreamsim.testing import MemorySink, RandomPolicy, ScriptedEnvironment, scripted_tasks
from tests.flow.runs import RUN, RememberedTasks, in_virtual_time, record

TASKS = scripted_tasks(5)


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of a run."""

    episodes: dict[str, Episode]
    stored: dict[str, int]
    given: list[str]
    snapshot: Snapshot
    cache: ScriptedCache


def play(*, adaptive: bool, tokens: int, episodes: int = 150, requeue: bool = True) -> Played:
    """A run at a concurrency of 120 on an engine whose cache has room for `tokens` tokens."""
    cache = ScriptedCache(tokens=tokens)
    latency = Latency(start_s=0.2, prompt_token_s=0.002, token_s=0.02)
    engine = ScriptedEngine(lambda request: "look around\n" + "." * 52, ByteTokenizer(), latency=latency, cache=cache)
    policy = LanguageModelPolicy(engine, ByteTokenizer(), PolicySettings(window=0, begin_action=True, max_tokens=64))
    source, sink = RememberedTasks(TASKS, episodes=episodes), MemorySink()

    async def main() -> tuple[dict[str, Episode], Snapshot]:
        simulator = Simulator(
            environment=ScriptedEnvironment(),
            policy=policy,
            tasks=source,
            sink=sink,
            run=RUN,
            concurrency=120,
            max_steps=4,
            clock=VirtualClock(),
            engines=[engine] if adaptive else [],
            requeue=requeue,
        )
        async with simulator as running:
            seen = {episode.id: episode async for episode in running.episodes()}
            return seen, simulator.telemetry.snapshot()

    seen, snapshot = in_virtual_time(main)
    return Played(episodes=seen, stored=sink.added, given=source.given_ids, snapshot=snapshot, cache=cache)


def test_a_small_cache_is_fought_over_less_with_the_controller_and_all_is_accounted_for() -> None:
    off, on = (play(adaptive=adaptive, tokens=20_000, episodes=300) for adaptive in (False, True))
    for played in (off, on):
        assert sorted(played.stored) == sorted(played.given) == sorted(played.episodes)
        assert set(played.stored.values()) == {1}
        assert (played.snapshot.admitted, played.snapshot.done, played.snapshot.alive) == (300, 300, 0)
    assert 0 < on.cache.preemptions < off.cache.preemptions / 3
    assert on.snapshot.counters["limit_cuts"] > 0
    assert on.snapshot.limit < 120


def test_episodes_that_were_played_again_are_as_if_they_had_been_played_once() -> None:
    off, on = play(adaptive=False, tokens=10_000), play(adaptive=True, tokens=10_000)
    assert on.snapshot.counters["requeued"] > 0
    assert {id: record(one) for id, one in on.episodes.items()} == {id: record(one) for id, one in off.episodes.items()}
    assert on.snapshot.steps == sum(len(one.transitions) for one in on.episodes.values())


def test_requeueing_can_be_switched_off() -> None:
    played = play(adaptive=True, tokens=10_000, requeue=False)
    assert ("requeued" in played.snapshot.counters, played.snapshot.done) == (False, 150)


def test_without_pressure_the_limit_is_the_ceiling() -> None:
    played = play(adaptive=True, tokens=10_000_000)
    assert (played.snapshot.limit, played.cache.preemptions) == (120, 0)


class SilentAtFirst:
    """An engine that tells its load from the `first`-th look on, and then a cache so full that episodes are cut."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.looks = 0

    async def load(self) -> EngineLoad | None:
        self.looks += 1
        return EngineLoad(running=20, waiting=4, cache_use=0.99) if self.looks >= self.first else None


class SilentAfter:
    """An engine under pressure that tells its load at `last` looks, and then raises: it is being started again."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.looks = 0

    async def load(self) -> EngineLoad | None:
        self.looks += 1
        if self.looks > self.last:
            raise EngineError("nobody there")
        return EngineLoad(running=20, waiting=4, cache_use=0.99)


def limits_of(engine: object, *, concurrency: int = 40) -> list[int]:
    """The limit in the middle of every look of a run of ten seconds and more."""
    seen: list[int] = []

    async def main() -> None:
        simulator = Simulator(
            environment=ScriptedEnvironment(latency_s=1.0),
            policy=RandomPolicy(),
            tasks=RememberedTasks(TASKS, episodes=3 * concurrency),
            run=RUN,
            concurrency=concurrency,
            max_steps=5,
            clock=VirtualClock(),
            engines=[engine],
        )

        async def watching() -> None:
            await anyio.sleep(LOOK_S / 2)
            while simulator.telemetry.live:
                seen.append(simulator.telemetry.limit)
                await anyio.sleep(LOOK_S)

        async with simulator as running, anyio.create_task_group() as group:
            group.start_soon(watching)
            async for _ in running.episodes():
                pass

    in_virtual_time(main)
    return seen


def test_until_an_engine_tells_its_load_the_ceiling_is_the_limit_and_then_it_is_followed() -> None:
    limits = limits_of(SilentAtFirst(4))
    assert limits[:4] == [40] * 4
    assert min(limits) < 40


def test_an_engine_that_tells_nothing_any_more_leaves_the_limit_where_it_is() -> None:
    limits = limits_of(SilentAfter(2))
    assert 1 < limits[1] < 40
    assert set(limits[1:]) == {limits[1]}


Asked = Callable[[Simulator], None]


def episode_run(act: Asked, *, at_s: float, latency_s: float = 1.0) -> tuple[MemorySink, RememberedTasks, Simulator]:
    """A run of 12 episodes, 4 at once, in which `act` happens after `at_s` seconds."""
    source, sink = RememberedTasks(TASKS, episodes=12), MemorySink()

    async def later(simulator: Simulator) -> None:
        await anyio.sleep(at_s)
        act(simulator)

    async def main() -> Simulator:
        simulator = Simulator(
            environment=ScriptedEnvironment(latency_s=latency_s),
            policy=RandomPolicy(),
            tasks=source,
            sink=sink,
            run=RUN,
            concurrency=4,
            max_steps=5,
            episode_seconds=20.0,
            clock=VirtualClock(),
        )
        async with simulator as running, anyio.create_task_group() as group:
            group.start_soon(later, simulator)
            async for _ in running.episodes():
                pass
        return simulator

    return sink, source, in_virtual_time(main)


def test_an_ended_episode_is_a_typed_failure_in_the_store() -> None:
    ended: list[str] = []

    def act(simulator: Simulator) -> None:
        alive = next(iter(simulator.telemetry.live))
        ended.append(simulator.control.cancel_episode(alive[:8]))

    sink, source, _ = episode_run(act, at_s=1.0)
    assert sorted(sink.added) == sorted(source.given_ids)
    (episode,) = [one for one in sink.episodes.values() if one.outcome == "error"]
    assert [episode.id] == ended
    assert episode.error_kind == "cancelled"
    assert (episode.error_message or "").startswith("cancelled on request in step")


def test_all_episodes_of_an_ended_task_end_those_to_come_too() -> None:
    key = TASKS[0].key
    sink, source, _ = episode_run(lambda simulator: void(simulator.control.cancel_task(key)), at_s=0.4)
    assert sorted(sink.added) == sorted(source.given_ids)
    of_it = [one for one in sink.episodes.values() if one.task.key == key]
    assert len(of_it) == 3
    assert {one.error_kind for one in of_it} == {"cancelled"}
    assert {one.error_kind for one in sink.episodes.values() if one.task.key != key} == {None}


def void(_: object) -> None:
    """Forget a result."""


def test_what_is_not_alive_cannot_be_ended() -> None:
    def act(simulator: Simulator) -> None:
        with pytest.raises(UsageError, match="no episode that is alive"):
            simulator.control.cancel_episode("zzzz")

    episode_run(act, at_s=1.0)


def test_a_paused_run_takes_no_step_and_uses_up_no_episodes_time() -> None:
    seen: list[Snapshot] = []

    async def main() -> MemorySink:
        sink = MemorySink()
        simulator = Simulator(
            environment=ScriptedEnvironment(latency_s=1.0),
            policy=RandomPolicy(),
            tasks=RememberedTasks(TASKS, episodes=12),
            sink=sink,
            run=RUN,
            concurrency=4,
            max_steps=5,
            episode_seconds=20.0,
            stuck_seconds=30.0,
            clock=VirtualClock(),
        )

        async def pausing() -> None:
            await anyio.sleep(1.7)
            simulator.control.pause()
            await anyio.sleep(2.0)  # steps that had begun come to their end
            seen.append(simulator.telemetry.snapshot())
            await anyio.sleep(500.0)
            seen.append(simulator.telemetry.snapshot())
            simulator.control.resume()

        async with simulator as running, anyio.create_task_group() as group:
            group.start_soon(pausing)
            async for _ in running.episodes():
                pass
        return sink

    sink = in_virtual_time(main)
    before, after = seen
    assert (before.steps, before.admitted, before.done) == (after.steps, after.admitted, after.done)
    assert (after.paused, after.stalled, after.still_s) == (True, 0, 0.0)
    assert {one.error_kind for one in sink.episodes.values()} == {None}
    assert len(sink.episodes) == 12


def test_a_lowered_limit_is_kept_and_may_rise_again() -> None:
    peaks: list[int] = []

    def act(simulator: Simulator) -> None:
        simulator.control.set_ceiling(1)
        peaks.append(simulator.telemetry.snapshot().limit)
        with pytest.raises(UsageError, match="between 1 and 4"):
            simulator.control.set_ceiling(5)
        simulator.control.set_ceiling(4)
        peaks.append(simulator.telemetry.snapshot().limit)

    sink, _, _ = episode_run(act, at_s=1.0)
    assert peaks == [1, 4]
    assert len(sink.episodes) == 12


@settings(max_examples=40)
@given(
    wishes=st.lists(
        st.tuples(st.floats(0.01, 2.0), st.sampled_from(["pause", "resume", "lower", "raise", "requeue", "end"])),
        max_size=8,
    ),
    ending=st.sampled_from(["exhaust", "stop", "break"]),
)
def test_whatever_is_asked_of_a_run_every_assignment_ends_in_one_stored_episode(
    wishes: list[tuple[float, str]], ending: str
) -> None:
    source, sink = RememberedTasks(TASKS, episodes=20), MemorySink(latency_s=0.1)

    async def ask(simulator: Simulator) -> None:
        control = simulator.control
        for seconds, wish in wishes:
            await anyio.sleep(seconds)
            if wish == "pause":
                control.pause()
            elif wish == "resume":
                control.resume()
            elif wish == "end" and simulator.telemetry.live:
                control.cancel_episode(next(iter(simulator.telemetry.live)))
            elif wish in ("lower", "raise") and control.most:
                control.set_ceiling(1 if wish == "lower" else control.most)
            elif wish == "requeue":
                control.requeue_youngest(2)
        control.resume()

    async def main() -> None:
        simulator = Simulator(
            environment=ScriptedEnvironment(latency_s=0.3),
            policy=RandomPolicy(),
            tasks=source,
            sink=sink,
            run=RUN,
            concurrency=4,
            buffer=2,
            max_steps=5,
            clock=VirtualClock(),
        )
        async with simulator as running, anyio.create_task_group() as group:
            group.start_soon(ask, simulator)
            seen = 0
            async for _ in running.episodes():
                seen += 1
                if ending == "break" and seen == 5:
                    break
                if ending == "stop" and seen == 5:
                    await simulator.stop(drain_seconds=1.0)

    in_virtual_time(main)
    assert sorted(sink.added) == sorted(source.given_ids)
    assert set(sink.added.values()) <= {1}
