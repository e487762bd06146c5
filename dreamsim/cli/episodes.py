"""`dreamsim episodes`: what is in a store, as a person reads it.

In: a store, filters or an episode's id. Out: a table, or one episode from task to end.
Always: reads only, also while a run writes; what models wrote is shown as it is, never read as markup or as
commands to the terminal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import anyio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dreamsim.cli.arguments import Parser, add_store_arguments, latest_run, store_of
from dreamsim.cli.visible import in_one_line, visible
from dreamsim.errors import UsageError
from dreamsim.records.episode import EPISODE_OUTCOMES, PURPOSES, SOURCES, Episode, Transition
from dreamsim.records.state import StateMemory, changes
from dreamsim.records.trust import Trust
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import open_store

STYLES = {"success": "green", "failure": "yellow", "truncated": "yellow", "error": "red"}


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    made = Parser(
        prog="dreamsim episodes", description="Lists stored episodes, or shows one so that it can be followed."
    )
    add_store_arguments(made)
    made.add_argument("id", nargs="?", metavar="ID", help="show this episode; the beginning of its id is enough")
    made.add_argument("--outcome", choices=EPISODE_OUTCOMES, help="only episodes that ended so")
    made.add_argument("--source", choices=SOURCES, help="only real or only dreamed ones")
    made.add_argument("--purpose", choices=PURPOSES, help="only episodes for this purpose")
    made.add_argument("--environment", help="only of this environment, as in textworld_express/twc")
    made.add_argument("--error", metavar="KIND", help="only episodes that failed with this kind of error")
    made.add_argument("--limit", type=int, default=20, help="most episodes to list (default 20)")
    made.add_argument("--all", action="store_true", help="with --run: also what the run imported")
    return made


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    given = parser().parse_args(arguments)
    if given.store is None and given.run is None:
        given.run = str(latest_run())
    where = store_of(given.store, given.run)
    console = Console(highlight=False)
    run = None if given.run is None or given.all else Path(given.run).resolve().name
    return anyio.run(partial(_show, console, where, run, given))


async def _show(console: Console, where: Path, run: str | None, given: argparse.Namespace) -> int:
    wanted = EpisodeFilter(
        run=run,
        outcome=given.outcome,
        source=given.source,
        purpose=given.purpose,
        environment=given.environment,
        error_kind=given.error,
    )
    async with open_store(where, encoder=None, read_only=True) as store:
        if given.id is not None:
            episode = await store.episode(given.id)
            if episode is None:
                matching = [id for name in await store.runs() for id in await store.finished_ids(name)]
                matching = [id for id in matching if id.startswith(given.id)]
                if len(matching) != 1:
                    raise UsageError(f"{len(matching) or 'no'} episodes in {where} begin with '{given.id}'")
                episode = await store.episode(matching[0])
                assert episode is not None, "listed a moment ago"
            for block in describe(episode):
                console.print(block, soft_wrap=True)
            return 0
        listed = [episode async for episode in store.episodes(wanted, limit=given.limit)]
        counts = await store.counts(run)
    console.print(table(listed))
    by_source = ", ".join(f"{count:,} {source}" for source, count in sorted(counts.by_source.items()))
    console.print(
        safe(f"{len(listed):,} shown of {counts.episodes:,} ({by_source or 'none'}) in {where}"), soft_wrap=True
    )
    if listed:
        hint = f"dreamsim episodes {'--run ' + given.run if given.run else '--store ' + str(where)} {listed[0].id[:8]}"
        console.print(safe(f"follow one: {hint}", "dim"), soft_wrap=True)
    return 0


def table(episodes: Sequence[Episode]) -> Table:
    """Episodes, one a row."""
    made = Table(box=None, padding=(0, 1), header_style="bold")
    for name in ("id", "source", "environment", "outcome"):
        made.add_column(name, no_wrap=True)
    made.add_column("steps", justify="right")
    made.add_column("reward", justify="right")
    made.add_column("task", overflow="ellipsis", no_wrap=True, ratio=1)
    for episode in episodes:
        outcome = episode.outcome if episode.error_kind is None else f"{episode.outcome}: {episode.error_kind}"
        made.add_row(
            safe(in_one_line(episode.id, 8)),
            safe(episode.source),
            safe(in_one_line(episode.task.environment)),
            safe(in_one_line(outcome), STYLES[episode.outcome]),
            str(len(episode.transitions)),
            f"{episode.total_reward:g}",
            safe(in_one_line(episode.task.instruction)),
        )
    return made


def describe(episode: Episode) -> Iterator[Text]:
    """One episode from beginning to end."""
    task = episode.task
    yield safe(f"episode {episode.id}", "bold")
    yield safe(
        f"{episode.source}, {episode.purpose}, {task.environment}, {task.fold} fold, task {task.key}, "
        f"repeat {episode.repeat}, run {episode.run}"
    )
    who = [f"policy {episode.policy or 'unknown'}"]
    if episode.experience_model:
        who.append(f"dreamed by {episode.experience_model}")
    yield safe(", ".join(who))
    yield safe(f"\ntask: {task.instruction}", "bold")
    yield from _indented(task.first_state.lines, "  ")
    memory = StateMemory(task.first_state)
    for number, transition in enumerate(episode.transitions, 1):
        yield from _step(number, transition, memory)
        memory.see(transition.state)
    end = f"\n{episode.outcome} after {len(episode.transitions)} steps, total reward {episode.total_reward:g}"
    if episode.error_kind is not None:
        end += f": {episode.error_kind}: {episode.error_message}"
    yield safe(end, STYLES[episode.outcome])


def _step(number: int, transition: Transition, memory: StateMemory) -> Iterator[Text]:
    yield safe(f"\n{number}. {transition.action}", "bold cyan")
    decision = transition.decision
    if decision is not None and decision.thought:
        yield safe(f"   thought: {decision.thought}", "italic")
    if transition.reasoning:
        yield safe(f"   because: {transition.reasoning}", "dim")
    changed = changes(memory, transition.state)
    yield from _indented(changed or ("(nothing changes)",), "   ")
    facts = [f"reward {transition.reward:g}"]
    if transition.done:
        facts.append(f"done: {transition.outcome}")
    if transition.samples != 1:
        facts.append(f"{transition.samples} samples")
    if transition.trust is not None and transition.trust.cached:
        facts.append("from the transition cache")
    if transition.retrieved:
        facts.append("shown: " + ", ".join(transition.retrieved))
    if decision is not None and decision.completion is not None and decision.completion.version:
        facts.append(f"policy version {decision.completion.version}")
    yield safe("   " + "; ".join(facts), "dim")
    if transition.trust is not None:
        yield from (safe(f"   {said}", "yellow") for said in _doubts(transition, transition.trust))


def _doubts(transition: Transition, trust: Trust) -> Iterator[str]:
    """What the run-time checks found against a step, or in place of one; nothing of a step that passed them."""
    for found in trust.rejected:
        yield f"sampled again, {found.rule}: {found.message}"
    for found in trust.contradictions:
        yield f"contradicts, {found.rule}: {found.message}"
    if trust.verdict is not None and trust.disagrees(transition.outcome):
        claimed = transition.outcome if trust.claimed is None else trust.claimed
        kept = "" if trust.claimed is None else ", which counts"
        reason = f": {trust.verdict.reason}" if trust.verdict.reason else ""
        yield f"the model said {claimed}, {trust.verdict.verifier} says {trust.verdict.outcome}{kept}{reason}"
    if trust.uncertainty is not None:
        yield f"wrong with a chance of {trust.uncertainty:.2f}"
    if trust.amended:
        yield "as the ledger says, which decides the whole step"
    if trust.grounded:
        yield "answered by the real environment"


def _indented(lines: Sequence[str], indent: str) -> Iterator[Text]:
    for line in lines:
        yield safe(indent + line)


def safe(text: str, style: str = "") -> Text:
    """Text for the terminal: no markup, no escape sequences; line breaks stay."""
    return Text(visible(text), style=style)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
