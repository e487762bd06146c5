from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dreamsim.cli.annotate import annotate, annotate_file, parser, report
from dreamsim.cli.growing_files import GrowingFiles, Tally
from dreamsim.errors import EngineError, ParseError, UsageError
from dreamsim.experience.annotation import annotation_values, read_annotation
from dreamsim.experience.questions import Patience, filled, json_of, load_prompt
from dreamsim.records.codec import episode_to_json
from dreamsim.records.completion import ChatAnswer
from dreamsim.records.episode import Episode, Transition
from dreamsim.records.state import State
from dreamsim.store.jsonl import read_jsonl
from dreamsim.testing.world import Position, gold_path, layout_of, scripted_task

PROMPT = load_prompt("annotate")


def episode(seed: int) -> Episode:
    task = scripted_task(seed)
    position = Position(layout_of(task))
    steps = tuple(position.take_action(action) for action in gold_path(task))
    return Episode(
        id=f"e{seed}",
        run="logs",
        task=task,
        repeat=0,
        source="real",
        purpose="experience",
        transitions=steps,
        outcome="success",
    )


def answer(steps: int) -> str:
    return json.dumps({"steps": [{"step": n, "reasoning": f"Because of {n}."} for n in range(1, steps + 1)]})


class FakeTeacher:
    """Answers in order what `script` says for each request."""

    name = "teacher@0"

    def __init__(self, script: Callable[[int, str], str | EngineError]) -> None:
        self.asked: list[tuple[str, str]] = []
        self._script = script

    async def answer(
        self,
        system: str,
        user: str,
        *,
        json_schema: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        request_id: str = "chat",
    ) -> ChatAnswer:
        self.asked.append((system, user))
        said = self._script(len(self.asked), user)
        if isinstance(said, EngineError):
            raise said
        return ChatAnswer(text=said, finish_reason="stop", model="t", prompt_tokens=100, completion_tokens=10)


def by_count(user: str) -> str:
    return answer(user.count("Action: "))


class GoodTeacher(FakeTeacher):
    def __init__(self) -> None:
        super().__init__(lambda _, user: by_count(user))


async def annotated(
    episodes: list[Episode], output: Path, teacher: FakeTeacher, *, attempts: int = 2, concurrency: int = 2
) -> Tally:
    files = files_of(output)
    await annotate(episodes, files, teacher, PROMPT, concurrency=concurrency, patience=Patience(attempts=attempts))
    return files.tally


def files_of(output: Path) -> GrowingFiles:
    return GrowingFiles(output, verb="annotate")


def prices(*more: str) -> Namespace:
    return parser().parse_args(["in", "out", "--url", "http://host/v1", "--model", "t", *more])


@pytest.mark.may_block  # the test itself opens the ledger
async def test_every_step_gets_its_reasoning(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    tally = await annotated([episode(n) for n in range(5)], output, GoodTeacher())
    assert (tally.done, tally.failed, tally.prompt_tokens) == (5, 0, 500)
    found = {item.id: item for item in read_jsonl(output)}
    assert set(found) == {f"e{n}" for n in range(5)}
    assert all(step.reasoning for item in found.values() for step in item.transitions)
    assert found["e0"].transitions[0].reasoning == "Because of 1."


@pytest.mark.may_block
async def test_the_teacher_sees_instruction_success_and_the_whole_trajectory(tmp_path: Path) -> None:
    teacher, item = GoodTeacher(), episode(1)
    await annotated([item], tmp_path / "out.jsonl", teacher)
    system, user = teacher.asked[0]
    assert system == PROMPT.system
    assert item.task.instruction in user
    assert "Did the episode solve it: yes" in user
    assert [f"Action: {step.action}" in user for step in item.transitions].count(False) == 0


@pytest.mark.may_block
async def test_going_on_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    await annotated([episode(0), episode(1)], output, GoodTeacher())
    again = GoodTeacher()
    tally = await annotated([episode(n) for n in range(4)], output, again)
    assert len(again.asked) == 2
    assert (tally.done, tally.known, tally.requests) == (2, 2, 4)
    assert len(list(read_jsonl(output))) == 4


@pytest.mark.may_block
async def test_a_line_cut_off_by_a_crash_is_done_again(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    await annotated([episode(0), episode(1)], output, GoodTeacher(), concurrency=1)
    content = output.read_bytes()
    output.write_bytes(content[:-40])
    tally = await annotated([episode(0), episode(1)], output, GoodTeacher())
    assert (tally.done, tally.known) == (1, 1)
    assert output.read_bytes() == content


@pytest.mark.may_block
async def test_a_bad_answer_is_asked_for_again(tmp_path: Path) -> None:
    steps = len(episode(0).transitions)
    teacher = FakeTeacher(lambda n, _: "I cannot." if n == 1 else answer(steps))
    tally = await annotated([episode(0)], tmp_path / "out.jsonl", teacher)
    assert (tally.done, tally.requests, tally.completion_tokens) == (1, 2, 20)


@pytest.mark.may_block
async def test_an_episode_that_keeps_failing_is_reported_and_not_written(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    tally = await annotated([episode(0)], output, FakeTeacher(lambda *_: "I cannot."))
    files = files_of(output)
    assert (tally.done, tally.failed) == (0, 1)
    assert not output.exists()
    assert "not JSON" in files.requests.read_text()
    assert (files.tally.requests, files.tally.unused) == (2, 2)


@pytest.mark.may_block
async def test_a_teacher_that_cannot_be_asked_ends_the_verb(tmp_path: Path) -> None:
    teacher = FakeTeacher(lambda *_: EngineError("401 wrong key", recoverable=False))
    with pytest.raises(UsageError, match="401 wrong key"):
        await annotated([episode(n) for n in range(9)], tmp_path / "out.jsonl", teacher)


@pytest.mark.may_block
async def test_episodes_with_reasoning_are_copied_without_asking(tmp_path: Path) -> None:
    first, teacher = GoodTeacher(), GoodTeacher()
    await annotated([episode(0)], tmp_path / "a.jsonl", first)
    tally = await annotated(list(read_jsonl(tmp_path / "a.jsonl")), tmp_path / "b.jsonl", teacher)
    assert (tally.unasked, len(teacher.asked)) == (1, 0)


@pytest.mark.may_block
async def test_the_cost_of_all_sittings_is_reported(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    await annotated([episode(0)], output, GoodTeacher())
    await annotated([episode(0), episode(1)], output, GoodTeacher())
    said = report(files_of(output), prices("--price-in", "2", "--price-out", "10"))
    assert "cost of all sittings: 0.0006" in said


@asynccontextmanager
async def server(*, knows_schemas: bool) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A chat server on the loopback; yields its address and what it was asked."""
    asked: list[dict[str, Any]] = []

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "teacher"}]})

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        asked.append(body)
        if "response_format" in body and not knows_schemas:
            return web.json_response({"error": "response_format is not supported"}, status=400)
        choice = {"message": {"content": by_count(body["messages"][1]["content"])}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 5}})

    application = web.Application()
    application.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # typed as any server
        yield f"http://127.0.0.1:{port}/v1", asked
    finally:
        await runner.cleanup()


@pytest.mark.may_block
@pytest.mark.parametrize("knows_schemas", [True, False])
async def test_a_server_is_asked_for_a_schema_and_for_plain_json_where_it_knows_none(
    tmp_path: Path, knows_schemas: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(episode_to_json(episode(n))) + "\n" for n in range(3)))
    async with server(knows_schemas=knows_schemas) as (url, asked):
        arguments = [str(source), str(output), "--url", url, "--model", "teacher", "--concurrency", "1"]
        code = await annotate_file(parser().parse_args(arguments))
    assert code == 0
    assert len(list(read_jsonl(output))) == 3
    assert ["response_format" in body for body in asked] == ([True] * 3 if knows_schemas else [True] + [False] * 3)
    said = capsys.readouterr().out
    assert "3 episodes annotated" in said
    assert "150 tokens read, 15 written" in said


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("no json", "not JSON"),
        ("[]", "no list"),
        (answer(1), "1 explanations for 2 steps"),
        (answer(2).replace('"step": 2', '"step": 3'), "entry 2 is not that of step 2"),
        (answer(2).replace("Because of 2.", "  "), "step 2 has no reasoning"),
        (answer(2).replace("Because of 2.", "x" * 5000), "4000 are allowed"),
    ],
)
def test_an_answer_that_does_not_explain_every_step_is_refused(written: str, problem: str) -> None:
    with pytest.raises(ParseError, match=problem):
        read_annotation(json_of(written), 2)


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "<think>hm {{</think>\n{}", "  {}\n"])
def test_the_form_of_an_answer_may_vary(around: str) -> None:
    assert len(read_annotation(json_of(around.replace("{{", "{").replace("{}", answer(2))), 2)) == 2


def test_braces_in_the_data_are_left_alone() -> None:
    item = episode(0)
    step = Transition(action="type {count} {steps}", state=State.of(["at: {nowhere}"]), reward=0.0, outcome="running")
    odd = Episode(
        id="x",
        run="r",
        task=item.task,
        repeat=0,
        source="real",
        purpose="experience",
        transitions=(step,),
        outcome="truncated",
    )
    assert "type {count} {steps}" in filled(PROMPT.user, annotation_values(odd))
