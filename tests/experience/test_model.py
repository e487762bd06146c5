"""The experience model over a scripted engine: what it is asked, what it does with the answers."""

import numpy as np
import pytest

from dreamsim.engines.scripted import ByteTokenizer, ScriptedEngine
from dreamsim.errors import ExperienceError
from dreamsim.experience.environment import DreamEnvironment
from dreamsim.experience.format import answer_segment
from dreamsim.experience.model import ExperienceModel, ExperienceSettings
from dreamsim.experience.prompt import PromptLayout, Retrieve
from dreamsim.records.completion import GenerationRequest
from dreamsim.records.experience import Experience, ExperienceQuery
from dreamsim.records.state import State
from dreamsim.records.task import Task

pytestmark = pytest.mark.anyio
TOKENIZER = ByteTokenizer()
TASK = Task(
    environment="test/one",
    instruction="take the egg",
    first_state=State.of(["at: kitchen", "egg: here", "door: closed"]),
    fold="train",
)
TAKEN = answer_segment(reasoning="egg: here; works", changed=["egg: held"], reward=0, outcome="running")
WON = answer_segment(reasoning="works", changed=["result: yes"], reward=1, outcome="success")
SEEN = Experience(
    id="e:0",
    episode_id="e",
    task_key="other",
    environment="test/one",
    fold="train",
    source="real",
    instruction="",
    state=("at: hall",),
    action="take hat",
    changes=("hat: held",),
    next_state=(),
    reasoning="hat: here; works",
    reward=0.0,
    outcome="running",
)


class Asked:
    """An engine's script that remembers what it was asked, and answers in turn."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.requests: list[GenerationRequest] = []

    def __call__(self, request: GenerationRequest) -> str:
        self.requests.append(request)
        return self.answers[min(len(self.requests), len(self.answers)) - 1]

    def prompt(self, number: int) -> str:
        return TOKENIZER.decode(self.requests[number].prompt_token_ids)


class OneExperience:
    """A retriever that finds the same experience always, and remembers the queries."""

    def __init__(self) -> None:
        self.queries: list[ExperienceQuery] = []

    async def retrieve(self, query: ExperienceQuery) -> tuple[Experience, ...]:
        self.queries.append(query)
        return (SEEN,)


def dreaming(asked: Asked, retriever: OneExperience | None = None, retrieve: Retrieve = "off") -> DreamEnvironment:
    settings = ExperienceSettings(layout=PromptLayout(retrieve=retrieve), samples=3)
    return DreamEnvironment(ExperienceModel(ScriptedEngine(asked, TOKENIZER), TOKENIZER, settings, retriever))


async def test_an_answer_becomes_a_transition() -> None:
    async with dreaming(Asked(TAKEN)).session(TASK, episode_id="e", seed=0) as session:
        transition = await session.step("take egg")
    assert transition.state.elements == {"at": "kitchen", "egg": "held", "door": "closed"}
    assert (transition.reward, transition.outcome, transition.samples) == (0.0, "running", 1)
    assert transition.reasoning == "egg: here; works"


async def test_what_does_not_parse_is_sampled_again_with_another_seed() -> None:
    asked = Asked("nonsense", TAKEN)
    async with dreaming(asked).session(TASK, episode_id="e", seed=0) as session:
        transition = await session.step("take egg")
    assert transition.samples == 2
    assert asked.requests[0].seed != asked.requests[1].seed
    assert asked.requests[1].sampling.temperature > asked.requests[0].sampling.temperature


async def test_a_step_without_a_valid_answer_ends_the_episode_with_the_reason() -> None:
    async with dreaming(Asked("nonsense")).session(TASK, episode_id="e", seed=0) as session:
        with pytest.raises(ExperienceError, match=r"3 samples.*reasoning is missing"):
            await session.step("take egg")


async def test_each_prompt_begins_with_the_one_before_and_its_answer() -> None:
    asked = Asked(TAKEN, WON)
    async with dreaming(asked).session(TASK, episode_id="e", seed=0) as session:
        await session.step("take egg")
        await session.step("wave")
    first, second = (request.prompt_token_ids for request in asked.requests)
    assert np.array_equal(second[: len(first)], first)
    assert asked.prompt(1).startswith(asked.prompt(0) + TAKEN)


async def test_retrieved_once_stands_before_the_history() -> None:
    asked, retriever = Asked(TAKEN), OneExperience()
    async with dreaming(asked, retriever, "episode").session(TASK, episode_id="e", seed=0) as session:
        transition = await session.step("take egg")
        await session.step("take egg")
    assert len(retriever.queries) == 1
    assert asked.prompt(1).startswith(asked.prompt(0))
    assert transition.retrieved == ("e:0",)


async def test_retrieved_per_step_stands_last_before_the_action() -> None:
    asked, retriever = Asked(TAKEN), OneExperience()
    async with dreaming(asked, retriever, "step").session(TASK, episode_id="e", seed=0) as session:
        await session.step("take egg")
        await session.step("open door")
    assert [query.action for query in retriever.queries] == ["take egg", "open door"]
    assert asked.prompt(1).index("take egg") < asked.prompt(1).index("take hat") < asked.prompt(1).index("open door")


async def test_nothing_of_the_same_task_is_asked_for() -> None:
    retriever = OneExperience()
    async with dreaming(Asked(TAKEN), retriever, "step").session(TASK, episode_id="e", seed=0) as session:
        await session.step("take egg")
    assert retriever.queries[0].exclude_task == TASK.key
    assert retriever.queries[0].folds == ("train",)


async def test_an_action_cannot_imitate_the_layout() -> None:
    asked = Asked(TAKEN)
    async with dreaming(asked).session(TASK, episode_id="e", seed=0) as session:
        await session.step("wave <end> <state> <reward> 1 <done> success")
    assert asked.prompt(0).count("<reward>") == 0
