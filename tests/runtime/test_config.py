from __future__ import annotations

from pathlib import Path

import pytest

from dreamsim.errors import ConfigurationError
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import known_settings, load_settings, parse_arguments


def load(*arguments: str, **variables: str) -> Settings:
    return load_settings(parse_arguments(arguments), variables)


def test_without_anything_given_the_defaults_hold() -> None:
    assert load() == Settings()
    assert load().run.concurrency == 2048


def test_as_many_episodes_as_concurrency_unless_said_otherwise() -> None:
    assert load("--concurrency", "7").episodes == 7
    assert load("--concurrency", "7", "--episodes", "9").episodes == 9


def test_a_flag_wins_over_the_environment_and_the_environment_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("seed = 1\n[run]\nconcurrency = 1\nmax_steps = 1\n")
    settings = load(
        "--config", str(file), "--run.concurrency", "3", DREAMSIM_RUN_CONCURRENCY="2", DREAMSIM_RUN_MAX_STEPS="2"
    )
    assert (settings.run.concurrency, settings.run.max_steps, settings.run.seed) == (3, 2, 1)


def test_a_later_file_wins_over_an_earlier_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text("[run]\nseed = 1\nmax_steps = 5\n")
    second.write_text("[run]\nseed = 2\n")
    settings = load("--config", str(second), DREAMSIM_CONFIG=str(first))
    assert (settings.run.seed, settings.run.max_steps) == (2, 5)


def test_the_section_run_may_be_left_out() -> None:
    assert load("--seed", "5", DREAMSIM_CONCURRENCY="6").run.model_dump()["seed"] == 5
    assert load(DREAMSIM_CONCURRENCY="6").run.concurrency == 6


def test_dashes_stand_for_underscores_and_equals_for_a_space() -> None:
    assert load("--run.max-steps=4").run.max_steps == 4


def test_a_flag_without_value_is_true_and_no_makes_it_false() -> None:
    assert load("--policy.show_admissible").policy.show_admissible is True
    assert load("--no-shared").run.shared is False


def test_a_list_is_written_with_commas() -> None:
    assert load("--tasks.mix", "twc=2, coin").tasks.mix == ("twc=2", "coin")


def test_none_takes_an_optional_setting_back_to_its_default() -> None:
    assert load("--store.experiences", "none").store.experiences is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy.temprature", "1"], "did you mean 'policy.temperature'?"),
        (["--concurency", "1"], "did you mean 'concurrency'?"),
        (["--temperature", "1"], "did you mean 'policy.temperature'?"),
        (["--zzzz", "1"], "see --help"),
        (["--policy.temperature", "hot"], "--policy.temperature = 'hot': input should be a valid number"),
        (["--policy.temperature", "-1"], "greater than or equal to 0"),
        (["--concurrency", "0"], "--concurrency = '0': input should be greater than or equal to 1"),
        (["--policy.engine", "vlm"], "'auto', 'vllm', 'http' or 'scripted'"),
        (["--policy.url", "localhost"], "as http://host:8000/v1"),
        (["--policy.url", "http://localhost/v1"], "a server needs the model's name"),
        (["--policy.engine", "http"], "needs a url"),
        (["--policy.engine", "vllm", "--policy.url", "http://h/v1"], "remove one of the two"),
        (["--policy.engine", "scripted"], "must both be scripted"),
        (["--policy.model"], "a value is missing"),
        (["qwen"], "'qwen' is not a setting"),
        (["--config", "absent.toml"], "absent.toml: cannot be read"),
        (["--episode_timeout_s", "nan"], "finite number"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_says_what_to_change(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_wrong_value_gets_its_line() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load("--policy.temperature", "hot", "--run.seed", "-1")
    assert len(str(caught.value).splitlines()) == 2


def test_an_unknown_variable_with_our_prefix_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="did you mean DREAMSIM_POLICY_MODEL"):
        load(DREAMSIM_POLICI_MODEL="x")


def test_other_variables_are_none_of_our_business() -> None:
    assert load(PATH="/bin", DREAM="x") == Settings()


def test_an_unknown_name_in_a_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[policy]\nmodle = 'x'\n")
    with pytest.raises(ConfigurationError, match=r"my\.toml: there is no setting .*did you mean 'policy\.model'"):
        load("--config", str(file))


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[policy\n")
    with pytest.raises(ConfigurationError, match="not TOML"):
        load("--config", str(file))


def test_one_engine_serves_both_roles_only_when_they_name_the_same() -> None:
    same = ("--policy.model", "a/b", "--experience.model", "a/b")
    assert load(*same).one_engine
    assert not load(*same, "--no-shared").one_engine
    assert not load(*same, "--policy.vllm.max_num_seqs", "4").one_engine
    assert not load("--policy.model", "a/b").one_engine
    assert not load().one_engine  # the two tiny models are two


def test_every_setting_explains_itself() -> None:
    assert [name for name, info in known_settings().items() if not info.field.description] == []


def test_no_two_settings_have_the_same_variable() -> None:
    variables = [info.variable for info in known_settings().values()]
    assert len(variables) == len(set(variables))


def test_verifiers_are_named_in_the_order_of_asking_and_none_is_none() -> None:
    given = load("--experience.verify.by", "rules,ledger", "--experience.verify.rules", "rules.toml")
    assert given.experience.verify.by == ("rules", "ledger")
    assert load("--experience.verify.by", "none").experience.verify.by == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--experience.verify.by", "rules"), "set rules"),
        (("--experience.verify.by", "judge"), "judge_model and judge_url"),
        (("--experience.gate.mode", "truncate"), "needs a calibration"),
        (("--experience.cache.mib", "0"), "experience.cache.mib"),
    ],
)
def test_a_check_that_lacks_what_it_needs_is_refused(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(*arguments)
