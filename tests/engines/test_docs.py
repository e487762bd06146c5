"""The page about engines names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dreamsim.engines import chat, openai_http, scripted, vllm_local, vllm_settings
from dreamsim.engines.openai_http import HttpEngine
from dreamsim.engines.scripted import ScriptedEngine
from dreamsim.engines.vllm_local import VllmEngine

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
CALLED = sorted(set(re.findall(r"`(\w+)\(", PAGE)))
PLACES = (chat, openai_http, scripted, vllm_local, vllm_settings, HttpEngine, ScriptedEngine, VllmEngine)


@pytest.mark.parametrize("name", CALLED)
def test_what_the_page_calls_exists(name: str) -> None:
    assert any(hasattr(place, name) for place in PLACES)
