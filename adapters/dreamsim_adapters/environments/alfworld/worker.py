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
from copy import deepcopy
from functools import lru_cache
from typing import Any, Final

from dreamsim_adapters.environments.workers.frames import JsonObject, serve, standard_streams

EXPERT_STEPS: Final = 100
"""Most steps of the handcoded expert; what it has not solved by then it never does."""
IDLE_GAMES: Final = 24
"""Loaded games kept for the next session of the same file."""
TRANSLATIONS: Final = 128
"""Translated problems kept, two for each game: translating is most of what loading and resetting cost."""
PARSED: Final = 4096
"""Parsed pieces of grammar kept."""


class Games:
    """All games of this process."""

    def __init__(self) -> None:
        """Imports the engine: seconds."""
        _remember_what_is_pure()
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


def _remember_what_is_pure() -> None:
    """Have the engine translate and parse each text once: again and again is where nearly all its time goes.

    What is returned is only read, but for the grammar's symbols, of which everyone gets copies.
    """
    import fast_downward
    import textworld.logic
    from textworld.envs.pddl import textgen

    fast_downward.pddl2sas = lru_cache(maxsize=TRANSLATIONS)(fast_downward.pddl2sas)
    textworld.logic._parse_and_convert = lru_cache(maxsize=PARSED)(textworld.logic._parse_and_convert)
    parsed = lru_cache(maxsize=PARSED)(textgen._parse_and_convert)

    def copies(*arguments: Any, **options: Any) -> Any:
        return deepcopy(parsed(*arguments, **options))

    textgen._parse_and_convert = copies


def _remembered(derive: Callable[..., str]) -> Callable[..., str]:
    """The grammar's `derive`, with the wording of commands kept: it depends on names that never change.

    Deriving the commands anew after every step is nine tenths of what a step costs.
    """
    kept: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}

    def remembering(start: str, context: dict[str, Any]) -> str:
        if start.startswith("#"):  # feedback: what the state says
            return derive(start, context)
        # Spots are left out: no command names one, and to which spot a walk leads depends on the place it names.
        named = context["mapping"].items()
        key = (start, tuple((holder.name, thing.name) for holder, thing in named if holder.type != "location"))
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
