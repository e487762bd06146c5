"""For tests of dreamsim and of what is built on it: doubles, faults on a schedule, contract checks.

In: nothing. Out: the names below; Hypothesis strategies are in `dreamsim.testing.strategies`, an event loop
whose time jumps in `dreamsim.testing.virtual_time`. Always: importing this needs no optional package.
"""

from dreamsim.testing.contracts import (
    check_completion,
    check_decision,
    check_environment,
    check_policy,
    check_sink,
    check_state_mapping,
)
from dreamsim.testing.curriculum_contracts import check_task_domain
from dreamsim.testing.environment import ScriptedEnvironment
from dreamsim.testing.faults import FAULT_KINDS, FAULTS, Fault, FaultSchedule, FaultyEnvironment, FaultyPolicy
from dreamsim.testing.faulty_engine import FaultyEngine, JumpingClock
from dreamsim.testing.faulty_store import FaultyStore, damage_index, faulty_connection
from dreamsim.testing.faulty_trainer import FaultyTrainer
from dreamsim.testing.model_contracts import check_encoder, check_engine, check_retriever
from dreamsim.testing.policies import RandomPolicy, ScriptedPolicy
from dreamsim.testing.sink import MemorySink
from dreamsim.testing.trust_contracts import check_chat_model, check_verifier
from dreamsim.testing.weights_contracts import check_weights_receiver
from dreamsim.testing.world import gold_path, scripted_task, scripted_tasks

__all__ = [
    "FAULTS",
    "FAULT_KINDS",
    "Fault",
    "FaultSchedule",
    "FaultyEngine",
    "FaultyEnvironment",
    "FaultyPolicy",
    "FaultyStore",
    "FaultyTrainer",
    "JumpingClock",
    "MemorySink",
    "RandomPolicy",
    "ScriptedEnvironment",
    "ScriptedPolicy",
    "check_chat_model",
    "check_completion",
    "check_decision",
    "check_encoder",
    "check_engine",
    "check_environment",
    "check_policy",
    "check_retriever",
    "check_sink",
    "check_state_mapping",
    "check_task_domain",
    "check_verifier",
    "check_weights_receiver",
    "damage_index",
    "faulty_connection",
    "gold_path",
    "scripted_task",
    "scripted_tasks",
]
