"""`dreamsim train-experience-model`: train a model to dream an environment.

In: JSONL files of real episodes with reasoning. Out: a checkpoint directory that `--experience.model` takes.
Always: bad lines and held-out episodes are refused before training begins; the same command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreamsim.cli.arguments import Parser
from dreamsim.cli.tasks import read_tasks
from dreamsim.errors import MissingExtraError, UsageError
from dreamsim.experience.prompt import PromptLayout
from dreamsim.records.episode import Episode
from dreamsim.store.encoders import encoder_from_name
from dreamsim.store.jsonl import read_jsonl

if TYPE_CHECKING:
    from dreamsim_trainers.causal_lm import TrainSettings

EPILOG = """examples:
  a tiny model from scratch, on a CPU:
    dreamsim train-experience-model real.jsonl.xz --output models/tiny --steps 4000 --retrieve episode
        --demonstrations 2 --no-example-state --rename-share 0.35 --rename-keep coin,knife,meal,cookbook
  a LoRA fine-tune of a large model, on a GPU:
    dreamsim train-experience-model real.jsonl.xz --output models/8b --model meta-llama/Llama-3.1-8B-Instruct
        --lora-rank 16 --steps 1000 --batch-size 1 --accumulation 16 --learning-rate 1e-4 --gradient-checkpointing
"""


def main(arguments: Sequence[str]) -> int:
    """Train; returns the exit code."""
    parser = Parser(
        prog="dreamsim train-experience-model",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_training_arguments(parser)
    parser.add_argument(
        "--pool", type=Path, nargs="*", help="episodes that demonstrations come from (default: the same)"
    )
    parser.add_argument("--encoder", default="lexical", help="what retrieval compares with, as --store.encoder")
    parser.add_argument("--retrieve", choices=("episode", "step", "off"), default="step", help="when to retrieve")
    parser.add_argument("--demonstrations", type=int, default=4, help="experiences shown (default 4)")
    parser.add_argument(
        "--example-state", action=argparse.BooleanOptionalAction, default=True, help="show the states of examples"
    )
    parser.add_argument(
        "--reasoning", action=argparse.BooleanOptionalAction, default=True, help="learn to reason first"
    )
    parser.add_argument("--step-share", type=float, default=0.0, help="episodes also learned with retrieval per step")
    parser.add_argument(
        "--rename-share", type=float, default=0.0, help="episodes whose things are renamed (tiny models)"
    )
    parser.add_argument(
        "--renumber-share", type=float, default=0.0, help="episodes in which numbers of names (`mug 2`) are shuffled"
    )
    parser.add_argument("--variants", type=int, default=1, help="how often each episode is laid out (default 1)")
    parser.add_argument(
        "--new-words", action="store_true", help="words that a tiny model's tokenizer would spell become tokens of it"
    )
    parser.add_argument("--drills", type=int, default=0, help="made-up episodes of looking things up (tiny models)")
    parser.add_argument(
        "--task-writing",
        type=task_writing,
        default=0.0,
        metavar="SHARE|COUNT",
        help="samples of writing tasks learned besides: their share of all samples (0.1), or their number (1000)",
    )
    parser.add_argument(
        "--tasks", type=Path, nargs="*", default=[], help="lists of real tasks to learn task writing from, besides"
    )
    parser.add_argument("--rename-keep", default="", help="names never renamed, separated by commas")
    parser.add_argument("--rename-knowledge", default="", help="a word of reasoning that hangs on what names mean")
    parser.add_argument("--answer-tokens", type=int, default=256, help="most tokens of an answer when asked")
    given = parser.parse_args(list(arguments))
    layout = PromptLayout(
        retrieve="off" if given.demonstrations < 1 else given.retrieve,
        demonstrations=given.demonstrations,
        example_state=given.example_state,
        reasoning=given.reasoning,
    )
    episodes = episodes_of(given.data)
    pool = episodes_of(given.pool) if given.pool else episodes
    with training_packages():
        from dreamsim_trainers.experience_model import ExperienceTraining, train_experience_model

        wanted = ExperienceTraining(
            model=given.model,
            layout=layout,
            step_share=given.step_share,
            drills=given.drills,
            task_writing=given.task_writing,
            tasks=tuple(task for path in given.tasks for task in read_tasks(path)),
            new_words=given.new_words,
            variants=given.variants,
            renumber_share=given.renumber_share,
            rename_share=given.rename_share,
            rename_keep=tuple(filter(None, given.rename_keep.split(","))),
            rename_knowledge=given.rename_knowledge,
            max_tokens=given.max_tokens,
            answer_tokens=given.answer_tokens,
            train=train_settings(given, "train-experience-model", arguments),
        )
        wanted_pool = pool if layout.retrieve != "off" else []
        output = train_experience_model(episodes, wanted_pool, encoder_from_name(given.encoder), wanted)
    print(f"experience model written to {output}: {run_command('experience', given)}")
    return 0


def task_writing(text: str) -> float:
    """A share below 1, or a whole number of samples.

    Raises:
        ValueError: it is neither.
    """
    number = float(text)
    if not 0 <= number < float("inf") or (number >= 1 and number != int(number)):
        raise ValueError(f"{text} is neither a share below 1 nor a number of samples")
    return number


def run_command(role: str, given: argparse.Namespace) -> str:
    """The command that uses what was trained: a model, or an adapter on top of one."""
    if not given.lora_rank:
        return f"python -m dreamsim.run --{role}.model {given.output}"
    return f"python -m dreamsim.run --{role}.model {given.model} --{role}.adapter {given.output}"


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """What both training verbs take."""
    parser.add_argument("data", type=Path, nargs="+", help="episodes: .jsonl, .jsonl.gz or .jsonl.xz")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint directory to write, or to resume in")
    parser.add_argument("--model", default="tiny", help="`tiny`: from scratch; else a model to fine-tune")
    parser.add_argument("--steps", type=int, default=1000, help="optimizer steps (default 1000)")
    parser.add_argument("--batch-size", type=int, default=8, help="samples a step (default 8)")
    parser.add_argument("--accumulation", type=int, default=1, help="gradient accumulation (default 1)")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="peak (default 1.5e-3, for tiny models)")
    parser.add_argument("--warmup-steps", type=int, default=100, help="steps of linear warm-up (default 100)")
    parser.add_argument("--max-tokens", type=int, default=1024, help="longest sample (default 1024)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order (default 0)")
    parser.add_argument("--save-steps", type=int, default=500, help="a checkpoint every so many steps (default 500)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the forward pass: faster, slow to start")
    parser.add_argument("--lora-rank", type=int, default=0, help="train a LoRA of this rank (default 0: all weights)")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")


def train_settings(given: argparse.Namespace, verb: str, arguments: Sequence[str]) -> TrainSettings:
    """The shared settings of a training."""
    from dreamsim_trainers.causal_lm import LoraShape, TrainSettings

    return TrainSettings(
        output=given.output,
        steps=given.steps,
        batch_size=given.batch_size,
        accumulation=given.accumulation,
        learning_rate=given.learning_rate,
        warmup_steps=given.warmup_steps,
        seed=given.seed,
        save_steps=given.save_steps,
        threads=given.threads,
        compile=given.compile,
        lora=LoraShape(rank=given.lora_rank, alpha=2 * given.lora_rank) if given.lora_rank else None,
        gradient_checkpointing=given.gradient_checkpointing,
        provenance={"command": shlex.join(["dreamsim", verb, *arguments])},
    )


def episodes_of(paths: Sequence[Path]) -> list[Episode]:
    """All episodes of some files.

    Raises:
        UsageError: a file is missing or a line is bad; the message names it.
    """
    for path in paths:
        if not path.is_file():
            raise UsageError(f"no file at {path}")
    return [episode for path in paths for episode in read_jsonl(path)]


class training_packages:  # noqa: N801 - used as a context manager
    """Tells which extra to install when a training package is missing."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Name the extra."""
        if isinstance(error, ModuleNotFoundError):
            raise MissingExtraError(str(error.name), extra="train", purpose="training") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
