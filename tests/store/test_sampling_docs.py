"""The code of docs/sampling.md does what it is shown for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dreamsim.store.store import open_store
from tests.store.samples import make_episode

DOCUMENT = Path(__file__).parents[2] / "docs" / "sampling.md"


@pytest.mark.may_block  # reads the document
async def test_the_examples_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(DOCUMENT), "exec"), names)
    episodes = [make_episode(number, source="dreamed" if number == 2 else "real") for number in range(6)]
    async with open_store(tmp_path / "store.sqlite3", encoder=None) as store:
        await store.add_all(episodes[:5])
        await names["batch"](store, 1, frozenset({episodes[0].task.key}))
        limited = names["limiter"]()
        await names["act"](store, limited, episodes[5])
        await store.flush()
        assert (await store.counts()).episodes == 6
        for _ in range(255):
            await limited.insert()
        await names["learn"](store, limited, 1)
        assert limited.statistics().samples == 64
    assert capsys.readouterr().out == "3 3 29 {'unverified': 1}\n"
