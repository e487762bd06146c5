"""Logged TextWorldExpress episodes to dreamsim's JSONL schema, by playing them again.

    python examples/convert_textworld_express.py episodes.jsonl.xz textworld.jsonl

In: one episode a line, `{"game", "fold", "seed", "props", "policy", "steps": [{"action", "observation"}]}`. Out: the
same episodes with the states, admissible actions and reasoning that `dreamsim collect` gives. A log without the room
after every step does not say the state; the game itself does. Always: an episode whose observations differ from those
that were logged is reported by its line number and not written.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

from dreamsim.errors import DreamsimError
from dreamsim.records.episode import Episode, EpisodeOutcome, StepOutcome, Transition, episode_id
from dreamsim.store.jsonl import read_records, write_jsonl
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment
from dreamsim_adapters.environments.textworld_express.games import GAMES, GameSpec
from dreamsim_adapters.environments.textworld_express.teacher import annotate

RUN = "textworld-express-log"


class ReplayError(Exception):
    """The game does not do what the log says."""


async def convert(record: dict[str, Any], environment: TextWorldExpressEnvironment, *, repeat: int) -> Episode:
    """Play one logged episode again.

    Raises:
        ReplayError: an observation differs.
    """
    game = record["game"]
    given = {name: int(value) for name, value in record["props"].items() if name in GAMES[game]}
    spec = GameSpec(game=game, parameters=given)
    [task] = await environment.tasks_of([(spec, record["seed"])], fold=record["fold"])
    transitions: list[Transition] = []
    async with (
        environment.pool.game(spec, fold=task.fold, seed=task.seed) as watched,
        environment.session(task, episode_id="replay", seed=0) as session,
    ):
        for number, step in enumerate(record["steps"]):
            shown = await watched.step(step["action"])
            if shown.feedback != step["observation"]:
                raise ReplayError(f"step {number}, {step['action']!r}: {shown.feedback!r:.80}")
            transitions.append(await session.step(step["action"]))
            if transitions[-1].done:
                break
    last: StepOutcome = transitions[-1].outcome if transitions else "running"
    ended: EpisodeOutcome = "truncated" if last == "running" else last
    return annotate(
        Episode(
            id=episode_id(RUN, task.key, repeat),
            run=RUN,
            task=task,
            repeat=repeat,
            source="real",
            purpose="experience",
            transitions=tuple(transitions),
            outcome=ended,
            policy=record["policy"],
        )
    )


async def convert_all(records: list[dict[str, Any]]) -> list[Episode]:
    """Convert what can be played again."""
    repeats: Counter[tuple[str, str, int]] = Counter()
    episodes: list[Episode] = []
    async with TextWorldExpressEnvironment() as environment:
        for number, record in enumerate(records, 1):
            name = (record["game"], record["fold"], record["seed"])
            try:
                episode = await convert(record, environment, repeat=repeats[name])
            except (ReplayError, DreamsimError) as error:
                print(f"line {number} is left out: {error}")
                continue
            repeats[name] += 1
            episodes.append(episode)
    return episodes


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description="TextWorldExpress logs to dreamsim's JSONL schema.")
    parser.add_argument("source", type=Path, help="episodes.jsonl or episodes.jsonl.xz")
    parser.add_argument("target", type=Path, help="the file to write")
    options = parser.parse_args()
    records = list(read_records(options.source))
    outcomes = write_jsonl(options.target, anyio.run(convert_all, records))
    print(f"{outcomes.total()} episodes of {len(records)}: {dict(outcomes)}")


if __name__ == "__main__":
    main()
