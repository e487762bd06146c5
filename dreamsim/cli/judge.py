"""`dreamsim judge`: a model behind any OpenAI-compatible URL scores dreamed steps by the paper's four criteria.

In: a store or a JSONL file of episodes. Out: `SCORES.jsonl`, one line per step as it is judged, beside it
`SCORES.jsonl.requests.jsonl` with every request, and a table: mean scores, agreement with the ledger, cost.
Always: both files only grow, so a stopped run goes on where it stood; a step without a usable answer is reported, asked
for again by the same command, and never given a score; a file holds the scores of one judge.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from rich.console import Console
from rich.table import Table

from dreamsim.cli.arguments import Parser, store_of
from dreamsim.cli.asking import (
    add_asking_arguments,
    check_asking_arguments,
    cost_lines,
    each,
    log_path_of,
    open_chat,
    patience_of,
)
from dreamsim.cli.growing_files import GrowingFiles, whole_lines
from dreamsim.cli.ledgers import ledger_for
from dreamsim.errors import JudgeError, ParseError, UsageError
from dreamsim.evaluation.intervals import Estimate
from dreamsim.evaluation.judge import JudgedStep, JudgeReport, contradictions_of, episode_quality, judge_report
from dreamsim.experience.judge import CRITERIA, Judge, Scores
from dreamsim.experience.questions import load_prompt
from dreamsim.protocols import StateLedger
from dreamsim.records.episode import SOURCES, Episode
from dreamsim.runtime.seeds import generator
from dreamsim.store.jsonl import export_jsonl, read_jsonl
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import open_store

Ledgers = Callable[[str], StateLedger]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepToJudge:
    """One step of an episode."""

    episode: Episode
    """The episode."""
    step: int
    """Index of the step, from 0."""

    @property
    def id(self) -> str:
        """`episode id:step index`."""
        return f"{self.episode.id}:{self.step}"


def chosen_steps(episode: Episode, most: int | None, *, seed: int) -> list[StepToJudge]:
    """The steps of an episode to judge: all, or `most` drawn by a seed named after the episode."""
    count = len(episode.transitions)
    steps = list(range(count))
    if most is not None and most < count:
        drawn = generator(seed, "judge", episode.id).choice(count, size=most, replace=False)
        steps = sorted(int(step) for step in drawn)
    return [StepToJudge(episode=episode, step=step) for step in steps]


async def judge_steps(steps: Sequence[StepToJudge], files: GrowingFiles, judge: Judge, *, concurrency: int) -> None:
    """Judge every step that has no scores yet; `files.tally` says what was done.

    Raises:
        UsageError: the judge can no longer be asked at all, or a file not be written.
    """
    tally = files.tally
    missing = {step.id: step for step in steps if step.id not in files.known}
    tally.known += len(steps) - len(missing)

    async def one(item: StepToJudge) -> None:
        episode, step = item.episode, item.step
        try:
            scores = await judge.scores(
                episode.task,
                episode.transitions[:step],
                episode.transitions[step],
                request_id=f"judge-{item.id}",
                note=files.noting(item.id, judge.name),
            )
        except JudgeError:  # why, is noted
            tally.failed += 1
            return
        about = {"id": item.id, "episode": episode.id, "step": step, "judge": judge.name}
        await files.keep({**about, **scores.by_name, "reason": scores.reason})
        tally.done += 1

    await each(missing.values(), one, concurrency=concurrency, who="judge", files=files)


def check_judge(path: Path, judge: str) -> None:
    """Refuse a file with scores of another judge. Blocks.

    Raises:
        UsageError: it has some, or holds something else.
    """
    for line in whole_lines(path):
        if line.get("judge") != judge:
            said = line.get("judge", "somebody else")
            raise UsageError(f"{path} holds the scores of {said}: name another file for those of {judge}")


def read_scores(path: Path, steps: Sequence[StepToJudge], judge: str, ledgers: Ledgers) -> list[JudgedStep]:
    """The scores of a file that belong to `steps`, with what the ledger finds in those steps. Blocks.

    Raises:
        UsageError: the file has scores of another judge, or something else.
    """
    check_judge(path, judge)
    wanted = {step.id: step for step in steps}
    found: dict[str, tuple[int, ...]] = {}
    judged: list[JudgedStep] = []
    for line in whole_lines(path):
        item = wanted.get(line["id"])
        if item is None:
            continue
        try:
            scores = Scores.read({name: line.get(name) for name in ("reason", *CRITERIA)})
        except ParseError as error:
            raise UsageError(f"{path}: {item.id}: {error}") from error
        if item.episode.id not in found:
            found[item.episode.id] = contradictions_of(item.episode, ledgers(item.episode.task.environment))
        judged.append(
            JudgedStep(
                episode_id=item.episode.id,
                step=item.step,
                scores=scores,
                contradictions=found[item.episode.id][item.step],
            )
        )
    return judged


def with_quality(episodes: Sequence[Episode], judged: Sequence[JudgedStep]) -> list[Episode]:
    """The episodes, those judged with their scores added to what is known of their quality."""
    quality: Mapping[str, Mapping[str, float]] = episode_quality(judged)
    return [
        dataclasses.replace(episode, quality={**episode.quality, **quality.get(episode.id, {})}) for episode in episodes
    ]


def figures_table(report: JudgeReport) -> Table:
    """The figures as a table."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title=None)
    for name, justify in (("figure", "left"), ("value", "right"), ("95 % interval", "right"), ("n", "right")):
        made.add_column(name, justify=justify)  # type: ignore[arg-type]  # a str, where rich wants the literal
    for name, estimate in report.means.items():
        made.add_row(f"{name} (0 to 2)", *_shown(estimate))
    found = report.agreement
    if found is not None:
        made.add_row("equal to the ledger", *_shown(found.equal))
        made.add_row("Cohen's kappa with the ledger", *_shown(found.kappa))
        made.add_row("fault: both / judge only", f"{found.both:,} / {found.judge_only:,}", "", "")
        made.add_row("fault: ledger only / neither", f"{found.ledger_only:,} / {found.neither:,}", "", "")
    return made


def _shown(estimate: Estimate) -> tuple[str, str, str]:
    if estimate.value is None:
        return "none", "", f"{estimate.n:,}"
    return f"{estimate.value:.3f}", f"{estimate.low:.3f} to {estimate.high:.3f}", f"{estimate.n:,}"


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    made = Parser(
        prog="dreamsim judge",
        description="Lets a model score dreamed steps: consistency, diversity, informativeness, hallucination, each "
        "0, 1 or 2. The prompt is judge.system.md and judge.user.md.",
    )
    made.add_argument("source", metavar="SOURCE", help="a store's file, or episodes as .jsonl, .jsonl.gz or .jsonl.xz")
    made.add_argument("scores", metavar="SCORES.jsonl", help="scores by step; only grows")
    made.add_argument("--source", dest="kind", choices=(*SOURCES, "any"), default="dreamed", help="which episodes")
    made.add_argument("--limit", type=int, help="most episodes")
    made.add_argument("--steps", type=int, help="most steps of an episode, drawn by chance (default: all)")
    made.add_argument(
        "--seed", type=int, default=0, help="of that chance, of sampling and of the intervals (default 0)"
    )
    made.add_argument("--keep", action="store_true", help="also add the mean scores to the episodes in the store")
    made.add_argument("--episodes", type=Path, metavar="FILE.jsonl", help="also write the episodes with their scores")
    add_asking_arguments(made, who="judge", prefix="judge.", max_tokens=1024, temperature=0.0)
    return made


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    made = parser()
    given = made.parse_args(arguments)
    check_asking_arguments(made, given)
    if given.steps is not None and given.steps < 1:
        raise UsageError("dreamsim judge: --steps must be at least 1")
    if given.keep and _is_jsonl(given.source):
        raise UsageError(
            "dreamsim judge: --keep adds scores to a store, and SOURCE is a file of episodes: --episodes FILE"
        )
    return anyio.run(judge_source, given)


async def judge_source(given: argparse.Namespace, ledgers: Ledgers = ledger_for) -> int:
    """Judge what the arguments name; returns the exit code."""
    prompt = await to_thread.run_sync(load_prompt, "judge", given.prompts)
    episodes = await _episodes(given)
    steps = [step for episode in episodes for step in chosen_steps(episode, given.steps, seed=given.seed)]
    files = await to_thread.run_sync(lambda: GrowingFiles(Path(given.scores), verb="judge"))
    async with open_chat(given, log_path=log_path_of(files)) as model:
        judge = Judge(model, prompt, patience=patience_of(given), seed=given.seed)
        await to_thread.run_sync(check_judge, files.output, judge.name)
        await judge_steps(steps, files, judge, concurrency=given.concurrency)
    judged = await to_thread.run_sync(read_scores, files.output, steps, judge.name, ledgers)
    report = await to_thread.run_sync(lambda: judge_report(judged, seed=given.seed))
    tally = files.tally
    print(f"{tally.done:,} steps judged by {judge.name}, {tally.known:,} done before, {tally.failed:,} failed")
    if judged:
        Console(highlight=False).print(figures_table(report))
    print("\n".join(cost_lines(files, given)))
    if given.keep:
        async with open_store(store_of(given.source, None), encoder=None) as store:
            scored = await store.score(episode_quality(judged))
        print(f"{given.source}: {scored:,} episodes now have these scores")
    if given.episodes is not None:
        await export_jsonl(given.episodes, _each(with_quality(episodes, judged)))
        print(f"{given.episodes}: {len(episodes):,} episodes with their scores")
    return 1 if tally.failed else 0


async def _episodes(given: argparse.Namespace) -> list[Episode]:
    wanted: Any = None if given.kind == "any" else given.kind
    if _is_jsonl(given.source):
        read = await to_thread.run_sync(lambda: list(read_jsonl(given.source)))
        found = [episode for episode in read if wanted in (None, episode.source)][: given.limit]
    else:
        async with open_store(store_of(given.source, None), encoder=None, read_only=True) as store:
            found = [episode async for episode in store.episodes(EpisodeFilter(source=wanted), limit=given.limit)]
    if not found:
        raise UsageError(
            f"{given.source} has no {given.kind} episodes" if wanted else f"{given.source} has no episodes"
        )
    return found


def _is_jsonl(source: str) -> bool:
    return ".jsonl" in Path(source).name


async def _each(episodes: Sequence[Episode]) -> AsyncIterator[Episode]:
    for episode in episodes:
        yield episode
