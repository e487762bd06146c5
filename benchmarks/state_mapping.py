"""How many tokens the state mapping saves: what TextWorldExpress says, against the lines that states are made of.

    python benchmarks/state_mapping.py --output state_mapping.json
    python benchmarks/state_mapping.py --tokenizer path/to/tokenizer.json --tokenizer-name GPT-2

In: real episodes of the default mix (test fold), played by the four offline policies. Out: JSON, for each game and each
counting of tokens the mean per step, with its 95 % interval over episodes (bootstrap), of
- `raw`: feedback, look and inventory, which is what it takes to know the state after any action;
- `feedback`: the package's answer to the action alone, from which a state can only be kept up by remembering;
- `state`: all lines of the mapped state;
- `changes`: only the lines that changed, the form in which histories and dreamed states are written.

Tokens are counted as words and single punctuation marks (`words`) and with a byte-pair tokenizer, if one is given.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import anyio
import numpy as np

from dreamsim.records.state import StateMemory, changes
from dreamsim.records.task import Task
from dreamsim.runtime.seeds import generator, seed_of
from dreamsim_adapters.environments.textworld_express.environment import (
    TextWorldExpressEnvironment,
    raw_of,
    spec_of,
)
from dreamsim_adapters.environments.textworld_express.games import PACKAGE_VERSION, STEP_LIMIT
from dreamsim_adapters.environments.textworld_express.mapping import TextWorldExpressMapping
from dreamsim_adapters.environments.textworld_express.policies import POLICIES, offline_policy

FORMS = ("raw", "feedback", "state", "changes")
RESAMPLES = 2_000
Texts: TypeAlias = dict[str, list[str]]
"""Form -> what was said after each step of one episode."""
Count: TypeAlias = Callable[[str], int]


async def play(environment: TextWorldExpressEnvironment, task: Task, policy: str) -> Texts:
    """What one episode says, in every form."""
    texts: Texts = {form: [] for form in FORMS}
    mapping, memory = TextWorldExpressMapping(), StateMemory(task.first_state)
    actor = offline_policy(policy, environment).actor(task, episode_id=task.key, seed=seed_of(0, task.key, policy))
    async with environment.pool.game(spec_of(task), fold=task.fold, seed=task.seed) as game:
        admissible = game.shown.valid
        for _ in range(STEP_LIMIT):
            shown = await game.step((await actor.act(memory.current, admissible)).action)
            admissible, state = shown.valid, mapping.state(raw_of(shown))
            texts["raw"].append("\n".join((shown.feedback, shown.look, shown.inventory)))
            texts["feedback"].append(shown.feedback)
            texts["state"].append(state.text)
            texts["changes"].append("\n".join(changes(memory, state)))
            memory.see(state)
            if shown.success or shown.failure:
                break
    return texts


async def play_all(count: int) -> dict[str, list[Texts]]:
    """Environment -> its episodes: every task by every policy."""
    found: dict[str, list[Texts]] = {}
    async with TextWorldExpressEnvironment() as environment:
        tasks = await environment.tasks(fold="test", count=count)

        async def add(task: Task, policy: str) -> None:
            texts = await play(environment, task, policy)
            found.setdefault(task.environment, []).append(texts)

        for policy in POLICIES:
            async with anyio.create_task_group() as group:
                for task in tasks:
                    group.start_soon(add, task, policy)
    return dict(sorted(found.items()))


def per_step(episodes: Sequence[Texts], form: str, count: Count) -> dict[str, float]:
    """Mean tokens per step and its interval."""
    tokens = np.array([sum(count(text) for text in episode[form]) for episode in episodes], dtype=float)
    steps = np.array([len(episode[form]) for episode in episodes], dtype=float)
    drawn = generator(0, "bootstrap", form).integers(0, len(episodes), size=(RESAMPLES, len(episodes)))
    means = tokens[drawn].sum(axis=1) / steps[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"value": round(tokens.sum() / steps.sum(), 2), "low": round(low, 2), "high": round(high, 2)}


def words(text: str) -> int:
    """Words and single punctuation marks."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def tokenizer(path: Path) -> Count:
    """Counts the tokens of a tokenizer.json."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(path))
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="How many tokens the state mapping saves.")
    parser.add_argument("--tasks", type=int, default=300, help="tasks, each played by four policies")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json to count with as well")
    parser.add_argument("--tokenizer-name", default="bpe", help="what to call it")
    parser.add_argument("--output", type=Path, help="the file to write; default: standard output")
    options = parser.parse_args()
    played = anyio.run(play_all, options.tasks)
    counters: dict[str, Count] = {"words": words}
    if options.tokenizer is not None:
        counters[options.tokenizer_name] = tokenizer(options.tokenizer)
    groups = {"default mix": [episode for episodes in played.values() for episode in episodes], **played}
    result = {
        "command": "python benchmarks/state_mapping.py " + " ".join(sys.argv[1:]),
        "environment": f"textworld-express {PACKAGE_VERSION}, default mix, test fold",
        "episodes": len(groups["default mix"]),
        "steps": sum(len(episode["raw"]) for episode in groups["default mix"]),
        "tokens_per_step": {
            name: {
                group: {form: per_step(episodes, form, count) for form in FORMS} for group, episodes in groups.items()
            }
            for name, count in counters.items()
        },
    }
    text = json.dumps(result, indent=2) + "\n"
    if options.output is None:
        print(text, end="")
    else:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text)


if __name__ == "__main__":
    main()
