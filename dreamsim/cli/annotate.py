"""`dreamsim annotate`: a teacher model behind any OpenAI-compatible URL explains every step of logged episodes.

In: a JSONL file of episodes. Out: the same episodes with reasoning, one line each as they are done, and beside them
`OUTPUT.requests.jsonl`, one line per request with its tokens or its failure.
Always: both files only grow, so a stopped run goes on where it stood and costs are counted over all sittings; an
episode is written whole or not at all; an answer that does not explain every step is asked for again, then reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from dreamsim.cli.arguments import Parser
from dreamsim.cli.asking import (
    add_asking_arguments,
    check_asking_arguments,
    cost_lines,
    each,
    log_path_of,
    open_chat,
    patience_of,
)
from dreamsim.cli.growing_files import GrowingFiles
from dreamsim.errors import JudgeError
from dreamsim.experience.annotation import SCHEMA, annotation_values, read_annotation, with_reasoning
from dreamsim.experience.questions import Patience, Prompt, ask, load_prompt
from dreamsim.protocols import ChatModel
from dreamsim.records.codec import episode_to_json
from dreamsim.records.episode import Episode
from dreamsim.store.jsonl import read_jsonl


async def annotate(
    episodes: Sequence[Episode],
    files: GrowingFiles,
    teacher: ChatModel,
    prompt: Prompt,
    *,
    concurrency: int,
    patience: Patience,
) -> None:
    """Annotate every episode that is not done yet; `files.tally` says what was done.

    Raises:
        UsageError: the teacher can no longer be asked at all (wrong key, unknown model), or a file not be written.
    """
    tally = files.tally
    missing: dict[str, Episode] = {}
    for episode in episodes:
        if episode.id in files.known or episode.id in missing:
            tally.known += 1
        elif all(transition.reasoning for transition in episode.transitions):
            await files.keep(episode_to_json(episode))
            tally.unasked += 1
        else:
            missing[episode.id] = episode

    async def one(episode: Episode) -> None:
        try:
            reasoning = await ask(
                teacher,
                prompt,
                annotation_values(episode),
                partial(read_annotation, steps=len(episode.transitions)),
                json_schema=SCHEMA,
                request_id=f"annotate-{episode.id}",
                patience=patience,
                note=files.noting(episode.id, teacher.name),
            )
        except JudgeError:  # why, is noted
            tally.failed += 1
            return
        await files.keep(episode_to_json(with_reasoning(episode, reasoning)))
        tally.done += 1

    await each(missing.values(), one, concurrency=concurrency, who="teacher", files=files)


def report(files: GrowingFiles, given: argparse.Namespace) -> str:
    """What the verb prints at the end."""
    tally = files.tally
    known = f"{tally.known:,} done before, {tally.unasked:,} had their reasoning"
    first = f"{tally.done:,} episodes annotated, {known}, {tally.failed:,} failed"
    return "\n".join([first, *cost_lines(files, given)])


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    made = Parser(
        prog="dreamsim annotate",
        description="Lets a teacher model write why every step of logged episodes led to what it did. "
        "The prompt is annotate.system.md and annotate.user.md.",
    )
    made.add_argument("input", metavar="INPUT.jsonl", help="episodes in the schema of docs/data-format.md")
    made.add_argument("output", metavar="OUTPUT.jsonl", help="the same episodes with reasoning; only grows")
    made.add_argument("--limit", type=int, help="most episodes of INPUT to do")
    add_asking_arguments(made, who="teacher", max_tokens=8192, temperature=0.3)
    return made


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    made = parser()
    given = made.parse_args(arguments)
    check_asking_arguments(made, given)
    return anyio.run(annotate_file, given)


async def annotate_file(given: argparse.Namespace) -> int:
    """Annotate the input into the output; returns the exit code."""
    prompt = await to_thread.run_sync(load_prompt, "annotate", given.prompts)
    episodes = (await to_thread.run_sync(lambda: list(read_jsonl(given.input))))[: given.limit]
    files = await to_thread.run_sync(lambda: GrowingFiles(Path(given.output), verb="annotate"))
    async with open_chat(given, log_path=log_path_of(files)) as teacher:
        await annotate(episodes, files, teacher, prompt, concurrency=given.concurrency, patience=patience_of(given))
    print(report(files, given))
    return 1 if files.tally.failed else 0
