"""What `dreamsim doctor` asks of servers: whether each answers, takes the key, and has the model.

In: settings. Out: a finding for every server that a role names. Always: one question each, answered within `PATIENCE_S`
or not at all; nothing is generated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

import anyio

from dreamsim.cli.engines import server_settings
from dreamsim.engines.http_client import Retries
from dreamsim.engines.openai_http import UNKNOWN_LENGTH, HttpSettings, open_http_engine
from dreamsim.errors import UsageError
from dreamsim.runtime.config import Settings
from dreamsim.store.inspection import Finding

PATIENCE_S: Final = 5.0
"""Longest wait for one server, seconds: a doctor is asked while something is wrong, and must not hang with it."""
ADVICE: Final = "start the server, or correct url, model or the key's variable of the role"


def servers(settings: Settings) -> Iterator[Finding]:
    """Each server that policy or experience model is to be played by. Blocks."""
    for name, role in (("policy", settings.policy), ("experience", settings.experience)):
        if role.kind == "http":
            asked = dataclasses.replace(
                server_settings(settings, role),
                retries=Retries(tries=1),
                connect_timeout_s=PATIENCE_S,
                card_timeout_s=PATIENCE_S,
            )
            yield anyio.run(_looked_at, f"{name} server", asked)


async def _looked_at(name: str, asked: HttpSettings) -> Finding:
    try:
        async with open_http_engine(asked) as engine:
            length = engine.max_model_len
        longest = "" if length == UNKNOWN_LENGTH else f", {length:,} tokens long at most"
        return Finding(name=name, level="ok", text=f"{asked.url} has {asked.model}{longest}")
    except UsageError as error:
        return Finding(name=name, level="wrong", text=str(error), advice=ADVICE)
