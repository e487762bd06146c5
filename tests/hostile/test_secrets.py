"""Keys: in an environment variable and in one header, and nowhere else."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.cli.arguments import Parser
from dreamsim.cli.asking import add_asking_arguments, open_chat
from dreamsim.cli.logs import run_log
from dreamsim.errors import ConfigurationError
from dreamsim.run import main
from dreamsim.runtime.addresses import LOOPBACK, checked_address, checked_variable, without_secrets
from dreamsim.runtime.settings_sources import CommandLine, known_settings, load_settings, parse_arguments

KEY = "sk-very-secret-0123456789"
SECRETS = [
    ("policy.url", f"https://user:{KEY}@host/v1"),
    ("policy.url", f"https://{KEY}@host/v1"),
    ("policy.url", f"https://host/v1?key={KEY}"),
    ("experience.url", f"http://host/v1?api_key={KEY}&x=1"),
    ("experience.verify.judge_url", f"https://user:{KEY}@host/v1"),
    ("policy.api_key_variable", KEY),
    ("experience.api_key_variable", f"Bearer {KEY}"),
    ("store.encoder", f"https://user:{KEY}@host/v1#model"),
    ("store.encoder", f"https://host/v1?key={KEY}#model"),
]


@pytest.mark.parametrize(("name", "value"), SECRETS)
def test_a_secret_in_a_setting_is_refused_from_every_source_and_not_repeated(
    name: str, value: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    section, _, key = name.rpartition(".")
    file.write_text(f"[{section}]\n{key} = {json.dumps(value)}\n")
    nothing = CommandLine(values={}, files=(), switches=frozenset())
    sources: list[Callable[[], object]] = [
        lambda: load_settings(parse_arguments([f"--{name}", value]), {}),
        lambda: load_settings(nothing, {"DREAMSIM_" + name.upper().replace(".", "_"): value}),
        lambda: load_settings(CommandLine(values={}, files=(file,), switches=frozenset()), {}),
    ]
    for source in sources:
        with pytest.raises(ConfigurationError) as caught:
            source()
        assert KEY not in str(caught.value)


def test_a_run_with_a_secret_in_a_setting_makes_and_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--dry-run"]):
        assert main(["--policy.url", f"https://u:{KEY}@h/v1", "--policy.model", "m", *more]) == 2
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
    assert list(tmp_path.iterdir()) == []


async def test_a_secret_in_the_address_of_a_judge_is_refused(tmp_path: Path) -> None:
    parser = Parser(prog="p")
    add_asking_arguments(parser, who="judge", max_tokens=1, temperature=0)
    for flags in (["--url", f"https://u:{KEY}@h/v1"], ["--url", "https://h/v1", "--api-key-variable", KEY]):
        given_flags = parser.parse_args(["--model", "m", *flags])
        with pytest.raises(ConfigurationError) as caught:
            async with open_chat(given_flags, log_path=tmp_path / "log"):
                pass
        assert KEY not in str(caught.value)


def test_a_logged_traceback_shows_no_variables(tmp_path: Path) -> None:
    def fails(key: str) -> None:
        assert key
        raise ValueError("refused")

    with run_log(tmp_path / "run.jsonl"):
        try:
            fails(KEY)
        except ValueError:
            structlog.get_logger().exception("failed")
            logging.getLogger("library").exception("failed too")
    written = (tmp_path / "run.jsonl").read_text()
    assert written.count("refused") >= 2
    assert KEY not in written


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_an_address_is_taken_whole_or_refused_without_repeating_it(text: str) -> None:
    for url in (text, f"https://{text}", f"https://host{text}", f"https://host/{text}"):
        taken, said = True, ""
        try:
            checked_address(url)
        except ValueError as error:
            taken, said = False, str(error)
        assert len(text) < 5 or text not in said
        if taken:
            assert "@" not in url.partition("//")[2].partition("/")[0]
            assert "?" not in url.partition("#")[0].rstrip("?")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_what_is_not_the_name_of_a_variable_is_not_repeated(text: str) -> None:
    said = ""
    try:
        assert checked_variable(text).isidentifier()
    except ValueError as error:
        said = str(error)
    assert len(text) < 5 or text not in said


def test_what_a_message_shows_of_an_address() -> None:
    shown = without_secrets(f"https://user:{KEY}@host/v1?key={KEY}#m and http://host:8000/v1")
    assert KEY not in shown
    assert "host/v1" in shown
    assert "http://host:8000/v1" in shown


def test_what_listens_listens_on_this_machine_unless_told_otherwise() -> None:
    hosts = {name: info.field.default for name, info in known_settings().items() if name.endswith("host")}
    assert set(hosts.values()) <= LOOPBACK


LISTENERS = {"create_tcp_listener": "local_host", "TCPSite": "host", "start_server": "host", "HTTPServer": ""}


def test_whoever_listens_says_on_which_address() -> None:
    root = Path(__file__).parents[2]
    packages = (root / "dreamsim", root / "adapters" / "dreamsim_adapters", root / "trainers" / "dreamsim_trainers")
    anywhere = []
    for path in (file for package in packages for file in package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::"):
                anywhere.append(f"{path}:{node.lineno}")
            if not isinstance(node, ast.Call):
                continue
            asked = LISTENERS.get(ast.unparse(node.func).rpartition(".")[2])
            if asked is not None and len(node.args) < 2 and asked not in {one.arg for one in node.keywords}:
                anywhere.append(f"{path}:{node.lineno}: {ast.unparse(node)[:60]}")
    assert anywhere == []
