"""The verb `fidelity`: what it refuses, what it takes away, what it shows."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from dreamsim.cli.fidelity import main
from dreamsim.cli.fidelity_parts import Model, ablated, determined, usable
from dreamsim.cli.fidelity_table import tables
from dreamsim.cli.ledgers import ledger_for
from dreamsim.cli.models import Prepared
from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.engines.tokenizers import ChatFrame
from dreamsim.errors import UsageError
from dreamsim.evaluation.drift import DriftRecord, contradictions_per_100, open_loop_curve, teacher_forced_curve
from dreamsim.evaluation.examination import Drift, Examination, as_json, examine
from dreamsim.evaluation.fidelity import StepRecord
from dreamsim.evaluation.page import draw
from dreamsim.evaluation.report import fidelity_report
from dreamsim.evaluation.returns import bounds
from dreamsim.experience.cache import TransitionCache
from dreamsim.experience.checks import Checks
from dreamsim.experience.format import answer_segment
from dreamsim.experience.model import ExperienceSettings
from dreamsim.protocols import LedgerSession
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import Episode, Transition
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Verdict
from dreamsim.runtime.config import Settings


def examination() -> Examination:
    records = [
        StepRecord(
            episode_id=str(episode),
            step=step,
            environment="test/one",
            policy="p",
            action=f"{'take' if step % 2 else 'open'} box",
            determined=True,
            samples=1,
            exact=(episode + step) % 5 > 0,
            outcome="running",
            foretold_outcome="running",
            reward=0.0,
            foretold_reward=0.0,
            failure=False,
            failure_shown=False,
        )
        for episode in range(10)
        for step in range(12)
    ]
    drifted = [
        DriftRecord(episode_id=one.episode_id, step=one.step, k=one.step + 1, dreamed=True, agrees=one.exact)
        for one in records
    ]
    report = fidelity_report(records)
    return Examination(
        model="scripted@0",
        episodes=10,
        steps=len(records),
        one_step=report,
        drift=Drift(
            teacher_forced=tuple(teacher_forced_curve(drifted, records)),
            open_loop=tuple(open_loop_curve(drifted)),
            open_loop_checked=tuple(open_loop_curve(drifted)),
            free=tuple(open_loop_curve(drifted)),
            contradictions=contradictions_per_100(drifted),
            contradictions_checked=None,
            rejected_checked=None,
            ended_checked=None,
        ),
        gate=None,
        bounds=bounds(records, report, horizon=20),
    )


def test_the_tables_show_the_figures_and_leave_out_what_was_not_measured() -> None:
    console = Console(record=True, width=140, file=io.StringIO())
    for block in tables(examination()):
        console.print(block)
    console.file.close()
    said = console.export_text()
    assert "80.0 %" in said
    assert "k = 10" in said
    assert "AUROC" not in said


@pytest.mark.parametrize("name", ["page.png", "page.svg"])
def test_the_page_is_drawn(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    draw(examination(), tmp_path / name)
    assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl"], "no file at nowhere.jsonl"),
        (["--passes", "3"], "greedy"),
        (["--drift", "0"], "--drift must be at least 1"),
        (["--without", "luck"], "--without"),
        (["--experience.engine", "scripted", "--policy.engine", "scripted"], "no model"),
        (["--experience.modle", "x"], "experience.model"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        main(arguments)


def test_a_part_that_is_taken_away_is_gone() -> None:
    how = ExperienceSettings()
    assert ablated(how, "history").layout.history is False
    assert ablated(how, "retrieval").layout.retrieve == "off"
    without = ablated(how, "reasoning")
    assert (without.layout.reasoning, without.rules.reasoning_required) == (False, False)


def test_only_real_episodes_that_happened_are_held_against_the_dream() -> None:
    task = Task(environment="test/one", instruction="", first_state=State.of(["at: hall"]), fold="test")
    empty = Episode(
        id="a",
        run="r",
        task=task,
        repeat=0,
        source="real",
        purpose="evaluation",
        transitions=(),
        outcome="truncated",
    )
    assert usable([empty]) == []


class NothingStored:
    """A retriever without experiences."""

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        return ()


def opened_boxes(name: str, boxes: int) -> Episode:
    """One box after the other is opened; the last one solves the task."""
    first = State.of(["at: hall", *(f"box {number}: closed" for number in range(boxes))])
    task = Task(environment="test/boxes", instruction=f"open all {name}", first_state=first, fold="test")
    elements = first.elements
    transitions: list[Transition] = []
    for number in range(boxes):
        elements = {**elements, f"box {number}": "open"}
        last = number == boxes - 1
        transitions.append(
            Transition(
                action=f"open box {number}",
                state=State.from_elements(elements),
                reward=float(last),
                outcome="success" if last else "running",
            )
        )
    return Episode(
        id=name,
        run="r",
        task=task,
        repeat=0,
        source="real",
        purpose="evaluation",
        transitions=tuple(transitions),
        outcome="success",
    )


def says(request: GenerationRequest) -> str:
    """Opens the box that is named, but believes that box 2 cannot be opened; never sees the end."""
    action = ByteTokenizer().decode(request.prompt_token_ids).rsplit("<action> ", 1)[1].split("\n", 1)[0]
    box = action.removeprefix("open ")
    changed = ["result: failed"] if box == "box 2" else [f"{box}: open"]
    return answer_segment(reasoning="so it is", changed=changed, reward=0, outcome="running")


async def test_the_whole_examination_of_a_scripted_model() -> None:
    tokenizer = ByteTokenizer()
    model = Model(
        engine=ScriptedEngine(says, tokenizer),
        prepared=Prepared(tokenizer=tokenizer, frame=ChatFrame(), trained={}),
        retriever=NothingStored(),
        settings=Settings(),
        checks=Checks(ledgers=ledger_for),
    )
    measured = await examine(
        [opened_boxes(f"{number}", 4) for number in range(8)],
        model.variants(without=["history", "retrieval"], passes=1),
        model=model.name,
        determined=determined,
        witnesses=model.witnesses,
        horizon=1,
    )
    found = measured.examination
    assert (found.episodes, found.steps) == (8, 32)
    assert found.one_step.determined_exact.value == 0.75
    assert found.one_step.success.recall.value == 0
    assert [point.agreement.value for point in found.drift.teacher_forced] == [1, 1, 0, 0]
    assert [point.agreement.value for point in found.drift.open_loop] == [1, 1, 0, 0]
    assert [point.k for point in found.drift.open_loop_checked] == [1, 2, 3, 4]
    assert found.drift.contradictions.value is not None
    assert found.bounds is not None
    assert found.bounds.finite_horizon == 0.75
    assert set(found.ablations) == {"history", "retrieval"}
    assert found.ablations["retrieval"].difference.value == 0
    assert json.loads(json.dumps(as_json(found)))["ablations"]["history"]["report"]["exact"]["n"] == 32


class SeesTheEnd:
    """A verifier that knows when all boxes are open, by what the step shows."""

    name = "boxes"

    async def verify(
        self, task: Task, before: Sequence[Transition], transition: Transition, *, books: LedgerSession | None = None
    ) -> Verdict:
        shown = transition.state.elements
        return Verdict(verifier=self.name, outcome="success" if shown["box 3"] == "open" else "running", reason="")


async def test_verified_figures_are_those_of_a_dream_with_its_checks() -> None:
    """Whatever opens the last box is a lie at first, which the ledger has sampled again, and the verifier sees."""
    tokenizer = ByteTokenizer()
    tries: Counter[str] = Counter()

    def lies_first(request: GenerationRequest) -> str:
        prompt = ByteTokenizer().decode(request.prompt_token_ids)
        tries[prompt] += 1
        box = prompt.rsplit("<action> ", 1)[1].split("\n", 1)[0].removeprefix("open ")
        changed = [f"{box}: open"] if tries[prompt] > 1 or box != "box 3" else ["result: failed", f"{box}: open"]
        return answer_segment(reasoning="so it is", changed=changed, reward=0, outcome="running")

    model = Model(
        engine=ScriptedEngine(lies_first, tokenizer),
        prepared=Prepared(tokenizer=tokenizer, frame=ChatFrame(), trained={}),
        retriever=NothingStored(),
        settings=Settings(),
        checks=Checks(verifiers=lambda environment: SeesTheEnd(), cache=TransitionCache(mib=1)),
    )
    measured = await examine(
        [opened_boxes(f"{number}", 4) for number in range(3)],
        model.variants(without=[], passes=1),
        model=model.name,
        determined=determined,
        witnesses=model.witnesses,
        horizon=1,
    )
    found = measured.examination
    assert found.one_step.success.recall.value == 0
    assert found.one_step.determined_exact.value == 0.75
    assert found.one_step.verified_success.f1.value == 1
    assert found.checked is not None
    assert found.checked.determined_exact.value == 1


@pytest.mark.vllm
@pytest.mark.slow
def test_a_few_real_episodes_against_the_shipped_model(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--limit", "4", "--game", "coin", "--out", str(out), "--vllm.kv_cache_gib", "0.5"]
    assert main([*arguments, "--without", "retrieval", "--drift", "5"]) == 0
    written = json.loads((out / "fidelity.json").read_text(encoding="utf-8"))
    assert written["episodes"] == 4
    assert 0.5 < written["one_step"]["determined_exact"]["value"] <= 1
    assert written["drift"]["open_loop"][0]["agreement"]["n"] > 0
    assert (out / "fidelity.png").stat().st_size > 10_000
