"""Trials of kill -9: a run is killed at seeded moments, resumed, killed again, and at last let end; or its engine is.

In: seeds, a number of trials, a directory. Out: one line of JSON for each trial, appended when it is over.
Always: a trial's scenario and moments follow from its seed and number alone; after every kill the files are looked at,
and when the run is over its records are those of one that nobody disturbed. A trial with something wrong keeps its
directory.

    python -m benchmarks.kill9_trials --work runs/benchmarks/kill9 --trials 100 --seeds 0,1,2
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import kill9_engine
from benchmarks.kill9_checks import accounted, compare, look, records, summary_of
from benchmarks.kill9_sitting import KINDS, Moment, Sat, load, sit
from benchmarks.main_job import numbers
from dreamsim.runtime.seeds import generator

MOST_KILLS = 4
"""Kills of one trial."""
KIND_SHARES = (0.4, 0.2, 0.25, 0.15)
"""How often each kind of moment is chosen, in the order of `KINDS`."""
LET_EVERYTHING_IN = (
    "--store.filter.min_quality=0",
    "--store.filter.max_generation=none",
    "--store.filter.finished_only=no",
    "--store.filter.contradiction_free=no",
    "--store.filter.verified_only=no",
)
"""So that what the scripted world dreams is indexed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A run that can be killed."""

    episodes: int
    """How many."""
    concurrency: int
    """At the same moment."""
    latency_s: float
    """Of a step."""
    rooms: int
    """Size of the world: the length of episodes."""
    policy: str
    """Who plays."""

    def arguments(self) -> list[str]:
        """Of `python -m dreamsim.run`."""
        return [
            "--policy.engine=scripted",
            "--experience.engine=scripted",
            "--directory=run",
            f"--episodes={self.episodes}",
            f"--concurrency={self.concurrency}",
            f"--scripted.latency_s={self.latency_s}",
            f"--scripted.rooms={self.rooms}",
            f"--scripted.policy={self.policy}",
            "--run.max_steps=8",
            "--display.mode=plain",
            *LET_EVERYTHING_IN,
        ]


SCENARIOS = (
    Scenario(episodes=240, concurrency=32, latency_s=0.002, rooms=4, policy="gold"),
    Scenario(episodes=300, concurrency=300, latency_s=0.01, rooms=3, policy="random"),
    Scenario(episodes=160, concurrency=4, latency_s=0.0, rooms=5, policy="random"),
    Scenario(episodes=200, concurrency=64, latency_s=0.0, rooms=2, policy="gold"),
    Scenario(episodes=120, concurrency=16, latency_s=0.004, rooms=6, policy="random"),
)

ENGINE = Scenario(episodes=150, concurrency=40, latency_s=0.002, rooms=4, policy="random")
"""The run whose engine is killed."""
LET_ALL_FAIL = ("--run.max_failures=100%",)
"""A run ends early when too much fails; this one goes on to its last task."""
ENGINE_SCENARIO = len(SCENARIOS)
"""Its number, after those of the others."""
REFUSED = 2
"""Exit code of a run that could not begin."""
MOST_REFUSALS = 20
"""Times that it is begun again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """What a scenario comes to if nobody kills it."""

    seconds: float
    """How long it takes."""
    counts: dict[str, int]
    """How often each kind of moment comes."""
    records: dict[str, str]
    """Its episodes."""


@dataclass(kw_only=True)
class Trial:
    """What happened in one trial."""

    seed: int
    number: int
    scenario: int
    kills: list[str] = field(default_factory=list)
    """The kinds of the kills that came."""
    sittings: int = 0
    wrong: list[str] = field(default_factory=list)
    """Nothing, if all is well."""


def undisturbed(work: Path, number: int) -> Undisturbed:
    """Run a scenario to its end."""
    place = work / f"undisturbed-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    sat = sit(SCENARIOS[number].arguments(), place, place / "acknowledged", None)
    wrong = look(place / "run", place / "acknowledged", place / "copy") if sat.code == 0 else [f"exit code {sat.code}"]
    if wrong:
        raise RuntimeError(f"scenario {number} cannot be run undisturbed: {wrong}; see {place / 'output.txt'}")
    if missing := set(KINDS) - {"time"} - sat.counts.keys():
        raise RuntimeError(f"scenario {number} has no moment of {sorted(missing)}: the reaper does not hear of them")
    found = records(place / "run")
    shutil.rmtree(place)
    return Undisturbed(seconds=sat.seconds, counts=sat.counts, records=found)


def moments(seed: int, number: int, whole: Undisturbed) -> list[Moment]:
    """When this trial's sittings are killed; later ones have less to do, so their moments come earlier."""
    draw = generator(seed, "kill9", number)
    chosen = []
    for sitting in range(int(draw.integers(1, MOST_KILLS + 1))):
        kind = KINDS[int(draw.choice(len(KINDS), p=KIND_SHARES))]
        most = whole.seconds if kind == "time" else whole.counts[kind]
        at = float(draw.uniform(0, most * 0.7**sitting))
        chosen.append(Moment(kind=kind, at=at if kind == "time" else max(1, round(at))))
    return chosen


def trial(work: Path, seed: int, number: int, whole: Undisturbed) -> Trial:
    """Kill, look, resume, until it ends; then compare."""
    which = number % (len(SCENARIOS) + 1)
    told = Trial(seed=seed, number=number, scenario=which)
    place = work / f"trial-{seed}-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for moment in [*moments(seed, number, whole), None]:
        sat = _sitting(place, SCENARIOS[which], moment)
        told.sittings += 1
        if sat.killed and moment is not None:
            told.kills.append(moment.kind)
            told.wrong += [f"after kill {told.sittings}: {wrong}" for wrong in _left(place)]
        elif sat.code != 0:
            told.wrong.append(f"sitting {told.sittings} ended with code {sat.code}")
            break
    if not told.wrong:
        told.wrong += [*_left(place), *compare(whole.records, records(place / "run"))]
        told.wrong += summary_of(place / "run", len(whole.records))
    if not told.wrong:
        shutil.rmtree(place)
    return told


def engine_trial(work: Path, seed: int, number: int) -> Trial:
    """Kill the engine again and again while a run asks it; every task must end in one episode all the same."""
    told = Trial(seed=seed, number=number, scenario=ENGINE_SCENARIO)
    place = work / f"trial-{seed}-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    port = kill9_engine.free_port()
    keeper = kill9_engine.keep_killing(port, seed, number, place / "engine-kills")
    code = REFUSED
    try:
        while code == REFUSED and told.sittings < MOST_REFUSALS:  # refused where the engine was just away
            kill9_engine.wait_for(port)
            begun = (place / "run" / "config.toml").is_file()
            arguments = ["--run.resume=run"] if begun else [*ENGINE.arguments(), *LET_ALL_FAIL]
            code = sit(arguments, place, place / "acknowledged", None, kill9_engine.play_against(port)).code
            told.sittings += 1
    finally:
        kill9_engine.stop(keeper)
    counted = place / "engine-kills"
    told.kills = ["engine"] * (counted.stat().st_size if counted.is_file() else 0)
    if code not in (0, 1):
        told.wrong.append(f"the run ended with code {code}")
    else:
        told.wrong += [*_left(place), *accounted(place / "run", ENGINE.episodes)]
    if not told.wrong:
        shutil.rmtree(place)
    return told


def _sitting(place: Path, scenario: Scenario, moment: Moment | None) -> Sat:
    begun = (place / "run" / "config.toml").is_file()
    arguments = ["--run.resume=run"] if begun else scenario.arguments()
    return sit(arguments, place, place / "acknowledged", moment)


def _left(place: Path) -> list[str]:
    return look(place / "run", place / "acknowledged", place / "copy")


def done(path: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """The trials that are over already, by seed and number."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    known = [json.loads(line) for line in lines if line.endswith("}")]
    return {(one["seed"], one["number"]): one for one in known}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the trials that are not done yet."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill9_trials", description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=100, help="of each seed")
    parser.add_argument("--seeds", type=numbers, default=(0,))
    given = parser.parse_args(arguments)
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "trials.jsonl"
    known = done(kept)
    load()
    whole: dict[int, Undisturbed] = {}
    for number in range(given.trials):
        for seed in given.seeds:
            if (seed, number) in known:
                continue
            which = number % (len(SCENARIOS) + 1)
            if which == ENGINE_SCENARIO:
                told = engine_trial(work, seed, number)
            else:
                if which not in whole:
                    whole[which] = undisturbed(work, which)
                told = trial(work, seed, number, whole[which])
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(told)) + "\n")
            print(json.dumps(asdict(told)), flush=True)
    return 0


if __name__ == "__main__":
    # Before numpy's threads are made: a process with threads cannot be forked safely.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    raise SystemExit(main())
