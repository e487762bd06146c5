"""What the store takes and gives per second, on synthetic house states.

In: `--steps`, how many are stored; `--askers`, how many tasks query at once. Out: one JSON line on standard output.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/store.py --steps 20000

Rates are per second of processor time of the whole process (encoding, row reading and JSON included), so that a busy
machine does not change them: what one core does. `wall_s` is how long it all took.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import anyio
import numpy as np

from dreamsim.records.episode import Episode, Transition, episode_id
from dreamsim.records.experience import ExperienceQuery
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.runtime.memory import resident_mib
from dreamsim.runtime.seeds import generator
from dreamsim.store.store import open_store

STEPS_EACH = 20
THINGS = [f"{colour} {thing}" for colour in ("red", "blue", "old", "clean") for thing in ("key", "mug", "shirt", "egg")]
PLACES = ("in box", "in fridge", "on table", "held", "in wardrobe", "here")
VERBS = ("take", "open", "close", "examine", "eat", "put")


def make_episode(random: np.random.Generator, number: int) -> Episode:
    """An episode of random steps in a random house."""
    states = [State.of(_lines(random)) for _ in range(STEPS_EACH + 1)]
    task = Task(environment="house", instruction="tidy up", first_state=states[0], fold="train", seed=number)
    return Episode(
        id=episode_id("benchmark", task.key, 0),
        run="benchmark",
        task=task,
        repeat=0,
        source="real",
        purpose="experience",
        transitions=tuple(
            Transition(
                action=_action(random),
                state=state,
                reward=0.0,
                outcome="running",
                reasoning="The thing is not held and its container is open, so it can be taken.",
            )
            for state in states[1:]
        ),
        outcome="truncated",
    )


def _lines(random: np.random.Generator) -> list[str]:
    things, places = random.permutation(len(THINGS))[:8], random.integers(len(PLACES), size=8)
    inside = [f"{THINGS[thing]}: {PLACES[place]}" for thing, place in zip(things, places, strict=True)]
    return [f"at: room {random.integers(9)}", *inside]


def _action(random: np.random.Generator) -> str:
    return f"{VERBS[random.integers(len(VERBS))]} {THINGS[random.integers(len(THINGS))]}"


def queries_of(random: np.random.Generator, count: int) -> list[ExperienceQuery]:
    """Queries from states never stored."""
    return [ExperienceQuery(state=State.of(_lines(random)).lines, action=_action(random), k=4) for _ in range(count)]


async def measure(path: Path, steps: int, askers: int, rounds: int) -> dict[str, float]:
    """All figures."""
    random = generator(0, "benchmark")
    episodes = [make_episode(random, number) for number in range(steps // STEPS_EACH)]
    queries = queries_of(random, askers * rounds)
    started, begun_mib = time.monotonic(), resident_mib()
    async with open_store(path) as store:
        await store.add_durable(make_episode(random, -1))
        await store.flush()  # libraries are loaded
        loaded_mib = resident_mib()
        begun = time.process_time()
        await store.add_all(episodes)
        written = time.process_time()
        await store.flush()
        indexed = time.process_time()

        async def ask(start: int) -> None:
            for query in queries[start::askers]:
                await store.retrieve(query)

        async with anyio.create_task_group() as tasks:
            for start in range(askers):
                tasks.start_soon(ask, start)
        asked = time.process_time()
        statistics = store.statistics()
    closed = time.process_time()
    return {
        "steps": len(episodes) * STEPS_EACH,
        "steps_written_per_s": len(episodes) * STEPS_EACH / (written - begun),
        "steps_written_and_indexed_per_s": len(episodes) * STEPS_EACH / (indexed - begun),
        "queries_per_s": len(queries) / (asked - indexed),
        "queries_per_batch": statistics.queries / statistics.query_batches,
        "close_s": closed - asked,
        "wall_s": time.monotonic() - started,
        "loaded_mib": loaded_mib - begun_mib,
        "rss_growth_mib": resident_mib() - loaded_mib,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--askers", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.sqlite3"
        figures = anyio.run(measure, path, given.steps, given.askers, given.rounds)
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))
