"""Where the things of `twc` belong: the package's own table of objects.

In: nothing; `python -m dreamsim_adapters.environments.textworld_express.belongings` reads the installed package instead
and writes the table beside this module again. Out: name of a thing -> furniture that it belongs in or on.
Always:
- the table is a rule of the game, not something that was learned from episodes: its facts are those of
  `twc_objects.folds.json` in textworld-express 1.1.0 (Apache-2.0; from TextWorld Commonsense, arXiv 2010.03790), by
  which the game scores itself;
- things are those of all folds, each in one of them: a verifier without the test fold's is
  `TextWorldExpressLedger(belongings=belongings("train"))`;
- furniture has the table's spelling, as the game compares names letter by letter: where that differs from the
  furniture's own (`nightstand`, but `night stand`), nothing counts as put away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final

Belongings = Mapping[str, frozenset[str]]
"""Name of a thing -> furniture that it belongs in or on."""

FOLDS: Final[Mapping[str, str]] = MappingProxyType({"train": "train", "dev": "valid", "test": "test"})
"""Fold -> its name in the package's table."""
TABLE: Final = "belongings.json"
_FOUND_IN: Final = "twc_objects.folds.json"


def belongings(*folds: str) -> Belongings:
    """Where the things of these folds belong; of all folds, if none is named. Blocks: reads a small file.

    Raises:
        KeyError: there is no such fold.
    """
    table = json.loads(files(__package__).joinpath(TABLE).read_text(encoding="utf-8"))
    return {name: frozenset(places) for fold in folds or FOLDS for name, places in table[fold].items()}


def from_package(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Fold -> thing -> furniture, as the package in `folder` says."""
    said = json.loads((folder / _FOUND_IN).read_text(encoding="utf-8"))
    return {fold: {name: thing["locations"] for name, thing in said[key].items()} for fold, key in FOLDS.items()}


def text_of(table: Mapping[str, Mapping[str, list[str]]]) -> str:
    """The table as JSON, a line for each thing."""
    parts = [
        f" {json.dumps(fold)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(places)}" for name, places in sorted(things.items()))
        + "\n }"
        for fold, things in table.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write the table again from the installed package."""
    from textworld_express.constants import BASEPATH

    Path(__file__).with_name(TABLE).write_text(text_of(from_package(Path(BASEPATH))), encoding="utf-8")


BELONGINGS: Final[Belongings] = MappingProxyType(dict(belongings()))
"""Where the things of all folds belong."""


if __name__ == "__main__":
    main()
