"""What `dreamsim doctor` asks the model servers that the settings name.

In: settings. Out: a finding for each use of a server, with what to do. Always: a server is asked once which models it
has, with its key, and nothing else; nothing waits longer than `WITHIN_S`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import anyio

from dreamsim.cli.visible import visible
from dreamsim.engines.http_client import Retries
from dreamsim.engines.http_models import RefusedKeyError, UnknownModelError
from dreamsim.engines.openai_http import UNKNOWN_LENGTH, HttpSettings, open_http_engine
from dreamsim.errors import ConfigurationError
from dreamsim.runtime.config import Settings
from dreamsim.store.inspection import Finding

WITHIN_S = 5.0
"""Longest time to wait for one server. A run has more patience, but nobody watches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """What a server is needed for, and which settings say so."""

    name: str
    """Who asks it."""
    settings: HttpSettings
    """The server."""
    url_setting: str
    """The setting with its address."""
    model_setting: str
    """The setting with the model's name."""

    def advice(self, problem: ConfigurationError) -> str:
        """What to do about `problem`."""
        if isinstance(problem, UnknownModelError):
            return f"name one of these by --{self.model_setting}, or start the server with that model"
        if isinstance(problem, RefusedKeyError):
            return f"put a key that this server takes into the environment variable {self.settings.api_key_variable}"
        return f"start it, or correct --{self.url_setting}"


def servers(settings: Settings) -> Iterator[Finding]:
    """Whether each server can be reached and has its model. Blocks."""
    uses = list(_uses(settings))
    if not uses:
        return
    distinct = list(dict.fromkeys(use.settings for use in uses))
    answers = dict(zip(distinct, anyio.run(partial(_ask_all, distinct)), strict=True))
    for use in uses:
        found = answers[use.settings]
        name = f"{use.name} server"
        if isinstance(found, str):
            yield Finding(name=name, level="ok", text=found)
        else:
            yield Finding(name=name, level="wrong", text=visible(str(found)), advice=use.advice(found))


def _uses(settings: Settings) -> Iterator[_Use]:
    for name, role in (("policy", settings.policy), ("experience", settings.experience)):
        if role.kind == "http" and role.url is not None:
            server = _server(role.url, role.model, role.api_key_variable)
            yield _Use(name=name, settings=server, url_setting=f"{name}.url", model_setting=f"{name}.model")
    verify = settings.experience.verify
    judged = "judge" in verify.by and settings.experience.kind != "scripted"
    if judged and verify.judge_url is not None and verify.judge_model is not None:
        yield _Use(
            name="judge",
            settings=_server(verify.judge_url, verify.judge_model),
            url_setting="experience.verify.judge_url",
            model_setting="experience.verify.judge_model",
        )


def _server(url: str, model: str, key_variable: str = "OPENAI_API_KEY") -> HttpSettings:
    return HttpSettings(
        url=url,
        model=model,
        api_key_variable=key_variable,
        concurrency=1,
        connect_timeout_s=WITHIN_S,
        start_timeout_s=WITHIN_S,
        retries=Retries(tries=1),
    )


async def _ask_all(wanted: list[HttpSettings]) -> list[str | ConfigurationError]:
    """What each server says of itself, or why it cannot be used; in their order."""
    found: dict[HttpSettings, str | ConfigurationError] = {}

    async def ask(settings: HttpSettings) -> None:
        try:
            async with open_http_engine(settings) as engine:
                length = engine.max_model_len
        except ConfigurationError as error:
            found[settings] = error
            return
        context = "" if length == UNKNOWN_LENGTH else f", of {length:,} tokens of context"
        found[settings] = f"{settings.url} answers and has {settings.model}{context}"

    async with anyio.create_task_group() as group:
        for settings in wanted:
            group.start_soon(ask, settings)
    return [found[settings] for settings in wanted]
