"""The contract of engines that take weights holds for those that keep it, and for no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreamsim.engines.adapted import AdaptedEngine
from dreamsim.engines.scripted import ByteTokenizer, Latency, ScriptedEngine
from dreamsim.records.weights import InFlight, WeightsUpdate
from dreamsim.testing import check_weights_receiver
from tests.flow.runs import in_virtual_time

PROMPT = np.arange(1, 9, dtype=np.int32)


def updates(kind: str = "full") -> list[WeightsUpdate]:
    path = Path("weights")
    return [
        WeightsUpdate(version=version, path=path, kind="full" if kind == "full" else "lora") for version in (1, 2, 5)
    ]


def scripted() -> ScriptedEngine:
    tokenizer = ByteTokenizer()
    return ScriptedEngine(lambda request: "a", tokenizer, latency=Latency(start_s=2.0), load_s=1.0, adapters=["policy"])


class Forgetful(ScriptedEngine):
    """Loads, and does not say so."""

    async def load_weights(self, update: WeightsUpdate, *, in_flight: InFlight = "drain") -> None:
        old = self.version
        await super().load_weights(update, in_flight=in_flight)
        self.version = old


def test_it_holds_for_the_scripted_engine_and_for_its_adapter() -> None:
    in_virtual_time(lambda: check_weights_receiver(scripted(), updates(), PROMPT))
    in_virtual_time(lambda: check_weights_receiver(AdaptedEngine(scripted(), "policy"), updates("lora"), PROMPT))


def test_it_does_not_hold_for_one_that_keeps_its_old_version() -> None:
    forgetful = Forgetful(lambda request: "a", ByteTokenizer())
    with pytest.raises(AssertionError, match="after version 1 was loaded it says '0'"):
        in_virtual_time(lambda: check_weights_receiver(forgetful, updates(), PROMPT))
