from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from anyio.to_thread import run_sync

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "state_mapping.py"


async def test_the_benchmark_finds_that_states_are_shorter_than_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "result.json"
    monkeypatch.setattr("sys.argv", ["state_mapping.py", "--tasks", "3", "--output", str(output)])
    # In a thread, because it runs an event loop of its own.
    await run_sync(lambda: runpy.run_path(str(SCRIPT), run_name="__main__"))
    mix = json.loads(output.read_text())["tokens_per_step"]["words"]["default mix"]
    assert mix["raw"]["value"] > mix["state"]["value"] > mix["changes"]["value"] > 0
    assert all(form["low"] <= form["value"] <= form["high"] for form in mix.values())
