"""docs/security.md says what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from dreamsim.agents.language_model import PolicySettings
from dreamsim.curriculum import task_writing
from dreamsim.experience.parse import AnswerRules
from dreamsim.records import limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PACKAGES = (ROOT / "dreamsim", ROOT / "adapters" / "dreamsim_adapters", ROOT / "trainers" / "dreamsim_trainers")
SOURCES = {path: path.read_text(encoding="utf-8") for package in PACKAGES for path in package.rglob("*.py")}


def test_the_table_of_bounds_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d,]+) \|", PAGE, flags=re.MULTILINE)
    table = {name: int(value.replace(",", "")) for name, value in rows}
    assert table == {name: value for name, value in vars(limits).items() if name.isupper()}


def test_the_other_bounds_are_those_of_the_code() -> None:
    rules = AnswerRules()
    said = " ".join(PAGE.split())
    assert f"{rules.maximum_lines} changed lines of {rules.maximum_line_characters:,} characters" in said
    assert f"an action at most {PolicySettings().max_action_characters} characters" in said
    assert f"{task_writing.MAXIMUM_LINES} lines of {task_writing.MAXIMUM_CHARACTERS} characters" in said


def test_every_bound_is_used() -> None:
    used = " ".join(source for path, source in SOURCES.items() if path.name != "limits.py")
    assert [name for name in vars(limits) if name.isupper() and f"limits.{name}" not in used] == []


def test_nothing_executes_text_or_unpickles_files() -> None:
    found = []
    for path, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "yaml.load", "marshal.loads"):
                    found.append(f"{path}:{node.lineno}: {name}")
                unsafe = name == "torch.load" and "weights_only=True" not in ast.unparse(node)
                if unsafe or any(one.arg == "shell" for one in node.keywords):
                    found.append(f"{path}:{node.lineno}: {ast.unparse(node)[:80]}")
    assert found == []


def test_the_page_is_linked() -> None:
    for page in ("docs/architecture.md", "docs/development.md"):
        assert "security.md" in (ROOT / page).read_text(encoding="utf-8")
