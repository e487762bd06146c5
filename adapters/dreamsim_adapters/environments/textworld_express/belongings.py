"""Where the things of `twc` belong: the package's own table of objects.

In: nothing; `python -m dreamsim_adapters.environments.textworld_express.belongings` reads the installed package instead
and writes `belongings_table.py` again. Out: name of a thing -> furniture that it belongs in or on.
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
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from dreamsim_adapters.environments.textworld_express.belongings_table import TABLE

Belongings = Mapping[str, frozenset[str]]
"""Name of a thing -> furniture that it belongs in or on."""

FOLDS: Final[Mapping[str, str]] = MappingProxyType({"train": "train", "dev": "valid", "test": "test"})
"""Fold -> its name in the package's table."""
WIDTH: Final = 118
_HEAD: Final = '''"""Where the things of `twc` belong, by fold: each line is furniture, then what belongs there.

Written by `belongings.py`, which says where the facts come from.
In: nothing. Out: `TABLE`. Always: not edited by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
'''


def belongings(*folds: str) -> Belongings:
    """Where the things of these folds belong; of all folds, if none is named.

    Raises:
        KeyError: there is no such fold.
    """
    found: dict[str, frozenset[str]] = {}
    for fold in folds or FOLDS:
        for line in TABLE[fold].strip().splitlines():
            places, _, things = line.partition(" <- ")
            found |= dict.fromkeys(things.split(", "), frozenset(places.split(", ")))
    return found


def from_package(folder: Path) -> str:
    """The text of `belongings_table.py`, as the package in `folder` says."""
    said = json.loads((folder / "twc_objects.folds.json").read_text(encoding="utf-8"))
    folds = [(fold, "\n".join(_lines(said[key]))) for fold, key in FOLDS.items()]
    return _HEAD + "".join(f'        "{fold}": """\n{lines}\n""",\n' for fold, lines in folds) + "    }\n)\n"


def _lines(things: Mapping[str, Mapping[str, Iterable[str]]]) -> Iterable[str]:
    groups: dict[str, list[str]] = {}
    for name in sorted(things):
        groups.setdefault(", ".join(sorted(things[name]["locations"])), []).append(name)
    for places, names in sorted(groups.items()):
        line = f"{places} <- {names[0]}"
        for name in names[1:]:
            if len(line) + len(name) + 2 > WIDTH:
                yield line
                line = f"{places} <- {name}"
            else:
                line += f", {name}"
        yield line


def main() -> None:
    """Write the table again from the installed package."""
    from textworld_express.constants import BASEPATH

    Path(__file__).with_name("belongings_table.py").write_text(from_package(Path(BASEPATH)), encoding="utf-8")


BELONGINGS: Final[Belongings] = MappingProxyType(dict(belongings()))
"""Where the things of all folds belong."""


if __name__ == "__main__":
    main()
