"""The loop: what is learned from, when, and what a kill changes (nothing)."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import anyio
import pytest
from anyio import to_thread

from dreamsim.engines.scripted import EngineFault
from dreamsim.errors import ConfigurationError, DreamsimError
from dreamsim.flow.alarms import Alarm
from dreamsim.flow.mixing import ShareSchedule
from dreamsim.records.batch import Batch
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.training import Line
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.runtime.telemetry import Telemetry
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import open_store
from dreamsim.training.loop import Training
from tests.training.worlds import SETTINGS, RememberingTrainer, numbers, parts, train, without_times

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


async def test_every_update_learns_from_its_own_groups_and_says_what_it_did(tmp_path: Path) -> None:
    history, trainer = await train(tmp_path)
    assert [line["update"] for line in history] == [0, 1, 2, 3, 4]
    assert [len(batch.groups) for batch in trainer.batches] == [2, 2, 2, 2]
    assert all(len(group.trajectories) == 3 for batch in trainer.batches for group in batch.groups)
    assert [line["evaluation_success"] is not None for line in history] == [True, False, True, False, True]
    assert history[-1]["total_episodes"] == 4 * 2 * 3
    assert history[-1]["total_real_transitions"] == 0
    assert numbers(history, "total_evaluation_transitions")[-1] > 0


async def test_what_is_learned_from_is_on_disk_before(tmp_path: Path) -> None:
    missing: list[str] = []

    class Looking(RememberingTrainer):
        def step(self, batch: Batch) -> UpdateMetrics:
            with sqlite3.connect(f"file:{tmp_path / 'store.sqlite'}?mode=ro", uri=True) as connection:
                there = {row[0] for row in connection.execute("SELECT id FROM episodes")}
            missing.extend(one.episode_id for one in batch.trajectories if one.episode_id not in there)
            return super().step(batch)

    async with open_store(tmp_path / "store.sqlite", encoder=None) as store:
        await Training(parts(store, Looking()), SETTINGS, directory=tmp_path).run()
    assert missing == []


@pytest.mark.parametrize("lag", [0, 1, 3])
async def test_no_step_is_learned_from_more_than_lag_versions_late(tmp_path: Path, lag: int) -> None:
    history, _ = await train(tmp_path, replace(SETTINGS, steps=8, lag=lag), evaluate=False)
    assert (
        max(numbers(history, "staleness")) == lag
    )  # and with lag 0 every step is decided by the weights that learn from it
    assert len(history) == 8


@pytest.mark.parametrize("in_flight", get_args(InFlight))
async def test_engines_are_told_what_becomes_of_requests_in_flight(tmp_path: Path, in_flight: InFlight) -> None:
    class Receiver:
        def __init__(self) -> None:
            self.told: list[InFlight] = []
            self.version = "0"

        async def load_weights(self, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
            self.told.append(in_flight)

    receiver = Receiver()
    settings = replace(SETTINGS, steps=2, lag=1, in_flight=in_flight)
    async with open_store(tmp_path / "store.sqlite", encoder=None) as store:
        made = replace(parts(store, RememberingTrainer()), receivers=[receiver])
        await Training(made, settings, directory=tmp_path).run()
    assert receiver.told == [in_flight] * 2


async def test_a_training_in_several_sittings_learns_what_one_would(tmp_path: Path) -> None:
    settings = replace(SETTINGS, real_share=ShareSchedule.parse(["0.5"]))
    _, trainer = await train(tmp_path / "whole", settings)
    for steps in (1, 3):
        await train(tmp_path / "parts", replace(settings, steps=steps))
    _, resumed = await train(tmp_path / "parts", settings)
    assert resumed.weights == trainer.weights


@pytest.mark.parametrize(("lag", "curriculum"), [(0, False), (1, False), (0, True)])
def test_kill_9_changes_nothing_that_is_learned(tmp_path: Path, lag: int, curriculum: bool) -> None:
    settings = replace(SETTINGS, steps=12, evaluate_every=5, lag=lag)
    training = partial(train, settings=settings, curriculum=curriculum)
    anyio.run(training, tmp_path / "whole")
    killed = tmp_path / "killed"
    script = (
        "import anyio, sys; from dataclasses import replace; from functools import partial; from pathlib import Path; "
        "from tests.training.worlds import SETTINGS, train; "
        f"settings = replace(SETTINGS, steps=12, evaluate_every=5, lag={lag}); "
        f"anyio.run(partial(train, Path(sys.argv[1]), settings, latency_s=0.005, curriculum={curriculum}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "adapters", ROOT / "trainers")))}
    for lines in (3, 8) if lag == 0 else (5,):
        process = subprocess.Popen([sys.executable, "-c", script, str(killed)], cwd=ROOT, env=environment)
        while not (killed / "metrics.jsonl").exists() or (killed / "metrics.jsonl").read_text().count("\n") < lines:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    anyio.run(training, killed)
    whole, resumed = (
        without_times([json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()])
        for name in ("whole", "killed")
    )
    for line in (*whole, *resumed) if lag else ():
        line.pop("staleness", None)  # what is played again may be played by newer weights
    assert whole == resumed
    weights = [(path / "weights" / "v12" / "weights").read_text() for path in (tmp_path / "whole", killed)]
    assert weights[0] == weights[1]
    planners = [json.loads((path / "state.json").read_text())["planner"] for path in (tmp_path / "whole", killed)]
    assert planners[0] == planners[1]  # which task is worth what, and which groups were planned


async def test_a_training_that_is_told_to_stop_does_and_can_go_on(tmp_path: Path) -> None:
    async def stop(line: Line, alarms: Sequence[Alarm]) -> None:
        if line["update"] == 2:
            training.stop()

    async with open_store(tmp_path / "store.sqlite", encoder=None) as store:
        training = Training(parts(store, RememberingTrainer()), SETTINGS, directory=tmp_path, report=stop)
        await training.run()
    assert not training.finished
    _, whole = await train(tmp_path / "whole")
    _, resumed = await train(tmp_path)
    assert resumed.weights == whole.weights


async def test_a_resumed_training_makes_no_update_twice(tmp_path: Path) -> None:
    await train(tmp_path, replace(SETTINGS, steps=2))
    _, trainer = await train(tmp_path, replace(SETTINGS, steps=4))
    assert [batch.number for batch in trainer.batches] == [2, 3]
    async with open_store(tmp_path / "store.sqlite", encoder=None, read_only=True) as store:
        counts = await store.counts("t")
    assert counts.episodes == 4 * 2 * 3


@pytest.mark.parametrize("lag", [0, 1])
async def test_no_episode_is_played_again_by_whoever_goes_on_from_an_older_state(tmp_path: Path, lag: int) -> None:
    settings = replace(SETTINGS, steps=8, save_every=4, evaluate_every=100, lag=lag)

    async def stop(line: Line, alarms: Sequence[Alarm]) -> None:
        if line["update"] == 7:
            training.stop()

    async with open_store(tmp_path / "store.sqlite", encoder=None) as store:
        training = Training(parts(store, RememberingTrainer()), settings, directory=tmp_path, report=stop)
        await training.run()
        stored = (await store.counts("t")).episodes
    telemetry = Telemetry()
    async with open_store(tmp_path / "store.sqlite", encoder=None) as store:
        again = Training(parts(store, RememberingTrainer()), settings, directory=tmp_path, telemetry=telemetry)
        history = await again.run()
    assert numbers(history, "update")[-1] == 8
    assert history[-1]["total_episodes"] == 8 * 2 * 3
    assert telemetry.snapshot().done == 8 * 2 * 3 - stored


async def test_the_best_weights_are_those_of_the_best_evaluation(tmp_path: Path) -> None:
    history, _ = await train(tmp_path, replace(SETTINGS, steps=6, evaluate_every=1))
    found = dict(zip(numbers(history, "update"), numbers(history, "evaluation_success"), strict=True))
    best = max(found.values())
    assert history[-1]["best_success"] == best
    assert history[-1]["best_update"] == min(update for update, value in found.items() if value == best)
    assert (tmp_path / "best" / "weights").exists()
    assert (tmp_path / "last" / "weights").exists()


async def test_evaluations_are_stored_apart(tmp_path: Path) -> None:
    await train(tmp_path)
    async with open_store(tmp_path / "store.sqlite", encoder=None, read_only=True) as store:
        purposes = {one.purpose async for one in store.episodes(EpisodeFilter(run="t"))}
        evaluated = [one async for one in store.episodes(EpisodeFilter(run="t-evaluation"))]
    assert purposes == {"training"}
    assert len(evaluated) == 3 * 3  # before, after 2, after 4: three games each
    assert {(one.purpose, one.source, one.task.fold) for one in evaluated} == {("evaluation", "real", "dev")}


async def test_real_transitions_stay_within_the_budget_and_end_a_real_training(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS, steps=50, real_share=ShareSchedule.parse(["1"]), max_real_transitions=100, evaluate_every=100
    )
    history, _ = await train(tmp_path, settings)
    async with open_store(tmp_path / "store.sqlite", encoder=None, read_only=True) as store:
        counts = (await store.counts("t")).only(source="real")
    assert history[-1]["total_real_transitions"] == counts.steps <= 100
    assert counts.steps > 100 - 18 - 18  # a group of 3 episodes of 6 steps may not fit any more
    assert numbers(history, "update")[-1] < 50
    assert history[-1]["evaluation_success"] is not None


async def test_a_training_that_never_gets_a_usable_group_ends_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(DreamsimError, match=r"3 rounds in a row held no group to learn from \(engine 6"):
        await train(tmp_path, fault={"policy": "error"}, evaluate=False)


async def test_a_dead_engine_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(DreamsimError, match="dead"):
        await train(tmp_path, fault={"policy": "dead"}, evaluate=False)


@pytest.mark.parametrize("lag", [0, 1])
async def test_a_training_that_a_dead_engine_ended_learns_what_one_would(tmp_path: Path, lag: int) -> None:
    settings = replace(SETTINGS, steps=6, lag=lag, minimum=1)
    faults: dict[str, EngineFault] = {"none": "dead"}

    async def die(line: Line, alarms: Sequence[Alarm]) -> None:
        if line["update"] == 2:
            faults["policy"] = "dead"

    async with open_store(tmp_path / "store.sqlite", encoder=None) as store:
        made = parts(store, RememberingTrainer(), evaluate=False, fault=faults)
        with pytest.raises(DreamsimError, match="dead"):
            await Training(made, settings, directory=tmp_path, report=die).run()
    resumed, trainer = await train(tmp_path, settings, evaluate=False)
    async with open_store(tmp_path / "store.sqlite", encoder=None, read_only=True) as store:
        counts = await store.counts("t")
    assert counts.by_error_kind == {}
    assert counts.episodes == 6 * 2 * 3
    assert numbers(resumed, "episodes_failed") == [0] * 6
    if lag == 0:  # with a lag, what is played again is played by newer weights
        whole, other = await train(tmp_path / "whole", settings, evaluate=False)
        assert trainer.weights == other.weights
        assert without_times(resumed) == without_times(whole)


async def test_an_alarm_is_written_down_once_when_it_begins_to_ring(tmp_path: Path) -> None:
    history, _ = await train(tmp_path, replace(SETTINGS, steps=6), evaluate=False)  # METRICS: no group ever differs
    text = await to_thread.run_sync((tmp_path / "alarms.jsonl").read_text)
    told = [json.loads(line) for line in text.splitlines()]
    assert [(one["update"], one["name"]) for one in told if one["name"] == "no variance"] == [(3, "no variance")]
    assert all(one["advice"] for one in told)
    assert numbers(history, "alarms")[1] < numbers(history, "alarms")[2]


async def test_an_environment_that_the_schedule_needs_is_asked_for_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="asks for real groups"):
        await train(tmp_path, replace(SETTINGS, real_share=ShareSchedule.parse(["0", "5:1"])), sources=("dreamed",))
