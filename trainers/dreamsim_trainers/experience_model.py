"""Trains an experience model on real episodes (Eq. 5 of arXiv 2511.03773).

Loss: `-log P(R*|s,a,H,D_k,task) - log P(s',r,done|s,a,R*,H,D_k,task)`, on the whole answer at once; prompt masked.

Deviations from the paper:
1. A tiny model is trained from scratch with its own word tokenizer and induction heads in place (`induction`), and
   may see things renamed (`renaming`).
2. It may learn to look things up from drills in an invented world first (`drills`).
3. It may learn in the same training to write tasks (`task_writing_data`), as Eq. 6 asks of the same parameters.
4. A tiny model trained for one environment may go on with another one's words (`vocabulary`), and may see every
   episode several times, names and numbers changed anew.
5. Demonstrations may be retrieved once per episode: one sample then holds a whole episode, and at inference the whole
   prompt stays in the prefix cache.

In: episodes with reasoning. Out: a checkpoint directory with weights, tokenizer, `provenance.json` and
`dreamsim.json`, which tells the run command how the model wants to be prompted.
Always: demonstrations come from other tasks; episodes of held-out folds are refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamsim.curriculum.lexicon import WORDS
from dreamsim.engines.tokenizers import load_tokenizer
from dreamsim.errors import ConfigurationError
from dreamsim.experience.format import header, transition_answer
from dreamsim.experience.prompt import PromptLayout
from dreamsim.protocols import Encoder, Tokenizer
from dreamsim.records.episode import Episode
from dreamsim.records.state import GONE, SCENE
from dreamsim.records.task import Task
from dreamsim.records.text import END
from dreamsim.runtime.seeds import seed_of
from dreamsim_trainers.causal_lm import TinyShape, TrainSettings, load_for_training, tiny_model, train
from dreamsim_trainers.drills import drill_episodes
from dreamsim_trainers.experience_data import (
    DemonstrationPool,
    LossOn,
    Renaming,
    Sample,
    experiences_of,
    names_of,
    samples,
)
from dreamsim_trainers.renaming import carried_names, kind_of
from dreamsim_trainers.task_writing_data import TaskWriting, task_writing_samples
from dreamsim_trainers.tokenizer import NEWLINE, PAD, UNKNOWN, train_tokenizer
from dreamsim_trainers.vocabulary import extend_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROMPTING_FILE = "dreamsim.json"
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperienceTraining:
    """What to train, and on what."""

    model: str = "tiny"
    """`tiny` for a model from scratch, else a Hugging Face model to fine-tune (directory or hub name)."""
    shape: TinyShape = field(default_factory=TinyShape)
    """Shape of a tiny model."""
    new_words: bool = False
    """Whether words of the data that a tiny model's tokenizer would spell become tokens of it."""
    layout: PromptLayout = field(default_factory=PromptLayout)
    """What prompts hold."""
    step_share: float = 0.0
    """Besides whole episodes, share of episodes also shown step by step with demonstrations retrieved per step."""
    loss_on: LossOn = "answers"
    """Where loss falls."""
    drills: int = 0
    """Drills (`dreamsim_trainers.drills`) learned besides; for tiny models."""
    task_writing: float = 0.0
    """Samples of task writing learned besides: below 1 their share of all samples, else their number."""
    tasks: tuple[Task, ...] = ()
    """Real tasks that task writing is learned from, besides those of the episodes."""
    variants: int = 1
    """How often each episode is laid out; its names and numbers changed anew each time."""
    renumber_share: float = 0.0
    """Share of these in which the numbers of names such as `mug 2` are shuffled within their kind."""
    rename_share: float = 0.0
    """Share of these whose things are renamed; for tiny models."""
    rename_keep: tuple[str, ...] = ()
    """Names that keep their meaning and so are never renamed."""
    rename_knowledge: str = ""
    """Steps whose reasoning holds this word are not learned from renamed episodes."""
    max_tokens: int = 1024
    """Longest sample."""
    answer_tokens: int = 256
    """Most tokens of an answer, when the model is asked."""
    folds: tuple[str, ...] = ("train",)
    """Folds that may be learned from."""
    train: TrainSettings
    """How to train."""


def train_experience_model(
    episodes: Sequence[Episode], pool: Sequence[Episode], encoder: Encoder, wanted: ExperienceTraining
) -> Path:
    """Train on `episodes`, with demonstrations from `pool`; returns the checkpoint directory.

    Raises:
        ConfigurationError: nothing to train on, or an episode of a held-out fold among the data.
    """
    _check(episodes, pool, wanted)
    model, pretrained = model_and_tokenizer(episodes, wanted.model, wanted.shape, wanted.train)
    if wanted.new_words:
        extend_vocabulary(model, pretrained, _texts(episodes), seed=wanted.train.seed)
        pretrained.save_pretrained(str(wanted.train.output))
    tokenizer = load_tokenizer(str(wanted.train.output))
    made = list(training_samples(episodes, DemonstrationPool(pool, encoder) if pool else None, tokenizer, wanted))
    provenance = {
        **wanted.train.provenance,
        "kind": "experience",
        "from": wanted.model,
        "episodes": len(episodes),
        "real_steps": sum(len(episode.transitions) for episode in episodes),
        "tokens": int(sum(len(sample.input_ids) for sample in made)),
    }
    output = train(model, pretrained, made, replace(wanted.train, provenance=provenance))
    # What it dreams is one generation further from reality than the furthest of what it has seen.
    generation = max(episode.generation for episode in (*episodes, *pool))
    told = prompting_of(wanted.layout, max_tokens=wanted.answer_tokens)
    if wanted.task_writing:
        told["tasks_shown"] = 1 + TaskWriting().others
    write_prompting(output, told | {"generation": generation})
    return output


def prompting_of(layout: PromptLayout, *, max_tokens: int) -> dict[str, Any]:
    """What `dreamsim.json` says of an experience model: the settings it was trained with."""
    return {
        "layout": "plain",
        "retrieve": layout.retrieve,
        "demonstrations": layout.demonstrations,
        "example_state": layout.example_state,
        "history": layout.history,
        "reasoning": layout.reasoning,
        "max_tokens": max_tokens,
    }


def write_prompting(directory: Path, prompting: dict[str, Any]) -> None:
    """Write `dreamsim.json` into a checkpoint directory."""
    (directory / PROMPTING_FILE).write_text(json.dumps(prompting, indent=1) + "\n")


def build_tokenizer(episodes: Sequence[Episode], directory: Path) -> PreTrainedTokenizerBase:
    """A word tokenizer over `episodes` in `directory`, with one token for each name that stays where it is.

    Names of things that are carried are left in words: unseen things are made of the same words.
    """
    from transformers import PreTrainedTokenizerFast

    carried = carried_names(episodes)
    fixed = [name for name in names_of(episodes) if name not in carried]
    texts = [*[" ".join(WORDS)] * 3, *_texts(episodes)]
    directory.mkdir(parents=True, exist_ok=True)
    trained = train_tokenizer(texts, fixed, frequent_values(episodes))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=trained, pad_token=PAD, unk_token=UNKNOWN, eos_token=END)
    wrapped.save_pretrained(str(directory))
    return wrapped


def _texts(episodes: Sequence[Episode]) -> Iterator[str]:
    """What a model reads and writes of the first 8,000 episodes."""
    for episode in episodes[:8000]:
        yield header(episode.task)
        for transition, experience in zip(episode.transitions, experiences_of(episode), strict=True):
            yield transition.action
            yield transition_answer(transition, experience.changes)


def frequent_values(episodes: Sequence[Episode], *, at_most: int = 12) -> list[str]:
    """First words of the values that element lines have most often, such as `here`, `closed`, `in`, `held`."""
    counts: Counter[str] = Counter()
    for episode in episodes[:4000]:
        for state in (episode.task.first_state, *(transition.state for transition in episode.transitions)):
            counts.update(value.split()[0] for key, value in state.elements.items() if value and key != SCENE)
    return [*(value for value, _ in counts.most_common(at_most)), GONE, "none"]


def load_pretrained_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; ours (a word tokenizer, in any model's directory) exactly as it was saved.

    transformers chooses a tokenizer class by the model's architecture, and would put the rules of that architecture's
    own tokenizer in the place of ours.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    file = Path(model) / TOKENIZER_FILE
    if file.is_file() and f'"{NEWLINE}"' in file.read_text(encoding="utf-8"):
        return PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token=PAD, unk_token=UNKNOWN, eos_token=END)
    return AutoTokenizer.from_pretrained(model, trust_remote_code=False)


def check_folds(episodes: Sequence[Episode], folds: tuple[str, ...]) -> None:
    """Refuse to learn from held-out tasks.

    Raises:
        ConfigurationError: names the first episode that must not be learned from.
    """
    for episode in episodes:
        if episode.task.fold not in folds or episode.purpose == "evaluation":
            raise ConfigurationError(
                f"episode {episode.id} is of fold {episode.task.fold!r} and for {episode.purpose}: only folds "
                f"{', '.join(folds)} and no evaluation episodes may be learned from"
            )


def model_and_tokenizer(
    episodes: Sequence[Episode],
    model: str,
    shape: TinyShape,
    settings: TrainSettings,
    *,
    tokenizer: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A tiny model from scratch (`model="tiny"`), or one to go on from; its tokenizer is saved to the output.

    Args:
        episodes: what a new word tokenizer is made from.
        tokenizer: directory of a tokenizer that a tiny model is to use instead.
    """
    output = settings.output
    if model != "tiny":
        pretrained = load_pretrained_tokenizer(model)
        if pretrained.pad_token is None:
            pretrained.pad_token = pretrained.eos_token
        pretrained.save_pretrained(str(output))
        return load_for_training(model), pretrained
    known = str(output) if (output / TOKENIZER_FILE).is_file() else tokenizer  # resuming: ids must not change
    if known is None:
        pretrained = build_tokenizer(episodes, output)
    else:
        pretrained = load_pretrained_tokenizer(known)
        pretrained.save_pretrained(str(output))
    tiny = tiny_model(
        len(pretrained),
        shape,
        pad_token_id=int(pretrained.convert_tokens_to_ids(PAD)),
        end_token_id=int(pretrained.convert_tokens_to_ids(END)),
        seed=settings.seed,
    )
    return tiny, pretrained


def _check(episodes: Sequence[Episode], pool: Sequence[Episode], wanted: ExperienceTraining) -> None:
    if wanted.variants < 1 or not 0 <= wanted.rename_share <= 1 or not 0 <= wanted.renumber_share <= 1:
        raise ConfigurationError("variants must be at least 1, rename_share and renumber_share from 0 to 1")
    if not episodes:
        raise ConfigurationError("there are no episodes to train on")
    check_folds([*episodes, *pool], wanted.folds)
    if any(task.fold not in wanted.folds for task in wanted.tasks):
        raise ConfigurationError(f"task writing may be learned from tasks of fold {', '.join(wanted.folds)} alone")
    if wanted.layout.reasoning and not any(t.reasoning for episode in episodes for t in episode.transitions):
        raise ConfigurationError("no step has reasoning: run `dreamsim annotate` first, or switch reasoning off")


def training_samples(
    episodes: Sequence[Episode], pool: DemonstrationPool | None, tokenizer: Tokenizer, wanted: ExperienceTraining
) -> list[Sample]:
    """Everything that `wanted` is to be trained on: every variant of every episode, steps, drills, task writing."""
    made = [
        sample
        for variant in range(wanted.variants)
        for sample in samples(
            episodes,
            tokenizer,
            wanted.layout,
            pool,
            loss_on=wanted.loss_on,
            max_tokens=wanted.max_tokens,
            renaming=_renaming(episodes, wanted, variant),
        )
    ]
    if wanted.step_share and wanted.layout.retrieve == "episode":
        generator = np.random.default_rng(wanted.train.seed)
        chosen = [episode for episode in episodes if generator.random() < wanted.step_share]
        by_step = list(
            samples(chosen, tokenizer, replace(wanted.layout, retrieve="step"), pool, max_tokens=wanted.max_tokens)
        )
        # one step of each chosen episode: a sample of a step costs as many tokens as a sample of an episode
        made += by_step[:: max(1, len(by_step) // max(1, len(chosen)))]
    if wanted.drills:
        drilled = list(drill_episodes(wanted.drills, seed=wanted.train.seed))
        made += samples(drilled, tokenizer, replace(wanted.layout, retrieve="off"), None, max_tokens=wanted.max_tokens)
    if wanted.task_writing:
        share = wanted.task_writing
        count = round(share) if share >= 1 else round(len(made) * share / (1 - share))
        settings = TaskWriting(max_tokens=wanted.max_tokens, seed=wanted.train.seed)
        tasks = [*(episode.task for episode in episodes), *wanted.tasks]
        made += task_writing_samples(tasks, tokenizer, count, settings)
    return made


def _renaming(episodes: Sequence[Episode], wanted: ExperienceTraining, variant: int) -> Renaming | None:
    if not wanted.rename_share and not wanted.renumber_share:
        return None
    # a name inside the name of a thing that stays ("basket" in "laundry basket") would take that name apart
    carried = carried_names(episodes, keep=wanted.rename_keep)
    fixed = " ".join(name for name in names_of(episodes) if name not in carried)
    seed = wanted.train.seed
    return Renaming(
        share=wanted.rename_share,
        names=frozenset(kind_of(name) for name in carried if kind_of(name) not in fixed),
        knowledge=wanted.rename_knowledge,
        renumber=wanted.renumber_share,
        seed=seed_of(seed, "variant", variant) if variant else seed,
    )
