"""Every setting of a run: name, type, bounds, default, unit and one line of explanation.

In: values from files, the environment and flags (`runtime.settings_sources` collects them).
Out: `Settings`, frozen and complete.
Always: a name that does not exist is refused; every setting explains itself, because `--help` and
`docs/configuration.md` are printed from these classes; a setting that must deadlock or fail later is refused
here, with what to change.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dreamsim.records.episode import Purpose
from dreamsim.runtime.addresses import checked_address
from dreamsim.runtime.curriculum_settings import CurriculumSection
from dreamsim.runtime.failure_settings import Allowance
from dreamsim.runtime.setting import (
    Names,
    OptionalFlag,
    OptionalFloat,
    OptionalInt,
    OptionalPath,
    OptionalText,
    OptionalUrl,
    Section,
    VariableName,
    none_word,
    setting,
)
from dreamsim.runtime.store_settings import BalanceSection, FilterSection
from dreamsim.runtime.train_settings import TrainSection
from dreamsim.runtime.trust_settings import CacheSection, CheckSection, GateSection, VerifySection

TINY = "tiny"
"""The model name that stands for the small model shipped in the package."""

EngineKind = Literal["auto", "vllm", "http", "scripted"]
Retrieval = Literal["episode", "step", "off"]
Frame = Literal["auto", "chat", "plain"]


class RunSection(Section):
    """The run as a whole. These may be written without `run.`: `--concurrency 2048`."""

    directory: OptionalPath = setting(None, "where the run keeps everything; default: a new directory under runs/")
    name: str = setting("dream", "last part of the default directory's name", pattern=r"^[A-Za-z0-9._-]+$")
    seed: int = setting(0, "seed from which every other seed of the run is named", ge=0, lt=2**63)
    concurrency: int = setting(2048, "most episodes alive at the same moment", unit="episodes", ge=1, le=1_000_000)
    episodes: OptionalInt = setting(None, "episodes to run; default: as many as `concurrency`", unit="episodes", ge=1)
    max_steps: int = setting(20, "an episode that needs more is stored as truncated", unit="steps", ge=1)
    episode_timeout_s: float = setting(3600.0, "an episode's own time; then it is stored as failed", unit="s", gt=0)
    purpose: Purpose = setting("training", "what the episodes are for; `evaluation` is never retrieved or learned from")
    resume: OptionalPath = setting(None, "a run directory to continue: finished episodes are not run again")
    max_failures: Allowance = setting(
        0.1,
        "failed episodes with which the run still exits 0: a share (0.15, 15%), or how many (20, no decimal point); "
        "one more, and it begins nothing new",
    )
    on_failure: Literal["record", "retry", "fail_fast"] = setting(
        "record", "an episode that fails is stored; `retry` plays it again first, `fail_fast` ends the run with it"
    )
    retries: int = setting(2, "with `retry`: tries beyond the first", unit="tries", ge=1, le=100)
    retry_backoff_s: float = setting(
        1.0, "with `retry`: wait before the second try, doubled before each further one", unit="s", ge=0
    )
    engine_restarts: int = setting(
        2, "times that an engine in this process that died is started again; episodes wait for it", ge=0
    )
    shared: bool = setting(True, "one engine for both roles when they name the same model, engine and server")
    adaptive: bool = setting(
        True, "below `concurrency`, live episodes follow the engines' load: cache use, preemptions, queue"
    )
    requeue: bool = setting(
        True, "under pressure the youngest episodes are cut off and played again later; no: they come to their end"
    )
    stall_s: float = setting(
        300.0,
        "an episode that awaits one thing so long is named in the log; thousands on a CPU queue a minute",
        unit="s",
        gt=0,
    )
    metrics_port: int = setting(0, "serve /metrics (Prometheus) and /health on this port; 0 is off", ge=0, le=65535)
    metrics_host: str = setting("127.0.0.1", "address they are served on; others than this machine need another one")
    stop_after_s: OptionalFloat = setting(None, "stop as if interrupted after this long", unit="s", gt=0)


class VllmSection(Section):
    """vLLM in this process; for both roles unless a role says otherwise (`policy.vllm...`)."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = setting("auto", "type of the weights")
    max_model_len: OptionalInt = setting(
        None, "most tokens of prompt and answer; default: what the model allows", unit="tokens", ge=16
    )
    max_num_seqs: int = setting(256, "requests computed in one step of the engine", unit="requests", ge=1)
    max_num_batched_tokens: OptionalInt = setting(
        None, "tokens computed in one step of the engine; default: vLLM's", unit="tokens", ge=16
    )
    kv_cache_gib: OptionalFloat = setting(
        None,
        "memory for the key-value cache on a CPU; default: 2 (GPUs: gpu_memory_utilization)",
        unit="GiB",
        gt=0,
    )
    gpu_memory_utilization: OptionalFloat = setting(
        None,
        "share of GPU memory; default: 0.9 for one engine, 0.45 each for two; in a training 0.5, or 0.3 each",
        unit="share",
        gt=0,
        le=1,
    )
    enforce_eager: bool = setting(True, "no CUDA graphs and no compilation: starts fast; set false for long GPU runs")
    tensor_parallel_size: int = setting(1, "GPUs one engine is split over", unit="GPUs", ge=1)
    prefix_caching: bool = setting(True, "keep the computed prefixes of prompts")
    block_size: OptionalInt = setting(
        None, "unit in which prefixes are shared; default: 32 on a CPU, else vLLM's", unit="tokens", ge=1
    )
    prompt_lookup: int = setting(
        0, "guess so many tokens ahead from what was written before; 0 is off; on a GPU alone", unit="tokens", ge=0
    )
    cpu_threads: OptionalInt = setting(
        None, "threads that compute, on a CPU; default: one less than there are cores", unit="threads", ge=1
    )
    seeded: bool = setting(
        False, "a seed for every request: the same request gives the same answer, but large batches get slower"
    )


class RoleVllmSection(Section):
    """This role's own vLLM settings; empty means: as in `vllm`."""

    dtype: Annotated[Literal["auto", "bfloat16", "float16", "float32"] | None, BeforeValidator(none_word)] = setting(
        None, "as vllm.dtype"
    )
    max_model_len: OptionalInt = setting(None, "as vllm.max_model_len", unit="tokens", ge=16)
    max_num_seqs: OptionalInt = setting(None, "as vllm.max_num_seqs", unit="requests", ge=1)
    max_num_batched_tokens: OptionalInt = setting(None, "as vllm.max_num_batched_tokens", unit="tokens", ge=16)
    kv_cache_gib: OptionalFloat = setting(None, "as vllm.kv_cache_gib", unit="GiB", gt=0)
    gpu_memory_utilization: OptionalFloat = setting(None, "as vllm.gpu_memory_utilization", unit="share", gt=0, le=1)
    prompt_lookup: OptionalInt = setting(None, "as vllm.prompt_lookup", unit="tokens", ge=0)
    cpu_threads: OptionalInt = setting(None, "as vllm.cpu_threads", unit="threads", ge=1)


class RoleSection(Section):
    """What the policy and the experience model have in common.

    Where the default is "as trained", it is what the checkpoint's `dreamsim.json` says (trainers write it).
    """

    model: str = setting(
        TINY,
        "Hugging Face name, directory of a checkpoint, or `tiny` for the one in the package",
        min_length=1,
    )
    engine: EngineKind = setting("auto", "`auto` is `http` when a url is given, else `vllm` in this process")
    url: OptionalUrl = setting(None, "an OpenAI-compatible server, as http://host:8000/v1")
    api_key_variable: VariableName = setting(
        "OPENAI_API_KEY", "environment variable that holds the server's key, if any"
    )
    require_token_ids: bool = setting(
        True, "refuse a server that gives no token ids; no: tokenize its text here, which cannot be trained on"
    )
    tokenizer: OptionalText = setting(None, "where the tokenizer is; default: with the model")
    adapter: OptionalText = setting(None, "LoRA adapter (a directory) on top of the model")
    layout: Frame = setting("auto", "frame of the prompt; `auto` is `chat` where the model has a chat template")
    top_p: float = setting(1.0, "smallest set of tokens with this probability", unit="share", gt=0, le=1)
    vllm: RoleVllmSection = Field(default_factory=RoleVllmSection)

    @property
    def kind(self) -> Literal["vllm", "http", "scripted"]:
        """The engine that `auto` stands for."""
        if self.engine == "auto":
            return "http" if self.url is not None else "vllm"
        return self.engine

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engine == "http" and self.url is None:
            raise ValueError("engine = http needs a url: set url to the server's address")
        if self.engine in ("vllm", "scripted") and self.url is not None:
            raise ValueError(f"a url makes no sense with engine = {self.engine}: remove one of the two")
        if self.kind == "http" and self.model == TINY:
            raise ValueError("a server needs the model's name: set model to what the server calls it")
        return self


class PolicySection(RoleSection):
    """The agent that decides actions."""

    temperature: float = setting(1.0, "of sampling; 0 is greedy", ge=0, le=10)
    max_tokens: OptionalInt = setting(
        None, "longest decision, thought included; default: as trained, else 512", unit="tokens", ge=1
    )
    samples: int = setting(
        1, "most answers asked for one step until one holds an action; then the step is wasted", unit="answers", ge=1
    )
    window: OptionalInt = setting(
        None,
        "past steps shown; -1 shows all, as one growing prompt; default: as trained, else 2",
        unit="steps",
        ge=-1,
    )
    show_admissible: OptionalFlag = setting(
        None, "list the admissible actions where the environment tells them; default: as trained, else yes"
    )
    begin_action: OptionalFlag = setting(
        None, "end the prompt with the action tag, so that it writes no thought; default: as trained, else no"
    )


class ExperienceSection(RoleSection):
    """The experience model that dreams the environment."""

    require_token_ids: bool = setting(False, "refuse a server that gives no token ids; no: tokenize its text here")
    temperature: OptionalFloat = setting(
        None, "of the first answer; 0 is greedy; default: 0, in a training 1: many worlds", ge=0, le=10
    )
    retry_temperature: float = setting(1.0, "of further answers, when one could not be kept", ge=0, le=10)
    max_tokens: OptionalInt = setting(None, "longest answer; default: as trained, else 1024", unit="tokens", ge=1)
    samples: int = setting(10, "most answers asked for one step before the episode fails", unit="answers", ge=1)
    demonstrations: OptionalInt = setting(
        None, "past experiences shown (top-k); default: as trained, else 4", unit="experiences", ge=0
    )
    retrieve: Annotated[Retrieval | None, BeforeValidator(none_word)] = setting(
        None, "look them up once per `episode`, for every `step`, or `off`; default: as trained, else step"
    )
    example_state: OptionalFlag = setting(
        None, "show the state before each demonstration; default: as trained, else yes"
    )
    history: OptionalFlag = setting(
        None, "show past steps in the prompt (no: an ablation); default: as trained, else yes"
    )
    reasoning: OptionalFlag = setting(
        None, "let it reason before it answers (no: an ablation); default: as trained, else yes"
    )
    same_environment: bool = setting(True, "retrieve only experiences of the task's own environment")
    check: CheckSection = Field(default_factory=CheckSection)
    cache: CacheSection = Field(default_factory=CacheSection)
    verify: VerifySection = Field(default_factory=VerifySection)
    gate: GateSection = Field(default_factory=GateSection)
    balance: BalanceSection = Field(default_factory=BalanceSection)


def _checked_encoder(name: str) -> str:
    if name.startswith(("http:", "https:")):
        checked_address(name.partition("#")[0])
    return name


class StoreSection(Section):
    """Where episodes are kept."""

    path: OptionalPath = setting(None, "a store to use (and share); default: a new one in the run's directory")
    encoder: Annotated[str, AfterValidator(_checked_encoder)] = setting(
        "lexical",
        "embeds steps for retrieval: `lexical`, `sentence-transformers:NAME` or `https://HOST/v1#NAME`",
        min_length=1,
    )
    experiences: OptionalText = setting(
        "shipped", "real experiences imported at start: a .jsonl or .jsonl.xz, `shipped`, or none"
    )
    filter: FilterSection = Field(default_factory=FilterSection)


class TasksSection(Section):
    """What is to be done."""

    file: OptionalText = setting("shipped", "a task list (.jsonl or .jsonl.xz); none: made by the environment")
    environment: str = setting("textworld_express", "environment of the tasks")
    mix: Names = setting((), "variants with weights, as twc=2,coin=1; empty: all in the file, as they come")
    fold: Literal["train", "dev", "test", "any"] = setting("any", "only tasks of this fold")
    count: OptionalInt = setting(
        None, "most tasks to use; with more episodes than tasks each runs several times", unit="tasks", ge=1
    )


class ScriptedSection(Section):
    """`engine = scripted` for both roles: a small text world without any model, to try things out."""

    latency_s: float = setting(0.0, "time that a step takes on average", unit="s", ge=0)
    rooms: int = setting(4, "size of the world", unit="rooms", ge=2, le=8)
    policy: Literal["gold", "random"] = setting("gold", "who plays: the shortest way, or chance")


class DisplaySection(Section):
    """What is shown while it runs."""

    mode: Literal["auto", "rich", "plain", "off"] = setting("auto", "`auto` is `rich` on a terminal, else `plain`")
    interval_s: float = setting(10.0, "time between two lines of the plain display", unit="s", gt=0)


class Settings(Section):
    """All settings of `python -m dreamsim.run`."""

    run: RunSection = Field(default_factory=RunSection)
    policy: PolicySection = Field(default_factory=PolicySection)
    experience: ExperienceSection = Field(default_factory=ExperienceSection)
    vllm: VllmSection = Field(default_factory=VllmSection)
    store: StoreSection = Field(default_factory=StoreSection)
    tasks: TasksSection = Field(default_factory=TasksSection)
    display: DisplaySection = Field(default_factory=DisplaySection)
    scripted: ScriptedSection = Field(default_factory=ScriptedSection)
    train: TrainSection = Field(default_factory=TrainSection)
    curriculum: CurriculumSection = Field(default_factory=CurriculumSection)

    @property
    def episodes(self) -> int:
        """Episodes to run."""
        return self.run.episodes if self.run.episodes is not None else self.run.concurrency

    @property
    def one_engine(self) -> bool:
        """Whether one engine serves both roles."""
        policy, experience = self.policy, self.experience
        same = (policy.kind, policy.model, policy.url) == (experience.kind, experience.model, experience.url)
        return self.run.shared and same and policy.model != TINY and policy.vllm == experience.vllm

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.policy.kind == "scripted") != (self.experience.kind == "scripted"):
            raise ValueError(
                "policy.engine and experience.engine must both be scripted, or neither: "
                "a model cannot play in a world it has no words for"
            )
        if self.run.resume is not None and self.run.directory is not None:
            raise ValueError("run.resume names the directory already: remove run.directory")
        return self
