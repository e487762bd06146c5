"""The shipped experience model writes tasks, on the real vLLM."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from dreamsim.cli.curriculum import LEARNED, domain_for
from dreamsim.cli.models import trained_with
from dreamsim.cli.tasks import DATA, SHIPPED_TASKS, read_tasks
from dreamsim.curriculum.generator import TaskGenerator, WritingSettings, Written
from dreamsim.curriculum.novelty import KnownTasks
from dreamsim.curriculum.written import Order
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.records.task import Task
from dreamsim.store.lexical import LexicalEncoder

pytestmark = [pytest.mark.anyio, pytest.mark.vllm, pytest.mark.timeout(900)]
pytest.importorskip("vllm")
MODEL = DATA / "experience"
ORDERS = 12


def orders(tasks: list[Task], game: str) -> list[Order]:
    """Variations of the first tasks of a game, each shown with three others."""
    found = list(islice((task for task in tasks if task.environment.endswith(f"/{game}")), 4 * ORDERS))
    return [
        Order(number=number, seed=found[4 * number], others=tuple(found[4 * number + 1 : 4 * number + 4]))
        for number in range(ORDERS)
    ]


def made(tasks: list[Task]) -> KnownTasks:
    return KnownTasks(LexicalEncoder(), tasks)


@pytest.mark.may_block  # reads the shipped files
async def test_the_shipped_model_writes_tasks_of_which_some_are_new(tmp_path: Path) -> None:
    from dreamsim.engines.vllm_local import open_vllm_engine

    assert trained_with(MODEL)[LEARNED] == 4
    tasks = list(read_tasks(SHIPPED_TASKS))
    known = await to_thread.run_sync(made, tasks)
    tokenizer = load_tokenizer(MODEL)
    wanted = VllmSettings(model=str(MODEL), name="tiny", max_model_len=1024, max_num_seqs=64, kv_cache_gib=0.25)
    written: list[Written] = []
    async with open_vllm_engine(wanted, log_path=tmp_path / "vllm.log") as engine:
        generator = TaskGenerator(
            engine, tokenizer, WritingSettings(max_tokens=200), known=known, domain=domain_for(tasks)
        )

        async def write(order: Order) -> None:
            written.append(await generator.write(order))

        async with anyio.create_task_group() as group:
            for order in (*orders(tasks, "twc"), *orders(tasks, "cookingworld")):
                group.start_soon(write, order)
    refused: Counter[str] = Counter()
    for one in written:
        refused.update(one.refused)
    new = [one.task for one in written if one.task is not None]
    answers = 8 * 2 * ORDERS
    assert refused["parse"] + refused["length"] < 0.3 * answers
    assert refused["known"] > 0, "what it has seen it can write again"
    assert new, "and of so many answers at least one is new and in the domain"
    assert {domain_for(tasks).refusal(task) for task in new} == {None}
