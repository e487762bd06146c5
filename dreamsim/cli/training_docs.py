"""The tables of docs/training.md: every metric with its formula, every alarm with what rings it.

In: the texts under the fields of `TrainingStep` and `UpdateMetrics`, the docstrings of the alarms. Out: Markdown.
Always: read from the sources themselves; `python -m dreamsim.cli.training_docs` prints them, and a test compares.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator

from dreamsim.flow.alarms import CHECKS
from dreamsim.records.learning import UpdateMetrics
from dreamsim.records.training import TrainingStep


def field_texts(kind: type) -> dict[str, str]:
    """Field -> the text under it."""
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(made, ast.ClassDef)
    found: dict[str, str] = {}
    for field, after in zip(made.body, made.body[1:], strict=False):
        named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if named and said:
            assert isinstance(field, ast.AnnAssign)
            assert isinstance(field.target, ast.Name)
            assert isinstance(after, ast.Expr)
            assert isinstance(after.value, ast.Constant)
            found[field.target.id] = " ".join(str(after.value.value).split())
    return found


def metric_rows() -> Iterator[str]:
    """One row for every key of a line of metrics."""
    yield "| key | what it is |"
    yield "|---|---|"
    for kind in (TrainingStep, UpdateMetrics):
        for name, text in field_texts(kind).items():
            yield f"| `{name}` | {_cell(text)} |"


def alarm_rows() -> Iterator[str]:
    """One row for every alarm."""
    yield "| alarm | rings when |"
    yield "|---|---|"
    for check in CHECKS:
        text = " ".join((inspect.getdoc(check) or "").split())
        yield f"| `{check.__name__}` | {_cell(text)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print("\n".join([*metric_rows(), "", *alarm_rows()]))
