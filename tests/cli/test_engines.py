from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from dreamsim.cli import engines, train_parts
from dreamsim.cli.engines import Role, open_engines, opened_together
from dreamsim.cli.run_directory import RunDirectory
from dreamsim.engines import vllm_local
from dreamsim.engines.scripted import ByteTokenizer
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.errors import ConfigurationError
from dreamsim.protocols import Tokenizer
from dreamsim.runtime.config import Settings
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim.runtime.telemetry import Telemetry

pytestmark = pytest.mark.anyio


class Log:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.both = anyio.Event()
        self.starting = 0

    @asynccontextmanager
    async def opening(self, name: str) -> AsyncIterator[Any]:
        self.starting += 1
        if self.starting == 2:
            self.both.set()
        with anyio.fail_after(5):
            await self.both.wait()  # opens only if the other is opening too
        self.events.append(f"open {name}")
        try:
            yield name
        finally:
            self.events.append(f"close {name}")

    @asynccontextmanager
    async def failing(self) -> AsyncIterator[Any]:
        self.both.set()
        if self.both.is_set():
            raise ConfigurationError("no such model")
        yield None


async def test_engines_start_at_the_same_time_and_close_with_the_context() -> None:
    log = Log()
    async with opened_together({"a": log.opening("a"), "b": log.opening("b")}) as engines:
        assert sorted(engines) == ["a", "b"]
        assert sorted(log.events) == ["open a", "open b"]
    assert sorted(log.events[2:]) == ["close a", "close b"]


async def test_when_one_cannot_start_its_error_is_raised_as_it_is_and_the_other_is_closed() -> None:
    log = Log()
    with pytest.raises(ConfigurationError, match="no such model"):
        async with opened_together({"a": log.opening("a"), "b": log.failing()}):
            pytest.fail("must not be entered")
    assert log.events == ["open a", "close a"]


async def test_an_error_of_the_block_is_not_wrapped() -> None:
    log = Log()
    with pytest.raises(KeyError):
        async with opened_together({"a": log.opening("a"), "b": log.opening("b")}):
            raise KeyError
    assert sorted(log.events[2:]) == ["close a", "close b"]


TOKENIZERS: dict[Role, Tokenizer] = {"policy": ByteTokenizer(), "experience": ByteTokenizer()}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[VllmSettings]:
    """What vLLM is started with."""
    settings: list[VllmSettings] = []

    @asynccontextmanager
    async def open_vllm_engine(wanted: VllmSettings, *, log_path: Path) -> AsyncIterator[VllmSettings]:
        settings.append(wanted)
        yield wanted

    monkeypatch.setattr(vllm_local, "open_vllm_engine", open_vllm_engine)
    return settings


async def say(text: str) -> None:
    pass


async def opened(*arguments: str) -> engines.Engines:
    settings = load_settings(parse_arguments(arguments), {})
    async with open_engines(settings, TOKENIZERS, say, logs=Path("logs")) as found:
        return found


async def test_two_models_are_two_engines_each_with_its_own_settings(
    started: list[VllmSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "has_gpu", lambda: True)
    both = ("--policy.model", "a/b", "--experience.model", "c/d", "--vllm.max_num_seqs", "64")
    found = await opened(*both, "--policy.vllm.max_num_seqs", "8", "--experience.vllm.prompt_lookup", "4")
    by_model = {settings.model: settings for settings in started}
    assert found.policy is not found.experience
    assert (by_model["a/b"].max_num_seqs, by_model["c/d"].max_num_seqs) == (8, 64)
    assert by_model["a/b"].speculative is None
    assert by_model["c/d"].speculative is not None


async def test_prompt_lookup_which_spoils_what_a_cpu_writes_is_refused_there(
    started: list[VllmSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "has_gpu", lambda: False)
    with pytest.raises(ConfigurationError, match=r"set vllm\.prompt_lookup = 0"):
        await opened("--policy.model", "a/b", "--experience.model", "c/d", "--vllm.prompt_lookup", "4")
    assert started == []


async def test_one_model_is_one_engine(started: list[VllmSettings]) -> None:
    found = await opened("--policy.model", "a/b", "--experience.model", "a/b")
    assert found.policy is found.experience
    assert len(started) == 1


async def test_two_engines_share_the_memory_of_a_gpu(
    started: list[VllmSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "has_gpu", lambda: True)
    await opened("--policy.model", "a/b", "--experience.model", "c/d")
    assert [settings.gpu_memory_utilization for settings in started] == [0.45, 0.45]
    await opened("--policy.model", "a/b", "--experience.model", "a/b")
    assert started[-1].gpu_memory_utilization is None


@pytest.mark.parametrize(
    ("count", "training", "share"), [(1, False, None), (2, False, 0.45), (1, True, 0.5), (2, True, 0.3)]
)
def test_a_trainer_on_the_same_gpu_is_left_its_part(count: int, training: bool, share: float | None) -> None:
    assert engines.gpu_share(count, training=training) == share


TWO_MODELS = ("--policy.model", "a/b", "--experience.model", "c/d")
ONE_MODEL = ("--policy.model", "a/b", "--experience.model", "a/b")
ELSEWHERE = ("--policy.model", "a/b", "--experience.model", "c/d", "--experience.url", "http://localhost:1/v1")


@pytest.mark.parametrize(
    ("arguments", "dreamed", "share"),
    [
        (TWO_MODELS, True, 0.3),
        (TWO_MODELS, False, 0.5),  # the experience model is not started
        (ONE_MODEL, True, 0.5),
        (ELSEWHERE, True, 0.5),
        ((*TWO_MODELS, "--vllm.gpu_memory_utilization", "0.2"), True, 0.2),
    ],
)
def test_engines_beside_a_trainer_share_what_it_leaves(
    arguments: tuple[str, ...], dreamed: bool, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(parse_arguments(arguments), {})
    monkeypatch.setattr(engines, "has_gpu", lambda: True)
    beside = engines.beside_trainer(settings, dreamed=dreamed)
    assert engines.vllm_settings(beside, "policy").gpu_memory_utilization == share
    assert beside.one_engine == settings.one_engine
    monkeypatch.setattr(engines, "has_gpu", lambda: False)
    assert engines.beside_trainer(settings, dreamed=dreamed) == settings


def test_a_share_that_was_set_for_one_engine_stays_beside_a_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_gpu", lambda: True)
    settings = load_settings(parse_arguments((*TWO_MODELS, "--policy.vllm.gpu_memory_utilization", "0.2")), {})
    beside = engines.beside_trainer(settings, dreamed=True)
    found = [engines.vllm_settings(beside, name).gpu_memory_utilization for name in engines.ROLES]
    assert found == [0.2, 0.3]


async def test_a_training_starts_its_engines_with_what_the_trainer_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Settings] = []

    @asynccontextmanager
    async def open_player(settings: Settings, telemetry: Telemetry, *, logs: Path) -> AsyncIterator[Any]:
        seen.append(settings)
        yield object()

    monkeypatch.setattr(engines, "has_gpu", lambda: True)
    monkeypatch.setattr(train_parts, "make_trainer", lambda settings: object())
    monkeypatch.setattr(train_parts, "open_player", open_player)
    settings = load_settings(parse_arguments(TWO_MODELS), {})
    directory = RunDirectory(path=tmp_path / "run", store=tmp_path / "store.sqlite", resumed=False)
    store: Any = None  # nothing is dreamed
    async with train_parts._roles(settings, store, Telemetry(), say, directory, dreamed=False):
        pass
    assert [one.vllm.gpu_memory_utilization for one in seen] == [0.5]


async def test_the_tiny_models_are_those_of_the_package(started: list[VllmSettings]) -> None:
    await opened()
    assert sorted(Path(settings.model).parts[-3:] for settings in started) == [
        ("dreamsim", "data", "experience"),
        ("dreamsim", "data", "policy"),
    ]
    assert sorted(settings.name for settings in started) == ["tiny-experience", "tiny-policy"]
