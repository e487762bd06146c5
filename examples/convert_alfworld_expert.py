"""ALFWorld expert logs to dreamsim's JSONL schema.

    python examples/convert_alfworld_expert.py episodes.jsonl.xz alfworld.jsonl

In: one episode a line, `{"id", "reset", "won", "steps": [{"action", "observation", "reward", "done", "admissible"}]}`,
in the texts of alfworld 0.4. Out: episodes whose states are element lines such as `at: shelf 3` / `cd 1: in shelf 3` /
`mug 2: held clean`. Always: a state says only what the agent has been shown of the place it stands at.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from dreamsim.records.episode import Episode, EpisodeOutcome, StepOutcome, Transition, episode_id
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.store.jsonl import read_records, write_jsonl

RUN = "alfworld-expert"
FOLDS = {"train": "train", "valid_seen": "dev", "valid_unseen": "test"}
THING = re.compile(r"\ban? ([a-z]+ \d+)")
NAME = r"([a-z]+ \d+)"
ROOM = "room"


class Place:
    """What is known of the place the agent stands at, and what it holds."""

    def __init__(self, first: str) -> None:
        """Begin in the middle of the room, with the receptacles that are seen from there."""
        self.at = ROOM
        self.elements = dict.fromkeys(THING.findall(first), "here")
        self.held: dict[str, str] = {}

    def see(self, observation: str) -> State:
        """Take in what an action gave."""
        text = " ".join(observation.split())
        result = ""
        if found := re.match(rf"You arrive at {NAME}\.", text):
            self.at, self.elements = found[1], {}
            self._contents(text)
        elif found := re.match(rf"You close the {NAME}\.", text):
            self.elements = {found[1]: "closed"}
        elif found := re.match(rf"You pick up the {NAME} from the {NAME}\.", text):
            self.elements.pop(found[1], None)
            self.held[found[1]] = "held"
        elif found := re.match(rf"You move the {NAME} to the {NAME}\.", text):
            self.held.pop(found[1], None)
            self.elements[found[1]] = f"in {found[2]}"
        elif found := re.match(rf"You (clean|heat|cool) the {NAME} using", text):
            changed = {"clean": "clean", "heat": "hot", "cool": "cool"}[found[1]]
            self.held[found[2]] = f"held {changed}"
        elif found := re.match(rf"You turn on the {NAME}\.", text):
            self.elements[found[1]] = "on"
        elif text == "Nothing happens.":
            result = "failed"
        elif re.match(rf"You open the {NAME}\.|On the {NAME},|The {NAME} is", text):
            self._contents(text)
        elif text.startswith(("You are carrying", "You are not carrying", "There's nothing special")):
            result = text.rstrip(".")
        return self.state(result)

    def state(self, result: str = "") -> State:
        """The state now."""
        told = {"result": result} if result else {}
        return State.from_elements({"at": self.at, **self.elements, **self.held, **told})

    def _contents(self, text: str) -> None:
        if found := re.search(rf"The {NAME} is (open|closed)\.", text):
            self.elements = {found[1]: found[2]}
        place = re.search(rf"(?:On|In) (?:the {NAME}|it), you see (.+)$", text)
        if place is not None:
            name = place[1] or self.at
            kept = {key: value for key, value in self.elements.items() if not value.startswith("in ")}
            self.elements = kept | dict.fromkeys(THING.findall(place[2]), f"in {name}")


def convert(record: dict[str, Any]) -> Episode:
    """One logged episode."""
    opening, _, goal = record["reset"].partition("Your task is to: ")
    place = Place(opening)
    split, _, game = record["id"].partition("/")
    task = Task(
        environment="alfworld/" + game.partition("-")[0],
        instruction=" ".join(goal.split()).rstrip("."),
        first_state=place.state(),
        fold=FOLDS[split],
        parameters={"game": record["id"]},
    )
    transitions: list[Transition] = []
    for step in record["steps"]:
        outcome: StepOutcome = "running"
        if step["done"]:
            outcome = "success" if record["won"] else "failure"
        transitions.append(
            Transition(
                action=step["action"],
                state=place.see(step["observation"]),
                reward=float(step["reward"]),
                outcome=outcome,
                admissible=tuple(step["admissible"]),
            )
        )
    last: StepOutcome = transitions[-1].outcome if transitions else "running"
    ended: EpisodeOutcome = "truncated" if last == "running" else last
    return Episode(
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
