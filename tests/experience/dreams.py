"""A small task, engines that answer in turn, a ledger and a real house: what tests of dreams have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from dreamsim.engines.scripted import ByteTokenizer
from dreamsim.experience.format import answer_segment
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.episode import Source, StepOutcome, Transition
from dreamsim.records.state import State
from dreamsim.records.task import Task
from dreamsim.records.trust import Contradiction

TOKENIZER = ByteTokenizer()
TASK = Task(
    environment="test/one",
    instruction="take the egg",
    first_state=State.of(["at: kitchen", "egg: here", "hat: here"]),
    fold="train",
)


def says(*changed: str, outcome: StepOutcome = "running") -> str:
    reward = 1 if outcome == "success" else 0
    return answer_segment(reasoning="so it is", changed=changed, reward=reward, outcome=outcome)


class Asked:
    """Answers in turn, the last one again and again; remembers the requests."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.requests: list[GenerationRequest] = []

    def __call__(self, request: GenerationRequest) -> str:
        self.requests.append(request)
        return self.answers[min(len(self.requests), len(self.answers)) - 1]

    def prompt(self, number: int) -> str:
        return TOKENIZER.decode(self.requests[number].prompt_token_ids)


class NothingVanishes:
    """A ledger: what was seen is seen for ever."""

    name = "nothing-vanishes/1"

    def __init__(self) -> None:
        self.opened = 0

    def open(self, task: Task) -> SeenThings:
        self.opened += 1
        return SeenThings(task.first_state)


class SeenThings:
    def __init__(self, state: State) -> None:
        self.facts: Mapping[str, str] = state.elements

    def contradictions(self, transition: Transition) -> tuple[Contradiction, ...]:
        missing = [thing for thing in self.facts if thing not in transition.state.elements]
        return tuple(Contradiction(rule="stays", message=f"{thing} is gone") for thing in missing)

    def see(self, transition: Transition) -> None:
        self.facts = {**self.facts, **transition.state.elements}


class RealHouse:
    """A real environment where every action adds a line to the state; the task is never done unless said."""

    name = "house"
    source: Source = "real"

    def __init__(self, done_after: int = 99) -> None:
        self.taken: list[list[str]] = []
        self.done_after = done_after

    @asynccontextmanager
    async def session(self, task: Task, *, episode_id: str, seed: int) -> AsyncIterator[RealSession]:
        self.taken.append([])
        yield RealSession(task.first_state, self.taken[-1], self.done_after)


class RealSession:
    admissible = ()

    def __init__(self, state: State, taken: list[str], done_after: int) -> None:
        self.state = state
        self._taken = taken
        self._done_after = done_after

    async def step(self, action: str) -> Transition:
        self._taken.append(action)
        self.state = State.of([*self.state.lines, f"{action}: done"])
        done = len(self._taken) >= self._done_after
        return Transition(action=action, state=self.state, reward=float(done), outcome="success" if done else "running")
