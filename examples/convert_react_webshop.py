"""WebShop episodes of a ReAct agent to dreamsim's JSONL schema.

    python examples/convert_react_webshop.py episodes.jsonl.xz webshop.jsonl

In: one episode a line, `{"session", "instruction", "score", "reset", "steps": [{"action", "observation"}]}`. Out:
episodes whose states are element lines: `at: results`, `[B096Z1HH8R] RCA to HDMI converter $11.99`, `size: [s] [m]`.
Always:
- `think[...]` is no step: it becomes the thought of the next action;
- the reward is the site's score, at the step that buys; only the full score counts as success.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from dreamsim.records.completion import Decision
from dreamsim.records.episode import Episode, EpisodeOutcome, StepOutcome, Transition, episode_id
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.store.jsonl import read_records, write_jsonl

RUN = "react-webshop"
SCORE = re.compile(r"Your score \(min 0\.0, max 1\.0\): ([\d.]+)")
PRODUCT = re.compile(r"^\[B0\w{8}\]$")
TITLE_LENGTH = 100
"""Characters kept of a product's title; the rest repeats it."""


def page(observation: str, *, item: str = "") -> State:
    """The element lines of a page; `item` is the product that was clicked, if any."""
    elements: dict[str, str] = {}
    product, lines = "", [line.strip() for line in observation.splitlines() if line.strip()]
    at = "results" if any(line.startswith("Page ") for line in lines) else "search"
    for line in lines:
        if PRODUCT.match(line):
            product = line
            elements[product] = ""
        elif product and re.match(r"^\$[\d.]+", line):
            elements[product] = f"{elements[product]} {line}".strip()
            product = ""
        elif product:
            elements[product] = line[:TITLE_LENGTH].strip()
        elif found := re.match(r"^Page (\d+) \(Total results: (\d+)\)$", line):
            elements["page"] = f"{found[1]}, {found[2]} results"
        elif found := re.match(r"^(Price|Rating): (.+)$", line):
            at = f"item {item}".strip()
            elements[found[1].lower()] = found[2]
        elif re.match(r"^\[[^\]]+\]$", line):
            elements[line] = ""
        elif found := re.match(r"^([^\[]+?) (\[.+\])$", line):
            elements[found[1]] = found[2].replace("][", "] [")
        elif at != "search" or "[Buy Now]" in lines:
            elements["title"] = line[:TITLE_LENGTH].strip()
    return State.of([f"at: {at}", *(_line(key, value) for key, value in elements.items())])


def _line(key: str, value: str) -> str:
    if key.startswith("["):
        return f"{key} {value}".strip()
    return f"{key.replace(':', ' ')}: {value}"


def after(before: State, action: str, observation: str) -> State:
    """The state after an action."""
    if observation.startswith("Invalid action"):
        return State.of([*_without_result(before), "result: failed"])
    if found := re.match(r"You have clicked (.+)\.$", observation.strip(), re.DOTALL):
        return State.of([*_without_result(before), f"chosen {found[1].replace(':', ' ')}: yes"])
    if found := SCORE.match(observation.strip()):
        return State.of(["at: end", f"result: score {found[1]}"])
    if not observation.strip() or observation.strip() == "OK.":
        return State.of(_without_result(before))
    item = re.match(r"click\[(B0\w{8})\]$", action)
    return page(observation, item=item[1] if item else "")


def _without_result(state: State) -> list[str]:
    return [line for line in state.lines if not line.startswith("result:")]


def convert(record: dict[str, Any]) -> Episode:
    """One logged episode."""
    state = page("[Search]")
    task = Task(
        environment="webshop",
        instruction=" ".join(record["instruction"].split()),
        first_state=state,
        fold="train",
        parameters={"session": record["session"]},
    )
    transitions: list[Transition] = []
    thought = ""
    for step in record["steps"]:
        action, observation = step["action"], step["observation"]
        if action.startswith("think["):
            thought = action.removeprefix("think[").removesuffix("]")
            continue
        state = after(state, action, observation)
        found = SCORE.match(observation.strip())
        reward = float(found[1]) if found else 0.0
        outcome: StepOutcome = "running" if found is None else "success" if reward == 1.0 else "failure"
        transitions.append(
            Transition(
                action=action,
                state=state,
                reward=reward,
                outcome=outcome,
                decision=Decision(action=action, thought=thought),
            )
        )
        thought = ""
        if found:
            break
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
        policy="react-text-davinci-002",
    )


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description="WebShop episodes of a ReAct agent to dreamsim's JSONL schema.")
    parser.add_argument("source", type=Path, help="episodes.jsonl or episodes.jsonl.xz")
    parser.add_argument("target", type=Path, help="the file to write")
    options = parser.parse_args()
    outcomes = write_jsonl(options.target, map(convert, read_records(options.source)))
    print(f"{outcomes.total()} episodes: {dict(outcomes)}")


if __name__ == "__main__":
    main()
