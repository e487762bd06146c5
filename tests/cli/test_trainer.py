"""The trainer that settings ask for, and who takes its weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest

from dreamsim.agents.language_model import PolicySettings
from dreamsim.cli.engines import TRAINED, tokenizer_source, vllm_settings
from dreamsim.cli.models import Player
from dreamsim.cli.trainer import describe_weights, let_others_compute, make_trainer, receiver_of, trained_player
from dreamsim.engines.adapted import AdaptedEngine
from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import load_settings, parse_arguments


def settings(*arguments: str) -> Settings:
    return load_settings(parse_arguments(arguments), {})


def player(engine: Any = None) -> Player:
    tokenizer = ByteTokenizer()
    made = ScriptedEngine(lambda _: "a", tokenizer, adapters=[TRAINED]) if engine is None else engine
    return Player(engine=made, tokenizer=tokenizer, settings=PolicySettings(), told={"window": None})


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_what_is_set_reaches_the_algorithm(algorithm: str) -> None:
    pytest.importorskip("trl")
    arguments = ["--train.algorithm", algorithm, "--train.epochs", "2", "--train.clip_high", "0.3"]
    trainer = cast("Any", make_trainer(settings(*arguments, "--train.gamma", "0.9", "--policy.temperature", "0.7")))
    assert trainer.name == algorithm
    told = trainer.settings
    assert (told.clip_high, told.gamma, told.temperature, told.lora) == (0.3, 0.9, 0.7, None)
    assert told.optimiser.epochs == 2
    assert told.optimiser.minibatches == 4
    assert told.optimiser.learning_rate == 5e-4  # a small model
    assert told.normalisation == ("token" if algorithm == "ppo" else "sequence")


def test_a_pass_is_as_large_as_the_device_needs_unless_it_is_set() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("trl")
    made = [cast("Any", make_trainer(settings(*arguments))) for arguments in ([], ["--train.micro_tokens", "99"])]
    wanted = 16_384 if torch.cuda.is_available() else 4096
    assert [one.settings.optimiser.micro_tokens for one in made] == [wanted, 99]


@pytest.mark.parametrize(("lag", "before", "after"), [("0", "", ""), ("1", "", "PASSIVE"), ("1", "ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_where_engines_compute_meanwhile(
    lag: str, before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", before)
    if not before:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    let_others_compute(settings("--train.lag", lag))
    assert os.environ.get("OMP_WAIT_POLICY", "") == after


def test_an_adapter_is_trained_on_request_and_has_a_version_of_its_own() -> None:
    wanted = settings("--train.lora_rank", "8")
    made = trained_player(wanted, player())
    assert isinstance(made.engine, AdaptedEngine)
    assert receiver_of(made) is made.engine
    assert vllm_settings(wanted, "policy").swapped_adapters == {TRAINED: 8}
    assert vllm_settings(wanted, "experience").swapped_adapters == {}


def test_a_whole_model_is_taken_by_its_engine() -> None:
    made = player()
    assert cast("object", receiver_of(trained_player(settings(), made))) is made.engine


def test_an_engine_that_takes_no_weights_is_refused() -> None:
    class Fixed:
        name = "fixed"

    with pytest.raises(ConfigurationError, match="takes no new weights"):
        receiver_of(player(Fixed()))


def test_weights_that_are_kept_say_how_they_want_to_be_asked_and_read_as_the_policy_does(tmp_path: Path) -> None:
    wanted = settings()
    describe_weights(wanted, player(), tmp_path)
    assert json.loads((tmp_path / "dreamsim.json").read_text()) == {"window": None}
    first, kept = load_tokenizer(tokenizer_source(wanted.policy, "policy")), load_tokenizer(str(tmp_path))
    text = "put 2 objects where they belong\n<state>\nchest of drawers: closed\n<action> take unheard-of\n<end>"
    assert kept.encode(text).tolist() == first.encode(text).tolist()
