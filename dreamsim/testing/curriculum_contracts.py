"""Contract check for task domains.

In: a domain, and real tasks that it was made from. Out: nothing, or an AssertionError that says which clause is broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dreamsim.protocols import TaskDomain
from dreamsim.records.state import State
from dreamsim.records.task import Lineage, Task


def check_task_domain(domain: TaskDomain, tasks: Sequence[Task]) -> None:
    """Check a `TaskDomain`: it keeps every real task, whoever wrote it down again, and refuses what is foreign."""
    assert domain.name, "a domain has a name, for provenance"
    assert tasks, "give at least one real task"
    for task in tasks:
        refusal = domain.refusal(task)
        assert refusal is None, f"real task {task.key} is refused: {refusal}"
        lineage = Lineage(parent=task.key, depth=1, writer="check")
        again = replace(task, seed=0, parameters={**task.parameters, **lineage.parameters})
        assert domain.refusal(again) is None, f"real task {task.key} is refused once a model has written it"
    foreign = replace(tasks[0], first_state=State.of(["xyzzy: frobnicated", "quux: here"]))
    refusal = domain.refusal(foreign)
    assert refusal, "a task made of words that no real task has is refused, and a refusal says why"
    assert refusal == domain.refusal(foreign), "the same task is refused for the same reason"
