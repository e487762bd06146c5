"""The code of docs/curriculum.md does what it is shown for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dreamsim.runtime.curriculum_settings import CurriculumSection

DOCUMENT = Path(__file__).parents[2] / "docs" / "curriculum.md"


def test_the_example_runs() -> None:
    names: dict[str, Any] = {}
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(DOCUMENT), "exec"), names)
    assert names["curriculum"].planned == 20
    assert names["curriculum"].competence == 0.5


def test_it_speaks_of_every_setting() -> None:
    words = set(re.findall(r"[a-z_]+", DOCUMENT.read_text(encoding="utf-8")))
    assert set(CurriculumSection.model_fields) <= words
