"""The eight games of textworld-express 1.1.0: their parameters, folds and the default task mix.

In: what a user writes, such as `twc:numLocations=2,numItemsToPutAway=3`. Out: a `GameSpec` with every parameter set.
Always:
- a name or value that the game does not know is refused here with what is allowed: the package itself reads a value
  that is no number as if it had not been given, and fails in the middle of a run for others;
- parameters left out take `Parameter.default`; the games of the default mix have small defaults of ours, the others
  the package's, and a task always carries all of them;
- the folds are the package's ranges of seeds, which do not overlap: `coin` and `cookingworld` give the same rooms to
  the same seed in every fold, so a test seed taken from the train range would be a training game.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from dreamsim.errors import ConfigurationError

PACKAGE_VERSION = "1.1.0"
ENVIRONMENT = "textworld_express"
STEP_LIMIT = 20
"""Steps an episode of the default mix may take: gold paths have 13 on average in `cookingworld`, 6 in the others."""

FOLDS: Mapping[str, range] = MappingProxyType(
    {"train": range(1_000), "dev": range(10_000, 11_000), "test": range(20_000, 21_000)}
)
"""Fold -> its seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One integer parameter of a game."""

    default: int
    """Taken when the parameter is left out."""
    low: int
    """Least value."""
    high: int
    """Greatest value."""
    package_default: int
    """What the package takes by itself."""
    meaning: str
    """For a person."""


def _switch(package_default: int, meaning: str, *, default: int | None = None) -> Parameter:
    return Parameter(
        default=package_default if default is None else default,
        low=0,
        high=1,
        package_default=package_default,
        meaning=meaning,
    )


def _number(package_default: int, low: int, high: int, meaning: str, *, default: int | None = None) -> Parameter:
    return Parameter(
        default=package_default if default is None else default,
        low=low,
        high=high,
        package_default=package_default,
        meaning=meaning,
    )


_ROOMS = "rooms"
_DOORS = "1: doors between the rooms must be opened"
_INVENTORY = "1: only a few things can be carried"
_DISTRACTORS = "things that have nothing to do with the task"

GAMES: Mapping[str, Mapping[str, Parameter]] = MappingProxyType(
    {
        "twc": {
            "numLocations": _number(3, 1, 3, _ROOMS, default=1),
            "numItemsToPutAway": _number(4, 1, 4, "things to put where they belong", default=2),
            "includeDoors": _switch(0, _DOORS),
            "limitInventorySize": _switch(0, _INVENTORY),
        },
        "coin": {
            "numLocations": _number(11, 1, 11, _ROOMS, default=4),
            "numDistractorItems": _number(0, 0, 10, _DISTRACTORS, default=2),
            "includeDoors": _switch(1, _DOORS, default=0),
            "limitInventorySize": _switch(1, _INVENTORY, default=0),
        },
        "cookingworld": {
            "numLocations": _number(11, 1, 11, _ROOMS, default=1),
            "numIngredients": _number(3, 1, 5, "ingredients of the recipe", default=2),
            "numDistractorItems": _number(10, 0, 10, _DISTRACTORS, default=2),
            "includeDoors": _switch(1, _DOORS, default=0),
            "limitInventorySize": _switch(1, _INVENTORY, default=0),
        },
        "mapreader": {
            "numLocations": _number(15, 3, 30, _ROOMS),
            "maxDistanceApart": _number(4, 1, 8, "most moves between the coin and the box"),
            "maxDistractorItemsPerLocation": _number(3, 0, 3, _DISTRACTORS),
            "includeDoors": _switch(0, _DOORS),
            "limitInventorySize": _switch(0, _INVENTORY),
        },
        "arithmetic": {},
        "sorting": {},
        "simonsays": {
            "gameLength": _number(5, 1, 200, "commands to follow"),
            "numDistractors": _number(3, 0, 5, "wrong commands offered with each"),
            "memorization": _switch(0, "1: all commands are said once, at the beginning"),
            "verbose": _switch(0, "1: with memorization, feedback says more"),
        },
        "peckingorder": {},
    }
)
"""Game -> parameter name -> what it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GameSpec:
    """One game with its parameters: a variant that tasks are made of."""

    game: str
    """A key of `GAMES`."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """What differs from the defaults when given; complete once made."""

    def __post_init__(self) -> None:
        known = GAMES.get(self.game)
        if known is None:
            raise ConfigurationError(f"there is no game {self.game!r}; there are {', '.join(GAMES)}")
        for name, value in self.parameters.items():
            if name not in known:
                allowed = ", ".join(known) or "none"
                raise ConfigurationError(f"{self.game} has no parameter {name!r}; its parameters: {allowed}")
            parameter = known[name]
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigurationError(f"{self.game}: {name} must be a whole number, not {value!r}")
            if not parameter.low <= value <= parameter.high:
                limits = f"{parameter.low} to {parameter.high}"
                raise ConfigurationError(f"{self.game}: {name} must be {limits} ({parameter.meaning}), not {value}")
        complete = {name: self.parameters.get(name, parameter.default) for name, parameter in known.items()}
        object.__setattr__(self, "parameters", MappingProxyType(complete))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `game` or `game:name=value,name=value`; the game may be written as in `Task.environment`.

        Raises:
            ConfigurationError: the text is no such thing; the message says what is allowed.
        """
        game, _, rest = text.strip().partition(":")
        parameters: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in rest.split(","))):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            try:
                parameters[name] = int(value)
            except ValueError:
                said = f"a whole number, not {value!r}" if equals else "written as name=number"
                raise ConfigurationError(f"{text!r}: {name!r} must be {said}") from None
        return cls(game=game.strip().removeprefix(ENVIRONMENT + "/"), parameters=parameters)

    @property
    def environment(self) -> str:
        """`Task.environment` of its tasks."""
        return f"{ENVIRONMENT}/{self.game}"

    @property
    def package_text(self) -> str:
        """The parameters as the package reads them.

        The package's two Simon games know different names, and each refuses the other's.
        """
        given = dict(self.parameters)
        if self.game == "simonsays" and not given["memorization"]:
            given = {name: given[name] for name in ("gameLength", "numDistractors")}
        return ",".join(f"{name}={value}" for name, value in given.items())

    def __str__(self) -> str:
        said = ",".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.game}:{said}" if said else self.game


DEFAULT_MIX: tuple[GameSpec, ...] = (GameSpec(game="twc"), GameSpec(game="coin"), GameSpec(game="cookingworld"))
"""Three games of one to four rooms, each solved in a few steps: the tasks of the default run."""


def fold_seeds(fold: str) -> range:
    """The seeds of a fold.

    Raises:
        ConfigurationError: there is no such fold.
    """
    seeds = FOLDS.get(fold)
    if seeds is None:
        raise ConfigurationError(f"there is no fold {fold!r}; there are {', '.join(FOLDS)}")
    return seeds
