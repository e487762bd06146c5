"""Real episodes, played again by the whole simulator on an engine without a model.

In: the shipped real episodes. Out: assignments, and an engine that answers each request with what was recorded there:
the action for the policy, reasoning and changed lines for the experience model.
Always:
- prompts, tokenizing, parsing, states and records are those of a real run; only the model's own time is missing, or
  drawn from quantiles of a run on vLLM (`benchmarks/data/engine_latency.json`);
- every repeat of an episode adds a line of its own to its states, so that no two steps but first ones are the same
  text, which would make indexing cheap;
- an answer depends on the request alone, and so does its latency.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.lowlevel
import numpy as np
from numpy.typing import NDArray

from dreamsim.experience.format import transition_answer
from dreamsim.flow.source import in_turn
from dreamsim.protocols import Assignment, Tokenizer
from dreamsim.records.completion import Completion, GenerationRequest
from dreamsim.records.episode import Episode, episode_id
from dreamsim.records.state import StateMemory, changes
from dreamsim.records.text import END, REWARD

LATENCY = Path(__file__).parent / "data" / "engine_latency.json"
ID_LENGTH = 20
"""Of an episode's id, with which its requests' ids begin."""
HASHES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What the models say in one episode."""

    actions: tuple[NDArray[np.int32], ...]
    """The policy's answer of each step."""
    heads: tuple[NDArray[np.int32], ...]
    """The experience model's, up to the changed lines."""
    tails: tuple[NDArray[np.int32], ...]
    """The rest of it: reward and end."""


def script_of(episode: Episode, policy: Tokenizer, experience: Tokenizer, *, begin_action: bool) -> Script:
    """What the models have to say for `episode` to happen again."""
    memory = StateMemory(episode.task.first_state)
    actions, heads, tails = [], [], []
    for step in episode.transitions:
        written = transition_answer(step, changes(memory, step.state))
        memory.see(step.state)
        head, tag, tail = written.rpartition(REWARD)
        actions.append(policy.encode(f"{'' if begin_action else '<action> '}{step.action}\n{END}"))
        heads.append(experience.encode(head))
        tails.append(experience.encode(tag + tail))
    return Script(actions=tuple(actions), heads=tuple(heads), tails=tuple(tails))


class Replay:
    """Assignments and the engine's answers to them."""

    def __init__(self, episodes: Sequence[Episode], scripts: Sequence[Script], experience: Tokenizer) -> None:
        self._tasks = [episode.task for episode in episodes]
        self._scripts = {episode.task.key: script for episode, script in zip(episodes, scripts, strict=True)}
        self._experience = experience
        self._visits: dict[int, NDArray[np.int32]] = {}

    def assignments(self, run: str, count: int) -> tuple[list[Assignment], dict[str, tuple[Script, NDArray[np.int32]]]]:
        """`count` assignments, and by episode id what is said in each."""
        given = list(in_turn(self._tasks, count, "training"))
        said = {
            episode_id(run, one.task.key, one.repeat): (self._scripts[one.task.key], self._visit(one.repeat))
            for one in given
        }
        return given, said

    def _visit(self, repeat: int) -> NDArray[np.int32]:
        if repeat not in self._visits:
            self._visits[repeat] = self._experience.encode(f"visit: {' '.join(str(repeat))}\n")
        return self._visits[repeat]


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies by role: values of the quantiles 0, 1/n, ..., 1, seconds, each times `scale`."""

    quantiles: Mapping[str, Sequence[float]]
    scale: float = 1.0

    @classmethod
    def recorded(cls, scale: float = 1.0) -> Latency:
        """Those of a run on vLLM."""
        told = json.loads(LATENCY.read_text(encoding="utf-8"))
        return cls({role: told[role] for role in ("policy", "experience")}, scale)

    def of(self, request: GenerationRequest) -> float:
        """Of one request, by its id alone."""
        place = zlib.crc32(request.request_id.encode()) % HASHES / HASHES
        values = self.quantiles[request.role]
        whole, part = divmod(place * (len(values) - 1), 1.0)
        low = values[int(whole)]
        return self.scale * (low + part * (values[int(whole) + 1] - low))


class ReplayEngine:
    """An `Engine` that says what is recorded."""

    name = "replay"
    version = "0"
    max_model_len = 1 << 20

    def __init__(
        self,
        said: Mapping[str, tuple[Script, NDArray[np.int32]]],
        *,
        latency: Latency | None = None,
        fault: float = 0.0,
        hold_at: int | None = None,
    ) -> None:
        """Answers at once, or after `latency`; a share `fault` of the requests fails; all stop at step `hold_at`, or at
        their last."""
        self._said = said
        self._latency = latency
        self._fault = fault
        self._hold_at = hold_at
        self._missing = len(said)
        self._silent = np.zeros(4096, dtype=np.float32)
        self._ready: dict[str, float] = {}
        self.held = anyio.Event()
        """Set when every episode has stopped."""
        self.requests = 0
        """Answered so far."""
        self._tokens: dict[str, tuple[int, int]] = {}
        self.overheads: list[float] = []
        """Per request: from when the last answer of its episode was due to when this request came, seconds."""

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer `request`."""
        from dreamsim.errors import EngineError

        episode = request.request_id[:ID_LENGTH]
        who, step = _place(request.request_id)
        if (
            self._hold_at is not None
            and who == "a"
            and step == min(self._hold_at, len(self._said[episode][0].actions) - 1)
        ):
            self._missing -= 1
            if not self._missing:
                self.held.set()
            await anyio.sleep_forever()
        if self._latency is None:
            await anyio.lowlevel.checkpoint()
        else:
            await self._wait(episode, self._latency.of(request))
        if self._fault and zlib.crc32(request.request_id[::-1].encode()) % HASHES < self._fault * HASHES:
            raise EngineError("a scripted failure")
        self.requests += 1
        ids = self._ids(episode, who, step)
        if self._hold_at is not None:
            # The prompts of either model are one array that grows: the last one holds all before it.
            _, written = self._tokens.get(episode + who, (0, 0))
            self._tokens[episode + who] = len(request.prompt_token_ids), written + len(ids)
        return Completion(
            token_ids=ids,
            logprobs=self._silent[: len(ids)],
            finish_reason="stop",
            prompt_tokens=len(request.prompt_token_ids),
            version="0",
        )

    @property
    def token_bytes(self) -> int:
        """Bytes of the ids that live episodes hold: what was read and written so far."""
        return sum(4 * (read + written) for read, written in self._tokens.values())

    async def _wait(self, episode: str, seconds: float) -> None:
        now = anyio.current_time()
        before = self._ready.get(episode)
        if before is not None:
            self.overheads.append(now - before)
        self._ready[episode] = now + seconds
        await anyio.sleep_until(now + seconds)

    def _ids(self, episode: str, who: str, step: int) -> NDArray[np.int32]:
        script, visit = self._said[episode]
        if who == "a":
            return script.actions[step]
        return np.concatenate([script.heads[step], visit, script.tails[step]])


def _place(request_id: str) -> tuple[str, int]:
    """Who asks and at which step: `...-a3-0` is the policy at step 3."""
    end = request_id.index("-", ID_LENGTH + 1)
    return request_id[ID_LENGTH + 1], int(request_id[ID_LENGTH + 2 : end])
