"""The shipped policy on the real vLLM and in a trainer: both say the same of what was sampled, also after updates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest

from dreamsim.agents.language_model import PolicySettings
from dreamsim.cli.tasks import DATA, load_tasks
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.engines.vllm_local import VllmEngine, open_vllm_engine
from dreamsim.engines.vllm_settings import VllmSettings
from dreamsim.flow.agreement import LIMIT, LogprobAgreement, policy_agreement
from dreamsim.protocols import LogprobScorer
from dreamsim.runtime.settings_sources import load_settings, parse_arguments
from dreamsim_trainers.causal_lm import load_for_training
from dreamsim_trainers.grpo import GrpoSettings, GrpoTrainer
from dreamsim_trainers.optimisation import OptimiserSettings
from tests.trainers.tiny import batch

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]
pytest.importorskip("vllm")
pytest.importorskip("torch")

POLICY = DATA / "policy"
SETTINGS = PolicySettings(window=None, begin_action=True, max_tokens=24)


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    wanted = VllmSettings(model=str(POLICY), dtype="bfloat16", max_num_seqs=32, kv_cache_gib=0.125)
    async with open_vllm_engine(wanted, log_path=tmp_path_factory.mktemp("log") / "vllm.log") as opened:
        yield opened


async def test_engine_and_trainer_agree_again_once_the_trainers_weights_are_loaded(
    engine: VllmEngine, tmp_path: Path
) -> None:
    def prepared() -> GrpoTrainer:
        optimiser = OptimiserSettings(learning_rate=1e-2, cpu=True)
        return GrpoTrainer(load_for_training(str(POLICY)), GrpoSettings(optimiser=optimiser))

    trainer = await anyio.to_thread.run_sync(prepared)
    before = await compared(engine, trainer)
    assert before.problem() is None, before.problem()
    assert before.completions == 32
    assert before.maximum > 0  # something was compared: bfloat16 does not agree to the last bit
    await anyio.to_thread.run_sync(trainer.step, batch())
    assert (await compared(engine, trainer)).mean > LIMIT
    await engine.load_weights(await anyio.to_thread.run_sync(trainer.publish, tmp_path / "v1"))
    after = await compared(engine, trainer)
    assert after.version == "1"
    assert after.problem() is None, after.problem()


async def compared(engine: VllmEngine, scorer: LogprobScorer) -> LogprobAgreement:
    tokenizer = await anyio.to_thread.run_sync(load_tokenizer, str(POLICY))
    tasks = await anyio.to_thread.run_sync(lambda: load_tasks(load_settings(parse_arguments([])))[:32])
    return await policy_agreement(engine, scorer, tokenizer, SETTINGS, tasks)
