from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError
from dreamsim_adapters.environments.textworld_express.games import (
    DEFAULT_MIX,
    FOLDS,
    GAMES,
    GameSpec,
    fold_seeds,
)


@st.composite
def specs(draw: st.DrawFn) -> GameSpec:
    game = draw(st.sampled_from(sorted(GAMES)))
    values = {name: st.integers(parameter.low, min(parameter.high, 50)) for name, parameter in GAMES[game].items()}
    return GameSpec(game=game, parameters=draw(st.fixed_dictionaries({}, optional=values)))


@given(specs())
def test_a_spec_can_be_written_down_and_read_again(spec: GameSpec) -> None:
    assert GameSpec.parse(str(spec)) == spec


def test_parameters_left_out_take_their_defaults() -> None:
    spec = GameSpec.parse("twc:numLocations=2, numItemsToPutAway=3")
    assert spec.parameters == {
        "numLocations": 2,
        "numItemsToPutAway": 3,
        "includeDoors": 0,
        "limitInventorySize": 0,
    }


def test_a_game_may_be_named_as_its_tasks_name_it() -> None:
    assert GameSpec.parse("textworld_express/coin") == GameSpec(game="coin")


def test_the_default_mix_is_small_games() -> None:
    assert [str(spec) for spec in DEFAULT_MIX] == [
        "twc:numLocations=1,numItemsToPutAway=2,includeDoors=0,limitInventorySize=0",
        "coin:numLocations=4,numDistractorItems=2,includeDoors=0,limitInventorySize=0",
        "cookingworld:numLocations=1,numIngredients=2,numDistractorItems=2,includeDoors=0,limitInventorySize=0",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("chess", "there is no game 'chess'; there are twc, coin"),
        ("twc:rooms=2", "twc has no parameter 'rooms'; its parameters: numLocations, numItemsToPutAway"),
        ("sorting:numLocations=1", "its parameters: none"),
        ("twc:numLocations=4", "numLocations must be 1 to 3 (rooms), not 4"),
        ("coin:numLocations=many", "'numLocations' must be a whole number, not 'many'"),
        ("coin:numLocations", "'numLocations' must be written as name=number"),
    ],
)
def test_what_a_game_does_not_know_is_refused_with_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        GameSpec.parse(text)
    assert says in str(refused.value)


def test_the_two_simon_games_get_only_the_names_each_knows() -> None:
    assert GameSpec(game="simonsays").package_text == "gameLength=5,numDistractors=3"
    assert "memorization=1,verbose=0" in GameSpec(game="simonsays", parameters={"memorization": 1}).package_text


def test_folds_share_no_seed() -> None:
    assert len({seed for seeds in FOLDS.values() for seed in seeds}) == 3_000


def test_an_unknown_fold_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="there are train, dev, test"):
        fold_seeds("valid")
