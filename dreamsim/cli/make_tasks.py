"""`dreamsim tasks`: a list of a real environment's tasks with their real first states, to be dreamed later.

In: games, fold, count. Out: a file for `--tasks.file`. Always: the same arguments make the same list; the file is
there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio

from dreamsim.cli import exits
from dreamsim.cli.arguments import Parser
from dreamsim.cli.tasks import tasks_of, write_tasks
from dreamsim.errors import UsageError
from dreamsim.runtime.config import Settings, TasksSection


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    made = Parser(
        prog="dreamsim tasks",
        description="Lists tasks of TextWorldExpress with their real first states.",
        epilog="Example: dreamsim tasks --count 500 list.jsonl.xz; dreamsim run --tasks.file list.jsonl.xz",
    )
    made.add_argument("output", type=Path, metavar="FILE", help="the list to write: .jsonl or .jsonl.xz")
    made.add_argument("--game", action="append", metavar="GAME[:NAME=N,...]", help="a game; may be given several times")
    made.add_argument("--fold", choices=("train", "dev", "test"), default="train", help="whose seeds (default: train)")
    made.add_argument("--count", type=int, default=100, help="number of tasks, all games together (default 100)")
    given = made.parse_args(list(arguments))
    if not given.output.absolute().parent.is_dir():
        raise UsageError(f"there is no directory {given.output.parent} to write {given.output.name} to")
    section = TasksSection(
        file=None,
        environment="textworld_express",
        fold=given.fold,
        mix=tuple(given.game or ()),
        count=given.count,
    )
    found = anyio.run(tasks_of, Settings(tasks=section))
    write_tasks(given.output, found)
    print(f"{given.output}: {len(found):,} tasks of fold {given.fold}")
    return exits.DONE
