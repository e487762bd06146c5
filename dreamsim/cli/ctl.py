"""`dreamsim ctl DIRECTORY COMMAND`: look at a live run and control it.

In: a run's directory or socket, and a command. Out: what the run answers, on standard output. Always: the run decides;
nothing here touches its files. Exit codes: 0 done, 1 the run refused, 2 no run listens there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreamsim.cli import exits
from dreamsim.cli.arguments import Parser
from dreamsim.cli.control_socket import ask, socket_of
from dreamsim.errors import UsageError

COMMANDS = """\
commands:
  status               what `--display.mode plain` shows, and the engines' load
  pause                begin no episode and no step; steps that have begun come to their end
  resume               go on
  limit N              at most N episodes alive; those beyond it come to their end
  cancel-episode ID    end an episode as cancelled; the beginning of its id is enough
  cancel-task KEY      end all episodes of a task as cancelled, those still to come too
  dump                 what the episodes await, those that have waited longest first
"""
ARGUMENTS = {"limit": "N", "cancel-episode": "ID", "cancel-task": "KEY"}


def main(arguments: Sequence[str]) -> int:
    """Do the verb."""
    given = _parser().parse_args(arguments)
    wish = _wish(given.command, given.argument)
    said = ask(socket_of(Path(given.run)), wish)
    if not said.get("ok"):
        print(f"dreamsim: {said.get('error', 'the run refused')}", file=sys.stderr)
        return exits.FAILED
    result = said.get("result", {})
    print(json.dumps(result, indent=1) if given.json else "\n".join(_lines(result)))
    return exits.DONE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="dreamsim ctl",
        description="Look at a live run and control it.",
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="DIRECTORY", help="the run's directory, or its socket")
    parser.add_argument("command", metavar="COMMAND", help="see below")
    parser.add_argument("argument", metavar="ARGUMENT", nargs="?", help="of limit, cancel-episode and cancel-task")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    return parser


def _wish(command: str, argument: str | None) -> dict[str, Any]:
    wanted = ARGUMENTS.get(command)
    if (wanted is None) != (argument is None):
        raise UsageError(f"dreamsim ctl: {command} {'takes no argument' if wanted is None else f'needs {wanted}'}")
    if argument is None:
        return {"command": command}
    if command != "limit":
        return {"command": command, "id": argument}
    try:
        return {"command": command, "limit": int(argument)}
    except ValueError:
        raise UsageError(f"dreamsim ctl: limit needs a number, not {argument!r}") from None


def _lines(result: dict[str, Any], indent: str = "") -> list[str]:
    """The answer for a person: a line for every name, a line for every episode."""
    lines = []
    for name, told in result.items():
        if isinstance(told, dict):
            inner = ", ".join(f"{key} {_short(value)}" for key, value in told.items()) or "none"
            lines.append(f"{indent}{name:<15} {inner}")
        elif isinstance(told, list):
            lines.append(f"{indent}{name}")
            lines += [f"{indent}  " + ", ".join(f"{key} {_short(value)}" for key, value in row.items()) for row in told]
        else:
            lines.append(f"{indent}{name:<15} {_short(told)}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(inner)}" for key, inner in value.items()) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
