"""Rules about the source files that no linter checks. Imports between the floors: `lint-imports`, in CI."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    ROOT / "dreamsim",
    ROOT / "adapters" / "dreamsim_adapters",
    ROOT / "trainers" / "dreamsim_trainers",
)
FILES = sorted(path.relative_to(ROOT).as_posix() for package in PACKAGES for path in package.rglob("*.py"))

LONGEST_FILE = 400
LONGEST_FUNCTION = 80

# anyio everywhere else: its scopes are what makes a cancellation arrive where it was asked for.
MAY_IMPORT_ASYNCIO = {
    "dreamsim/engines/vllm_local.py",  # AsyncLLM is plain asyncio
    "dreamsim/runtime/guard.py",  # turns cancellations that no anyio scope asked for into errors
    "dreamsim/testing/virtual_time.py",  # an event loop of its own
}


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: length for file, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_longer_than_two_screens() -> None:
    lengths = {
        f"{file}: {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for file in FILES
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_asyncio_is_imported_only_where_a_library_demands_it() -> None:
    assert {file for file in FILES if "asyncio" in _imported(_tree(file))} <= MAY_IMPORT_ASYNCIO


def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), filename=file)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names the top-level package of every absolute import, at any depth of the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
