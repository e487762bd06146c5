"""tau-bench conversations to dreamsim's JSONL schema.

    python examples/convert_tau_bench.py gpt-4o-airline.json.xz tau-bench.jsonl

In: a JSON list of `{"task_id", "trial", "reward", "info", "traj": [OpenAI chat messages]}`. Out: one episode for each
trial. A step is what the agent does: a tool call, written `get_user_details {"user_id": ...}`, or `respond <message>`.
The state holds what the customer said last and what the last tool answered, each a line or, for a JSON object, a line a
field.
Always:
- what only the simulated customer knows (the task's hidden instruction) stays out of the record;
- `think` calls are no steps: they become the thought of the next action;
- the reward is given at the last step, as the benchmark does, and 1 counts as success.
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path
from typing import Any

from dreamsim.records.completion import Decision
from dreamsim.records.episode import Episode, EpisodeOutcome, Transition, episode_id
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.store.jsonl import write_jsonl

RUN = "tau-bench"
STOP = "###STOP###"
VALUE_LENGTH = 200
"""Characters kept of one value."""
FIELDS = 24
"""Fields kept of one answer."""


def answer_lines(content: str) -> list[str]:
    """What a tool answered: a line a field for objects, a line an item for lists, else one line."""
    try:
        value = json.loads(content)
    except json.JSONDecodeError:
        value = content
    if isinstance(value, dict):
        parts = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        parts = [(f"item {index}", item) for index, item in enumerate(value, 1)]
    else:
        return [f"result: {_short(value)}"]
    return ["result: found", *(f"{key.replace(':', ' ')}: {_short(item)}" for key, item in parts[:FIELDS])]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return " ".join(text.split())[:VALUE_LENGTH]


def convert(record: dict[str, Any], *, domain: str = "airline") -> Episode:
    """One logged trial."""
    messages = record["traj"]
    first = next(index for index, message in enumerate(messages) if message["role"] == "user")
    customer = f"customer: {_short(messages[first]['content'])}"
    task = Task(
        environment=f"tau_bench/{domain}",
        instruction=f"serve the {domain} customer as the policy of the {domain} allows",
        first_state=State.of([customer]),
        fold="train",
        parameters={"task_id": record["task_id"]},
    )
    transitions: list[Transition] = []
    thought = ""
    for message, answer in zip(messages[first + 1 :], [*messages[first + 2 :], None], strict=True):
        if message["role"] != "assistant" or answer is None:
            continue
        calls = message.get("tool_calls") or []
        if calls and calls[0]["function"]["name"] == "think":
            thought = json.loads(calls[0]["function"]["arguments"]).get("thought", "")
            continue
        if calls:
            function = calls[0]["function"]
            action = f"{function['name']} {function['arguments']}"
            lines = [customer, *answer_lines(answer["content"])]
        else:
            action = f"respond {_one_line(message['content'])}"
            customer = f"customer: {_short(answer['content'].replace(STOP, ''))}"
            lines = [customer]
        transitions.append(
            Transition(
                action=action,
                state=State.of(lines),
                reward=0.0,
                outcome="running",
                decision=Decision(action=action, thought=_one_line(thought)),
            )
        )
        thought = ""
    ended = _ended(record, messages)
    if transitions and ended != "truncated":
        last = transitions[-1]
        transitions[-1] = Transition(
            action=last.action,
            state=last.state,
            reward=float(record["reward"]),
            outcome="success" if ended == "success" else "failure",
            decision=last.decision,
        )
    return Episode(
        id=episode_id(RUN, task.key, record["trial"]),
        run=RUN,
        task=task,
        repeat=record["trial"],
        source="real",
        purpose="experience",
        transitions=tuple(transitions),
        outcome=ended,
        policy="gpt-4o",
    )


def _ended(record: dict[str, Any], messages: list[dict[str, Any]]) -> EpisodeOutcome:
    last = messages[-1]
    handed_over = last["role"] == "tool" and last.get("name") == "transfer_to_human_agents"
    if not handed_over and STOP not in str(last["content"]):
        return "truncated"
    return "success" if record["reward"] == 1.0 else "failure"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description="tau-bench conversations to dreamsim's JSONL schema.")
    parser.add_argument("source", type=Path, help="a JSON list of trials, as .json or .json.xz")
    parser.add_argument("target", type=Path, help="the file to write")
    parser.add_argument("--domain", default="airline", help="airline or retail")
    options = parser.parse_args()
    with lzma.open(options.source, "rt") if options.source.suffix == ".xz" else options.source.open() as source:
        records = json.load(source)
    outcomes = write_jsonl(options.target, (convert(record, domain=options.domain) for record in records))
    print(f"{outcomes.total()} episodes: {dict(outcomes)}")


if __name__ == "__main__":
    main()
