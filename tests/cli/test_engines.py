from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from dreamsim.cli.engines import opened_together
from dreamsim.errors import ConfigurationError

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
