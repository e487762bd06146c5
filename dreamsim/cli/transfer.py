"""`dreamsim import` and `dreamsim export`: episodes between JSONL files and a store.

In: files in the schema of docs/data-format.md, or a store. Out: the other. Always: a bad line is named by its
number, and skipped only when that was asked for; a file appears whole or not at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio

from dreamsim.cli.arguments import Parser, add_store_arguments, store_of
from dreamsim.cli.visible import visible
from dreamsim.errors import UsageError
from dreamsim.records.episode import EPISODE_OUTCOMES, PURPOSES, SOURCES
from dreamsim.store.jsonl import export_jsonl, import_jsonl
from dreamsim.store.queries import EpisodeFilter
from dreamsim.store.store import open_store


def import_main(arguments: Sequence[str]) -> int:
    """`dreamsim import`."""
    parser = Parser(prog="dreamsim import", description="Takes logged episodes (JSONL, also .gz and .xz) into a store.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="JSONL in the schema of docs/data-format.md")
    parser.add_argument("--store", required=True, metavar="FILE", help="the store; made if it is not there")
    parser.add_argument("--run-name", default="import", help="run of episodes that name none (default: import)")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad lines out, and say which")
    parser.add_argument("--encoder", default="lexical", help="as --store.encoder of a run (default: lexical)")
    given = parser.parse_args(arguments)
    return anyio.run(_import, Path(given.store).absolute(), given)


async def _import(where: Path, given: argparse.Namespace) -> int:
    async with open_store(where, encoder=given.encoder) as store:
        for name in given.files:
            report = await import_jsonl(name, store, on_bad="skip" if given.skip_bad else "fail", run=given.run_name)
            for bad in report.bad_lines:
                print(visible(f"{name}:{bad.line}: skipped: {bad.problem}"))
            said = f"{name}: {report.episodes:,} episodes with {report.steps:,} steps imported"
            print(f"{said}, {report.known:,} there before, {report.skipped:,} lines skipped")
        counts = await store.counts()
    by_source = ", ".join(f"{count:,} {source}" for source, count in sorted(counts.by_source.items()))
    print(f"{given.store} now holds {counts.episodes:,} episodes ({by_source})")
    return 0


def export_main(arguments: Sequence[str]) -> int:
    """`dreamsim export`."""
    parser = Parser(
        prog="dreamsim export", description="Writes stored episodes as JSONL (compressed by name: .gz, .xz)."
    )
    parser.add_argument("file", metavar="FILE", help="what to write")
    add_store_arguments(parser)
    parser.add_argument("--outcome", choices=EPISODE_OUTCOMES, help="only episodes that ended so")
    parser.add_argument("--source", choices=SOURCES, help="only real or only dreamed ones")
    parser.add_argument("--purpose", choices=PURPOSES, help="only episodes for this purpose")
    parser.add_argument("--environment", help="only of this environment")
    parser.add_argument("--limit", type=int, default=None, help="most episodes (default: all)")
    parser.add_argument("--overwrite", action="store_true", help="write over FILE if it is there")
    given = parser.parse_args(arguments)
    target = Path(given.file)
    if target.exists() and not given.overwrite:
        raise UsageError(f"{target} is there already: name another file or add --overwrite")
    return anyio.run(partial(_export, store_of(given.store, given.run), target, given))


async def _export(where: Path, target: Path, given: argparse.Namespace) -> int:
    wanted = EpisodeFilter(
        outcome=given.outcome, source=given.source, purpose=given.purpose, environment=given.environment
    )
    async with open_store(where, encoder=None, read_only=True) as store:
        try:
            report = await export_jsonl(target, store.episodes(wanted, limit=given.limit))
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error.strerror}") from error
    print(f"{target}: {report.episodes:,} episodes with {report.steps:,} steps")
    return 0
