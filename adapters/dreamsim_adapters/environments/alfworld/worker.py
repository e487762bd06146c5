"""The blocking side: a process that owns as many ALFWorld games as are being played in it.

In: requests on standard input. Out: one answer each, in order, on standard output, as `workers.frames` says. To open a
session takes the path of its `game.tw-pddl`; beside opening, stepping and closing there is

    {"id": 4, "op": "path", "game": "...", "by": "planner"}     actions that solve the game, by planner or expert

Always: a session's answers depend on its own requests alone (each game has a planner library of its own), and are what
the package's `AlfredTWEnv` would say; the process ends when its standard input does.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from dreamsim_adapters.environments.workers.frames import JsonObject, serve, standard_streams

EXPERT_STEPS: Final = 100
"""Most steps of the handcoded expert; what it has not solved by then it never does."""
IDLE_GAMES: Final = 24
"""Loaded games kept for the next session of the same file."""
TRANSLATIONS: Final = 128
"""Translated problems kept, two for each game: translating is most of what loading and resetting cost."""


class Games:
    """All games of this process."""

    def __init__(self) -> None:
        """Imports the engine: seconds."""
        import fast_downward

        # Pure: text of domain and problem in, tables out, which the engine only reads.
        fast_downward.pddl2sas = lru_cache(maxsize=TRANSLATIONS)(fast_downward.pddl2sas)
        self._idle: OrderedDict[str, list[Any]] = OrderedDict()
        self._open: dict[int, tuple[str, Any]] = {}
        self._paths: dict[tuple[str, str], list[str]] = {}

    def answer(self, request: JsonObject) -> JsonObject:
        """What a request comes to."""
        match request["op"]:
            case "open":
                return self._start(request["session"], request["game"])
            case "step":
                return _shown(self._open[request["session"]][1].step(request["action"])[0])
            case "path":
                return {"path": self._path(request["game"], request["by"])}
            case "close":
                self._close(request["session"])
                return {}
        raise ValueError(f"no such request: {request['op']!r}")

    def _start(self, number: int, file: str) -> JsonObject:
        environment = self._loaded(file)
        self._open[number] = (file, environment)
        shown = _shown(environment.reset())
        return {**shown, "dialect": "old" if "put {o} in/on {r}" in _data(environment)["grammar"] else "new"}

    def _loaded(self, file: str) -> Any:
        idle = self._idle.get(file)
        if idle:
            return idle.pop()
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
        from textworld import EnvInfos
        from textworld.envs.pddl import PddlEnv

        environment = AlfredDemangler(PddlEnv(EnvInfos(won=True, admissible_commands=True)), shuffle=False)
        environment.load(file)
        grammar = environment.unwrapped._logic.grammar
        grammar.derive = _remembered(grammar.derive)
        return environment

    def _close(self, number: int) -> None:
        import fast_downward

        session = self._open.pop(number, None)
        if session is None:
            return
        file, environment = session
        self._idle.setdefault(file, []).append(environment)
        self._idle.move_to_end(file)
        if sum(len(kept) for kept in self._idle.values()) > IDLE_GAMES:
            oldest = next(name for name, kept in self._idle.items() if kept)
            fast_downward.close_lib(self._idle[oldest].pop().unwrapped.downward_lib)
            if not self._idle[oldest]:
                del self._idle[oldest]

    def _path(self, file: str, by: str) -> list[str]:
        if (file, by) not in self._paths:
            self._paths[file, by] = self._planned(file) if by == "planner" else _expert_path(file)
        return self._paths[file, by]

    def _planned(self, file: str) -> list[str]:
        environment = self._loaded(file)
        environment.reset()
        inner = environment.unwrapped
        path = [str(action) for action in inner._pddl_state.replan(inner._entity_infos)]
        self._idle.setdefault(file, []).append(environment)
        return path


def _expert_path(file: str) -> list[str]:
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredExpert, AlfredExpertType
    from textworld import EnvInfos
    from textworld.envs.pddl import PddlEnv

    inner = PddlEnv(EnvInfos(won=True, admissible_commands=True, facts=True))
    environment = AlfredExpert(AlfredDemangler(inner, shuffle=False), expert_type=AlfredExpertType.HANDCODED)
    environment.load(file)
    inner._logic.grammar.derive = _remembered(inner._logic.grammar.derive)
    random.seed(0)  # the expert draws among equals
    state = environment.reset()
    path: list[str] = []
    while len(path) < EXPERT_STEPS and not state["won"]:
        path.append(str(state["extra.expert_plan"][0]))
        state, _, _ = environment.step(path[-1])
    return path


def _remembered(derive: Callable[..., str]) -> Callable[..., str]:
    """The grammar's `derive`, with the wording of commands kept: it depends on names and places that never change.

    Deriving the commands anew after every step is nine tenths of what a step costs.
    """
    kept: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}

    def remembering(start: str, context: dict[str, Any]) -> str:
        if start.startswith("#"):  # feedback: what the state says
            return derive(start, context)
        key = (start, tuple((holder.name, thing.name) for holder, thing in context["mapping"].items()))
        if key not in kept:
            kept[key] = derive(start, context)
        return kept[key]

    return remembering


def _data(environment: Any) -> dict[str, Any]:
    data: dict[str, Any] = environment.unwrapped._game_data
    return data


def _shown(state: Any) -> JsonObject:
    return {
        "feedback": str(state.feedback),
        "admissible": list(state["admissible_commands"]),
        "won": bool(state["won"]),
    }


def vocabulary() -> list[str]:
    """Kinds of things that occur in the games: what a policy can be mistaken about."""
    from alfworld.gen.constants import OBJECTS

    return sorted(str(name).lower() for name in OBJECTS)


def main() -> None:
    """Serve on standard input and output."""
    # The package makes this folder when imported, by default one in the user's home; here, files are given by path.
    os.environ.setdefault("ALFWORLD_DATA", tempfile.gettempdir())
    requests, answers = standard_streams()
    import alfworld.agents.environment.alfred_tw_env  # noqa: F401 - seconds, which count as starting
    from tatsu.exceptions import ParseException

    expected = (ValueError, KeyError, OSError, TypeError, ParseException)
    serve(requests, answers, Games().answer, hello={"vocabulary": vocabulary()}, expected=expected)


if __name__ == "__main__":
    main()
