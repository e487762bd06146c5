"""Lays out ALFWorld games from a list into an `ALFWORLD_DATA` folder, in either text dialect.

    python -m dreamsim_adapters.environments.alfworld.layout games.jsonl.xz alfworld-data --dialect new

In: one game a line, `{"id", "task_type", "pddl_params", "task_descs", "pddl_problem"}` (what the package's own download
holds in `traj_data.json` and `game.tw-pddl`). Out: the folder. Always:
- domain and grammar are the installed package's; the old dialect is made from them by undoing the four differences;
- the wording of a task is drawn from the package's templates by the game's id, so it is the same every time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dreamsim.errors import ConfigurationError, MissingExtraError
from dreamsim.records.strict_json import parse_json
from dreamsim.runtime.bounded_files import read_numbered_lines
from dreamsim_adapters.environments.alfworld.games import GAME_FILE, GAMES_FOLDER, Dialect, checked_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Logic:
    """What turns a world into a text game."""

    domain: str
    """`alfred.pddl`: what actions need and do."""
    grammar: str
    """`alfred.twl2`: how they read."""


def package_logic(dialect: Dialect = "new") -> Logic:
    """The installed package's logic, in either dialect.

    Raises:
        MissingExtraError: alfworld is not installed.
    """
    found = importlib.util.find_spec("alfworld")
    if found is None or found.origin is None:
        raise MissingExtraError("alfworld", extra="alfworld", purpose="laying out ALFWorld's games")
    folder = Path(found.origin).parent / "data"
    new = Logic(
        domain=(folder / "alfred.pddl").read_text(encoding="utf-8"),
        grammar=(folder / "alfred.twl2").read_text(encoding="utf-8"),
    )
    return new if dialect == "new" else old_dialect(new)


def old_dialect(new: Logic) -> Logic:
    """The logic of the older versions: other words for putting and arriving, and no `help`."""
    grammar = new.grammar.replace("You arrive at {r.name}.", "You arrive at {lend.name}.")
    grammar = grammar.replace("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}.")
    grammar = grammar.replace('"move {o} to {r}"', '"put {o} in/on {r}"')
    start = grammar.find("action help {")
    if start >= 0:
        grammar = grammar[:start].rstrip() + "\n"
    domain = new.domain
    start = domain.find("(:action help")
    if start >= 0:
        domain = domain[:start].rstrip() + "\n\n)\n"
    return Logic(domain=domain, grammar=grammar)


def lay_out(games: Path, data: Path, *, logic: Logic, splits: frozenset[str] = frozenset()) -> int:
    """Write every game of the list (of `splits` alone, if given) and return how many there were.

    Raises:
        ConfigurationError: a line is no game.
        DatasetError: the list cannot be read.
        MissingExtraError: alfworld is not installed.
    """
    count = 0
    for number, line in read_numbered_lines(games):
        try:
            game: dict[str, Any] = parse_json(line)
            if splits and game["id"].partition("/")[0] not in splits:
                continue
            _write(data / GAMES_FOLDER / checked_id(game["id"]), game, logic)
        except (ValueError, KeyError, TypeError, AttributeError, ConfigurationError) as error:
            raise ConfigurationError(f"{games}, line {number}: not a game: {error!r}") from error
        count += 1
    return count


def _write(folder: Path, game: dict[str, Any], logic: Logic) -> None:
    trial = {
        "task_id": folder.name,
        "task_type": game["task_type"],
        "pddl_params": game["pddl_params"],
        "turk_annotations": {"anns": [{"task_desc": text} for text in game["task_descs"]]},
    }
    played = {
        "pddl_domain": logic.domain,
        "grammar": _with_task(logic.grammar, trial, game["id"]),
        "pddl_problem": game["pddl_problem"],
        "solvable": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "traj_data.json").write_text(json.dumps(trial), encoding="utf-8")
    (folder / GAME_FILE).write_text(json.dumps(played), encoding="utf-8")


def _with_task(grammar: str, trial: dict[str, Any], game: str) -> str:
    try:
        from alfworld.agents.utils.misc import add_task_to_grammar
    except ImportError as error:
        raise MissingExtraError(error.name or "alfworld", extra="alfworld", purpose="ALFWorld's games") from error
    # The package draws the wording from the interpreter's own generator, which is put back afterwards.
    before = random.getstate()
    random.seed(game)
    try:
        return str(add_task_to_grammar(grammar, trial))
    finally:
        random.setstate(before)


def main() -> None:
    """Lay out one list of games."""
    parser = argparse.ArgumentParser(description="Lays out ALFWorld games into an ALFWORLD_DATA folder.")
    parser.add_argument("games", type=Path, help="games as JSONL (.xz, .gz)")
    parser.add_argument("data", type=Path, help="the folder to make, to be named by ALFWORLD_DATA")
    parser.add_argument(
        "--dialect", choices=get_args(Dialect), default="new", help="texts of 0.4 (new) or before (old)"
    )
    parser.add_argument("--split", action="append", default=[], help="only this split; may be given several times")
    options = parser.parse_args()
    count = lay_out(options.games, options.data, logic=package_logic(options.dialect), splits=frozenset(options.split))
    sys.stdout.write(f"{count} games in {options.data / GAMES_FOLDER}\n")


if __name__ == "__main__":
    main()
