"""ALFWorld expert logs to dreamsim's JSONL schema.

    python examples/convert_alfworld_expert.py episodes.jsonl.xz alfworld.jsonl

In: one episode a line, `{"id", "reset", "won", "steps": [{"action", "observation", "reward", "done", "admissible"}]}`,
in the texts of alfworld 0.4. Out: episodes as the real environment would give them: states are element lines such as
`at: shelf 3` / `cd 1: in shelf 3` / `mug 2: held clean`, each step has the teacher's reasoning. Always: they can be
mixed with episodes that `dreamsim collect --environment alfworld` plays; the engine itself is not needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dreamsim.records.episode import Episode, EpisodeOutcome, StepOutcome, Transition, episode_id
from dreamsim.records.task import Task
from dreamsim.store.jsonl import read_records, write_jsonl
from dreamsim_adapters.environments.alfworld.games import SPLITS
from dreamsim_adapters.environments.alfworld.mapping import Notes, instruction_of
from dreamsim_adapters.environments.alfworld.teacher import annotate

RUN = "alfworld-expert"
FOLDS = {split: fold for fold, split in SPLITS.items()}


def convert(record: dict[str, Any]) -> Episode:
    """One logged episode."""
    notes = Notes(record["reset"])
    split, _, game = record["id"].partition("/")
    task = Task(
        environment="alfworld/" + game.partition("-")[0],
        instruction=instruction_of(record["reset"]),
        first_state=notes.state,
        fold=FOLDS[split],
        parameters={"game": record["id"], "dialect": "new"},
    )
    transitions: list[Transition] = []
    offered = [tuple(step["admissible"]) for step in record["steps"]]  # before each step
    for step, admissible in zip(record["steps"], [*offered[1:], ()], strict=False):
        outcome: StepOutcome = "running"
        if step["done"]:
            outcome = "success" if record["won"] else "failure"
        notes.see(step["action"], step["observation"])
        transitions.append(
            Transition(
                action=step["action"],
                state=notes.state,
                reward=float(step["reward"]),
                outcome=outcome,
                admissible=admissible,
            )
        )
    last: StepOutcome = transitions[-1].outcome if transitions else "running"
    ended: EpisodeOutcome = "truncated" if last == "running" else last
    episode = Episode(
        id=episode_id(RUN, task.key, 0),
        run=RUN,
        task=task,
        repeat=0,
        source="real",
        purpose="experience",
        transitions=tuple(transitions),
        outcome=ended,
        policy="alfworld-handcoded-expert",
    )
    return annotate(episode)


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description="ALFWorld expert logs to dreamsim's JSONL schema.")
    parser.add_argument("source", type=Path, help="episodes.jsonl or episodes.jsonl.xz")
    parser.add_argument("target", type=Path, help="the file to write")
    options = parser.parse_args()
    outcomes = write_jsonl(options.target, map(convert, read_records(options.source)))
    print(f"{outcomes.total()} episodes: {dict(outcomes)}")


if __name__ == "__main__":
    main()
