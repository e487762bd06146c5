"""The same number of episodes by inspect_ai or Gymnasium, under a Python that has them; run by `holds_peers.py`.

In: name, episodes at once, steps of each, directory. Out: one JSON line with `steps`, `wall_s`, `alive`. Always: needs
nothing of dreamsim; the model is the peer's own mock or none, so that only the framework's work is measured; it keeps
its log, as dreamsim keeps its store.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any

ACTION = "<action> open the fridge"


def inspect_ai(alive: int, steps: int, place: str) -> dict[str, Any]:
    """A task whose solver asks the mock model `steps` times, each answer followed by what the world shows."""
    os.environ["INSPECT_DISABLE_MODEL_API_RETRY"] = "1"
    inspect: Any = import_module("inspect_ai")
    models: Any = import_module("inspect_ai.model")
    datasets: Any = import_module("inspect_ai.dataset")
    # Without it the mock counts tokens with a vocabulary that it downloads.
    usage = models.ModelUsage(input_tokens=100, output_tokens=8, total_tokens=108)

    def episode() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            for step in range(steps):
                state = await generate(state)
                state.messages.append(models.ChatMessageUser(content=f"at: kitchen\nfridge: open\nstep: {step}"))
            return state

        return solve

    def answer(*_: Any) -> Any:
        said = models.ModelOutput.from_content(model="mockllm", content=ACTION)
        said.usage = usage
        return said

    model = models.get_model("mockllm/model", custom_outputs=answer)
    samples = [datasets.Sample(input="put the apple away") for _ in range(alive)]
    task = inspect.Task(
        dataset=datasets.MemoryDataset(samples), solver=import_module("inspect_ai.solver").solver(episode)()
    )
    begun = time.perf_counter()
    (log,) = inspect.eval(
        task, model=model, max_samples=alive, max_connections=alive, log_dir=place, display="none", score=False
    )
    wall = time.perf_counter() - begun
    if log.status != "success":
        raise SystemExit(f"inspect_ai ended with {log.status}: {log.error and log.error.message:.300}")
    return {"steps": alive * steps, "wall_s": wall, "alive": alive}


def gymnasium(alive: int, steps: int, place: str) -> dict[str, Any]:
    """Environments in processes of their own, stepped together; as many as memory and processes allow."""
    gym: Any = import_module("gymnasium")
    np: Any = import_module("numpy")
    base: Any = gym.Env

    del place

    class Room(base):  # type: ignore[misc]  # of a package that is not installed here
        """Shows the same room; what is measured is the framework."""

        observation_space = gym.spaces.Box(0, 1, (64,), np.float32)
        action_space = gym.spaces.Discrete(8)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return np.zeros(64, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(64, np.float32), 0.0, False, False, {}

    alive = min(alive, 64)  # a process each, 30 MiB and more
    environments = gym.vector.AsyncVectorEnv([Room] * alive)
    try:
        environments.reset(seed=0)
        actions = np.zeros(alive, dtype=np.int64)
        begun = time.perf_counter()
        for _ in range(steps):
            environments.step(actions)
        wall = time.perf_counter() - begun
    finally:
        environments.close()
    return {"steps": alive * steps, "wall_s": wall, "alive": alive}


def main() -> None:
    """Measure and print."""
    name, alive, steps, place = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    found = {"inspect_ai": inspect_ai, "gymnasium": gymnasium}[name](alive, steps, place)
    print(json.dumps({**found, "steps_per_s": found["steps"] / found["wall_s"]}))


if __name__ == "__main__":
    main()
