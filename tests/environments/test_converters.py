"""The converters in examples/, on samples made up in the formats of their sources."""

from __future__ import annotations

import importlib.util
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from dreamsim.records.codec import episode_from_json, episode_to_json
from dreamsim.records.episode import Episode
from dreamsim.store.jsonl import read_jsonl
from dreamsim_adapters.environments.textworld_express.environment import TextWorldExpressEnvironment

EXAMPLES = Path(__file__).parents[2] / "examples"


def _example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _lines(episode: Episode) -> list[tuple[str, ...]]:
    return [episode.task.first_state.lines, *(transition.state.lines for transition in episode.transitions)]


def _round_trip(episode: Episode) -> None:
    again = episode_from_json(json.loads(json.dumps(episode_to_json(episode))))
    assert (again.id, again.task, again.outcome) == (episode.id, episode.task, episode.outcome)
    assert _lines(again) == _lines(episode)


def _step(action: str, observation: str, **more: object) -> dict[str, object]:
    return {"action": action, "observation": observation, "reward": 0, "done": False, "admissible": ["look"], **more}


ALFWORLD = {
    "id": "valid_unseen/pick_clean_then_place-Mug-None-Shelf-7/trial_1",
    "reset": "You are in the middle of a room. Looking quickly around you, you see a drawer 1, a desk 2, and a shelf 1."
    "\n\n"
    "Your task is to: clean some mug and put it in shelf.",
    "won": True,
    "error": None,
    "steps": [
        _step("go to drawer 1", "You arrive at drawer 1. The drawer 1 is closed."),
        _step("open drawer 1", "You open the drawer 1. The drawer 1 is open. In it, you see a mug 2, and a pen 1."),
        _step("take mug 2 from drawer 1", "You pick up the mug 2 from the drawer 1."),
        _step("take mug 2 from drawer 1", "Nothing happens."),
        _step("clean mug 2 with sinkbasin 1", "You clean the mug 2 using the sinkbasin 1."),
        _step("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see nothing."),
        _step("move mug 2 to shelf 1", "You move the mug 2 to the shelf 1.", reward=1, done=True),
    ],
}


def test_alfworld_logs_become_element_lines() -> None:
    episode = _example("convert_alfworld_expert").convert(ALFWORLD)
    assert (episode.task.environment, episode.task.fold) == ("alfworld/pick_clean_then_place", "test")
    assert episode.task.instruction == "clean some mug and put it in shelf"
    assert _lines(episode) == [
        ("at: room", "desk: 2", "drawer: 1", "shelf: 1"),
        ("at: drawer 1", "drawer 1: closed"),
        ("at: drawer 1", "drawer 1: open", "mug 2: in drawer 1", "pen 1: in drawer 1"),
        ("at: drawer 1", "drawer 1: open", "pen 1: in drawer 1", "mug 2: held"),
        ("at: drawer 1", "drawer 1: open", "pen 1: in drawer 1", "mug 2: held", "result: failed"),
        ("at: drawer 1", "drawer 1: open", "pen 1: in drawer 1", "mug 2: held clean"),
        ("at: shelf 1", "mug 2: held clean"),
        ("at: shelf 1", "mug 2: in shelf 1 clean"),
    ]
    assert (episode.outcome, episode.total_reward) == ("success", 1.0)
    _round_trip(episode)


WEBSHOP = {
    "session": "fixed_1",
    "instruction": "i want a red lamp,  and price lower than 20 dollars",
    "score": 0.5,
    "reset": "Webshop \nInstruction: \n... \n[Search]",
    "steps": [
        {
            "action": "search[red lamp]",
            "observation": "[Back to Search] \nPage 1 (Total results: 50) \n[Next >] \n"
            "[B012345678] \nA lamp: red \n$7.5 to $9",
        },
        {"action": "think[It is cheap.]", "observation": "OK."},
        {
            "action": "click[B012345678]",
            "observation": "[Back to Search] \n[< Prev] \ncolor [red][blue]\nA lamp: red \n"
            "Price: $7.5 \nRating: N.A. \n[Buy Now]",
        },
        {"action": "click[green]", "observation": "Invalid action!"},
        {"action": "click[red]", "observation": "You have clicked red."},
        {"action": "click[Buy Now]", "observation": "Your score (min 0.0, max 1.0): 0.5"},
    ],
}


def test_webshop_pages_become_element_lines() -> None:
    episode = _example("convert_react_webshop").convert(WEBSHOP)
    item = (
        "at: item B012345678",
        "[Back to Search]",
        "[< Prev]",
        "color: [red] [blue]",
        "title: A lamp: red",
        "price: $7.5",
        "rating: N.A.",
        "[Buy Now]",
    )
    assert _lines(episode) == [
        ("at: search", "[Search]"),
        ("at: results", "[Back to Search]", "page: 1, 50 results", "[Next >]", "[B012345678] A lamp: red $7.5 to $9"),
        item,
        (*item, "result: failed"),
        (*item, "chosen red: yes"),
        ("at: end", "result: score 0.5"),
    ]
    _round_trip(episode)


def test_webshop_thoughts_belong_to_the_next_action() -> None:
    episode = _example("convert_react_webshop").convert(WEBSHOP)
    assert [transition.decision.thought for transition in episode.transitions] == ["", "It is cheap.", "", "", ""]


def test_only_the_full_webshop_score_is_success() -> None:
    episode = _example("convert_react_webshop").convert(WEBSHOP)
    assert (episode.outcome, episode.total_reward) == ("failure", 0.5)


def _call(name: str, **arguments: object) -> dict[str, object]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


def _trial(*, reward: float, last: str) -> dict[str, object]:
    return {
        "task_id": 4,
        "trial": 2,
        "reward": reward,
        "info": {"task": {"instruction": "You are secretive."}},
        "traj": [
            {"role": "system", "content": "A long policy"},
            {"role": "user", "content": "Cancel my flight."},
            {"role": "assistant", "content": "Who are\nyou?"},
            {"role": "user", "content": "I am ann_1."},
            _call("think", thought="Look her up."),
            {"role": "tool", "name": "think", "content": ""},
            _call("get_user_details", user_id="ann_1"),
            {"role": "tool", "name": "get_user_details", "content": '{"email": "a@b.c", "flights": ["X1"]}'},
            _call("cancel", flight="X2"),
            {"role": "tool", "name": "cancel", "content": "Error: no such flight"},
            {"role": "assistant", "content": "Done."},
            {"role": "user", "content": last},
        ],
    }


def test_tau_bench_trials_become_steps_of_the_agent() -> None:
    episode = _example("convert_tau_bench").convert(_trial(reward=1.0, last="Bye ###STOP###"))
    assert [transition.action for transition in episode.transitions] == [
        "respond Who are you?",
        'get_user_details {"user_id": "ann_1"}',
        'cancel {"flight": "X2"}',
        "respond Done.",
    ]
    assert _lines(episode) == [
        ("customer: Cancel my flight.",),
        ("customer: I am ann_1.",),
        ("customer: I am ann_1.", "result: found", "email: a@b.c", 'flights: ["X1"]'),
        ("customer: I am ann_1.", "result: Error: no such flight"),
        ("customer: Bye",),
    ]
    assert episode.transitions[1].decision.thought == "Look her up."
    assert (episode.outcome, episode.repeat, episode.total_reward) == ("success", 2, 1.0)
    _round_trip(episode)


def test_a_tau_bench_trial_that_was_cut_short_is_truncated() -> None:
    episode = _example("convert_tau_bench").convert(_trial(reward=0.0, last="And then?"))
    assert (episode.outcome, episode.total_reward) == ("truncated", 0.0)


def test_what_only_the_customer_knows_stays_out() -> None:
    episode = _example("convert_tau_bench").convert(_trial(reward=0.0, last="###STOP###"))
    assert "secretive" not in json.dumps(episode_to_json(episode))


async def _logged(environment: TextWorldExpressEnvironment) -> dict[str, Any]:
    [task] = await environment.tasks(count=1)
    spec = {"numLocations": 1, "numItemsToPutAway": 2, "seed": 0, "gameSet": 1}
    convert = _example("convert_textworld_express")
    async with environment.pool.game(convert.GameSpec(game="twc", parameters={}), fold="train", seed=0) as game:
        path = await environment.gold_path(task)
        steps = [{"action": action, "observation": (await game.step(action)).feedback} for action in path]
    return {"game": "twc", "fold": "train", "seed": 0, "props": spec, "policy": "gold", "steps": steps}


async def test_textworld_express_logs_are_played_again(textworld: TextWorldExpressEnvironment) -> None:
    record = await _logged(textworld)
    episode = await _example("convert_textworld_express").convert(record, textworld, repeat=0)
    assert [transition.action for transition in episode.transitions] == [step["action"] for step in record["steps"]]
    assert episode.outcome == "success"
    assert all(transition.reasoning for transition in episode.transitions)
    _round_trip(episode)


async def test_a_log_that_the_game_contradicts_is_refused(textworld: TextWorldExpressEnvironment) -> None:
    record = await _logged(textworld)
    record["steps"][1]["observation"] = "A dragon appears."
    module = _example("convert_textworld_express")
    with pytest.raises(module.ReplayError, match="step 1"):
        await module.convert(record, textworld, repeat=0)


TEXTWORLD = {"game": "twc", "fold": "train", "seed": 0, "props": {"numLocations": 1}, "policy": "gold", "steps": []}


@pytest.mark.parametrize(
    ("name", "source", "content"),
    [
        ("convert_alfworld_expert", "log.jsonl.xz", json.dumps(ALFWORLD)),
        ("convert_react_webshop", "log.jsonl", json.dumps(WEBSHOP)),
        ("convert_tau_bench", "log.json", json.dumps([_trial(reward=1.0, last="###STOP###")])),
        ("convert_textworld_express", "log.jsonl", json.dumps(TEXTWORLD)),
    ],
)
async def test_what_a_converter_writes_can_be_imported(
    name: str, source: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = tmp_path / source, tmp_path / "out.jsonl"
    data = content.encode()
    path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else data)
    monkeypatch.setattr("sys.argv", [name, str(path), str(target)])
    await run_sync(_example(name).main)  # in a thread, because one of them runs an event loop of its own
    assert len(list(read_jsonl(target))) == 1
