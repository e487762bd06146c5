"""The games of an `ALFWORLD_DATA` folder: which there are, in which fold, in which order.

In: a folder `json_2.1.1/<split>/<task>/<trial>/` with `game.tw-pddl` and `traj_data.json` in it, as the package's own
download makes it, or `layout.lay_out` from a list of games. Out: ids such as
`train/pick_and_place_simple-Mug-None-Desk-308/trial_T20190908_091747_866951`.

Always:
- folds are the official splits: `train` is train, `valid_seen` (new tasks in rooms of train) is dev, `valid_unseen`
  (rooms that train does not have) is test; no game is in two;
- games come with the six task types in turn, so that the first few are a mix of all;
- games with a movable receptacle or slices are left out, as the package leaves them out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from dreamsim.errors import ConfigurationError

ENVIRONMENT: Final = "alfworld"
PACKAGE_VERSION: Final = "0.4.2"
DATA_VARIABLE: Final = "ALFWORLD_DATA"
GAMES_FOLDER: Final = "json_2.1.1"
GAME_FILE: Final = "game.tw-pddl"
STEP_LIMIT: Final = 50
"""Steps an episode may take, as in most published evaluations."""
TASK_TYPES: Final = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
SPLITS: Mapping[str, str] = MappingProxyType({"train": "train", "dev": "valid_seen", "test": "valid_unseen"})
"""Fold -> official split."""

_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*){2}")

Dialect = Literal["new", "old"]
"""`new`: texts and actions of alfworld 0.4 (`move mug 1 to desk 1`). `old`: those of earlier versions, and so of all
published logs (`put mug 1 in/on desk 1`)."""


def data_folder(given: Path | None = None) -> Path:
    """The folder of the games: `given`, or what the variable `ALFWORLD_DATA` names. Does not look into it.

    Raises:
        ConfigurationError: neither is set.
    """
    named = os.environ.get(DATA_VARIABLE)
    folder = given if given is not None else Path(named) if named else None
    if folder is None:
        raise ConfigurationError(f"where are ALFWorld's games? Set {DATA_VARIABLE} (docs/environments.md says how)")
    return folder


def game_ids(data: Path, fold: str, types: Iterable[str] = TASK_TYPES) -> tuple[str, ...]:
    """Ids of a fold's games, the types in turn. Reads directories, and so blocks.

    Raises:
        ConfigurationError: there are no games at all, or there is no such fold or type.
    """
    if not (data / GAMES_FOLDER).is_dir():
        raise ConfigurationError(f"{data} has no folder {GAMES_FOLDER} with ALFWorld's games")
    split = SPLITS.get(fold)
    if split is None:
        raise ConfigurationError(f"there is no fold {fold!r}; there are {', '.join(SPLITS)}")
    wanted = tuple(types)
    for name in wanted:
        if name not in TASK_TYPES:
            raise ConfigurationError(f"there is no task type {name!r}; there are {', '.join(TASK_TYPES)}")
    found: dict[str, list[str]] = {name: [] for name in TASK_TYPES if name in wanted}
    for file in sorted((data / GAMES_FOLDER / split).glob(f"*/*/{GAME_FILE}")):
        trial = file.parent
        kind = trial.parent.name.partition("-")[0]
        if kind in found and "Sliced" not in trial.parent.name:
            found[kind].append(f"{split}/{trial.parent.name}/{trial.name}")
    ranked = [(rank, order, name) for order, ids in enumerate(found.values()) for rank, name in enumerate(ids)]
    return tuple(name for _, _, name in sorted(ranked))


def game_file(data: Path, game: str) -> Path:
    """The file of a game.

    Raises:
        ConfigurationError: that is no game's id: ids come from task files, and none may lead out of the folder.
    """
    return data / GAMES_FOLDER / checked_id(game) / GAME_FILE


def checked_id(game: str) -> str:
    """`game`, if it is `<split>/<task>/<trial>` and nothing else that a path can be.

    Raises:
        ConfigurationError: it is not.
    """
    if not _ID.fullmatch(game):
        raise ConfigurationError(f"{game[:200]!r} is no game's id, which is written <split>/<task>/<trial>")
    return game


def task_type(game: str) -> str:
    """The type of a game, from its id."""
    return game.split("/")[1].partition("-")[0]
