"""Contract check for engines that take new weights while they answer.

In: an engine, weights for it, a prompt. Out: nothing, or an AssertionError that says which clause is broken.
Always: a check leaves no request behind; afterwards the engine has the last of the weights it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, get_args

import anyio
import anyio.lowlevel
import numpy as np
from numpy.typing import NDArray

from dreamsim.protocols import Engine, WeightsReceiver
from dreamsim.records.completion import Completion, GenerationRequest, Sampling
from dreamsim.records.weights import InFlight, WeightsUpdate, version_number
from dreamsim.testing.contracts import check_completion


class ReceivingEngine(Engine, WeightsReceiver, Protocol):
    """Generates, and takes weights."""


async def check_weights_receiver(
    engine: ReceivingEngine, updates: Sequence[WeightsUpdate], prompt: NDArray[np.int32], *, at_once: int = 8
) -> None:
    """Check a `WeightsReceiver`: every answer names weights that were there, whatever becomes of what is in flight.

    Args:
        engine: what to check; it should be running.
        updates: three at least, versions growing, all newer than the engine's.
        prompt: token ids it can read, shape [length].
        at_once: requests in flight while weights come.
    """
    ways: tuple[InFlight, ...] = get_args(InFlight)
    assert len(updates) >= len(ways), f"give {len(ways)} updates at least: one for each way to treat what is in flight"
    for number, update in enumerate(updates):
        await _check_swap(engine, update, prompt, in_flight=ways[number % len(ways)], at_once=at_once)


async def _check_swap(
    engine: ReceivingEngine, update: WeightsUpdate, prompt: NDArray[np.int32], *, in_flight: InFlight, at_once: int
) -> None:
    before = engine.version
    answers: dict[str, Completion] = {}

    async def ask(name: str) -> None:
        answers[name] = await engine.generate(
            GenerationRequest(request_id=name, prompt_token_ids=prompt, sampling=Sampling(max_tokens=32), seed=0)
        )

    names = [f"swap-{update.version}-{index}" for index in range(at_once)]
    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(ask, name)
        await anyio.lowlevel.checkpoint()
        await engine.load_weights(update, in_flight=in_flight)
        after = engine.version
        await ask("late")
    late = answers.pop("late")
    assert version_number(after) == update.version, f"after version {update.version} was loaded it says {after!r}"
    assert late.version == after, f"asked with {after!r} loaded, answered by {late.version!r}"
    assert sorted(answers) == sorted(names), f"{in_flight}: every request in flight is answered"
    for answer in answers.values():
        check_completion(answer)
        assert answer.finish_reason != "abort", f"{in_flight}: callers are not told of aborted requests"
        assert answer.version in (before, after), f"{in_flight}: answered by {answer.version!r}, which never was"
