"""Episodes inside a program of your own: plain asyncio, its own tasks, its own end.

    python examples/embed_in_your_loop.py

In: nothing; environment and policy are scripted, so that it runs anywhere. Out: what happened, on standard output.
Always: when the block is left, no task and no thread of the simulator is left, although the loop was broken out of.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

from dreamsim.flow.source import CyclingTasks
from dreamsim.simulator import Simulator
from dreamsim.testing import MemorySink, RandomPolicy, ScriptedEnvironment, scripted_tasks

WANTED = 200


async def heartbeat(beats: list[float]) -> None:
    """Work of your own, in the same loop."""
    while True:
        beats.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.01)


async def collect(wanted: int) -> tuple[Counter[str], MemorySink]:
    """Take the first `wanted` episodes of an endless supply."""
    kept = MemorySink()  # in place of a store
    outcomes: Counter[str] = Counter()
    async with Simulator(
        environment=ScriptedEnvironment(latency_s=0.002),  # your environment, or an experience model's
        policy=RandomPolicy(),  # your agent
        tasks=CyclingTasks(scripted_tasks(50), episodes=1_000_000),
        sink=kept,
        run="embedded",
        concurrency=64,
        max_steps=20,
        seed=1,
    ) as simulator:
        async for episode in simulator.episodes():
            outcomes[episode.outcome] += 1
            if outcomes.total() == wanted:
                break  # what still runs is cancelled, and stored as cancelled
    return outcomes, kept


async def main() -> None:
    """Your program."""
    tasks_before, threads_before = asyncio.all_tasks(), threading.active_count()
    beats: list[float] = []
    mine = asyncio.create_task(heartbeat(beats))

    outcomes, kept = await collect(WANTED)

    print(f"{outcomes.total()} episodes: {dict(sorted(outcomes.items()))}")
    cut_off = sum(episode.error_kind == "cancelled" for episode in kept.episodes.values())
    print(f"{len(kept.episodes)} stored, {cut_off} of them cut off when the loop was left")
    print(f"meanwhile the heartbeat beat {len(beats)} times")

    assert asyncio.all_tasks() - tasks_before == {mine}, "the simulator left a task behind"
    assert threading.active_count() == threads_before, "the simulator left a thread behind"
    mine.cancel()


if __name__ == "__main__":
    asyncio.run(main())
