"""What GRPO and PPO do the same way: forward passes over rows, one optimizer step, checkpoints, weights for engines.

In: rows of tokens and a loss. Out: what the network says, changed weights, files.
Always:
- the gradient of an update does not depend on how its rows are cut into micro-batches: losses are sums whose weights
  were fixed before;
- `save` then `load` in a new process goes on exactly: weights, optimizer, counters and random state; a directory is
  complete or not there, because it is renamed into place;
- weights for engines are cast on a copy; those that are trained stay as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dreamsim.errors import ConfigurationError
from dreamsim.records.sample import TokenSample
from dreamsim.records.weights import WeightsUpdate
from dreamsim.runtime.seeds import generator
from dreamsim_trainers.directories import complete, placed
from dreamsim_trainers.network import NetworkSettings, TokenOutputs, frozen_copy, policy_network
from dreamsim_trainers.rows import TokenRows, micro_batches, padded, rows_of_samples

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STATE = "state.pt"
FACTS = "trainer.json"
FREE = ("decay_from", "decay_updates", "micro_tokens")
"""Of `OptimiserSettings`: what a training that goes on may change: how long it is, and the memory it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserSettings:
    """How weights are changed."""

    learning_rate: float = 1e-6
    """Of AdamW (arXiv 1711.05101), after warm-up and before decay."""
    warmup_updates: int = 0
    """Optimizer steps of linear warm-up."""
    decay_from: int = 0
    """Optimizer steps after which the rate begins to fall, if `decay_updates` is not 0."""
    decay_updates: int = 0
    """Optimizer steps in which the rate falls linearly; the next one would be of rate 0, later ones are as the last."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    weight_decay: float = 0.0
    """AdamW's."""
    max_gradient_norm: float = 1.0
    """The gradient is scaled down to this L2 norm."""
    epochs: int = 1
    """Passes over a batch."""
    minibatches: int = 1
    """Optimizer steps of one pass; a batch is cut by episodes."""
    target_kl: float | None = None
    """A batch is learned from no further once the policy is this far from the one before it: mean KL over the tokens
    of an optimizer step, nats. None: all steps are taken."""
    micro_tokens: int = 16_384
    """Most tokens of one forward pass, padding included; bounds memory, changes nothing else."""
    mixed_precision: Literal["no", "bf16"] = "bf16"
    """`bf16` computes in bfloat16; what is trained is kept in float32 either way."""
    cpu: bool = False
    """Stay on the CPU where there is a GPU."""
    seed: int = 0
    """Names the order of minibatches."""

    def far_enough(self, kl: float) -> bool:
        """Whether a policy that is `kl` nats per token from the one before the batch is to go no further."""
        return self.target_kl is not None and kl > self.target_kl

    def rate(self, made: int) -> float:
        """Of the optimizer step after `made` others: peak * min(1, (made + 1) / warm) * min(1, (last - made) / decay).

        `last` is the step whose rate would be 0: decay_from + decay_updates, and `decay` is decay_updates + 1.
        """
        rate = self.learning_rate
        if self.warmup_updates:
            rate *= min(1.0, (made + 1) / self.warmup_updates)
        if self.decay_updates:
            left = max(1, self.decay_from + self.decay_updates - made)
            rate *= min(1.0, left / (self.decay_updates + 1))
        return rate

    def episodes_of_steps(self, episodes: int, *, version: int) -> list[list[int]]:
        """Which of a batch's `episodes` each optimizer step learns from, shuffled anew in each epoch by a seed that
        names the `version` of the weights."""
        cut: list[list[int]] = []
        for epoch in range(self.epochs):
            order = generator(self.seed, "minibatches", version, epoch).permutation(episodes)
            cut += [part.tolist() for part in np.array_split(order, self.minibatches) if len(part)]
        return cut


class Learner:
    """A network, its optimizer and its counters."""

    def __init__(
        self, model: PreTrainedModel, settings: OptimiserSettings, network: NetworkSettings, *, reference: bool
    ) -> None:
        """Take over `model`.

        Args:
            model: changed in place.
            settings: of the optimizer.
            network: what to make of the model.
            reference: whether the weights of now are kept to measure a divergence from.

        Raises:
            ConfigurationError: more than one process, or the model cannot be trained.
        """
        import torch
        from accelerate import Accelerator

        self.accelerator = Accelerator(mixed_precision=settings.mixed_precision, cpu=settings.cpu)
        if self.accelerator.num_processes > 1:
            raise ConfigurationError("one trainer runs in one process: start it without `accelerate launch`")
        self.settings = settings
        self.shape = network
        self._reference: Any = None
        if reference and network.lora is None:
            self._reference = policy_network(frozen_copy(model), NetworkSettings(temperature=network.temperature))
            self._reference.to(self.accelerator.device)
        made = policy_network(model, network)
        for parameter in made.parameters():
            if parameter.requires_grad:  # a small step on a bfloat16 weight would be rounded away
                parameter.data = parameter.data.float()
        self.parameters = {name: one for name, one in made.named_parameters() if one.requires_grad}
        optimizer = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.network, self.optimizer = self.accelerator.prepare(made, optimizer)
        self.network.train()
        self.updates = 0
        """Optimizer steps so far."""
        self.version = 0
        """Batches so far."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def learning_rate(self) -> float:
        """Of the next optimizer step."""
        return self.settings.rate(self.updates)

    def evaluate(self, rows: TokenRows, *, reference: bool = False) -> TokenOutputs:
        """What the network (or the reference) says of all tokens now, in their order; without gradients."""
        import torch

        made: dict[int, list[torch.Tensor | None]] = {}
        for piece in micro_batches(rows, range(len(rows.token_ids)), most_tokens=self.settings.micro_tokens):
            with torch.no_grad():
                said = self._forward(rows, piece, reference=reference)
            sizes = [int(rows.starts[row + 1] - rows.starts[row]) for row in piece]
            columns = [said.logprobs, said.entropy, said.values]
            split = [[None] * len(piece) if column is None else list(torch.split(column, sizes)) for column in columns]
            for place, row in enumerate(piece):
                made[row] = [column[place] for column in split]
        logprobs, entropy, values = (
            [column for row in range(len(rows.token_ids)) if (column := made[row][place]) is not None]
            for place in range(3)
        )
        return TokenOutputs(
            logprobs=torch.cat(logprobs), entropy=torch.cat(entropy), values=torch.cat(values) if values else None
        )

    def logprobs(self, samples: Sequence[TokenSample]) -> NDArray[np.float32]:
        """Log-probability of every token of the agent now, at the sampling temperature; shape [agent tokens]."""
        said: NDArray[np.float32] = self.evaluate(rows_of_samples(samples)).logprobs.float().cpu().numpy()
        return said

    def update(
        self,
        rows: TokenRows,
        chosen: Sequence[int],
        loss: Callable[[TokenOutputs, NDArray[Any]], torch.Tensor],
        *,
        entropy_gradient: bool = False,
    ) -> float:
        """One optimizer step on the rows `chosen`; returns the gradient's norm before it was clipped.

        Where that norm is not finite no step is taken: clipped by it, every weight would become NaN. Weights, optimizer
        and schedule stay as they are.

        Args:
            rows: the batch.
            chosen: rows of this minibatch.
            loss: from what the network says of some tokens and their indices, their weighted loss, summed.
            entropy_gradient: whether the loss needs the gradient of the entropy.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        for piece in micro_batches(rows, chosen, most_tokens=self.settings.micro_tokens):
            said = self._forward(rows, piece, entropy_gradient=entropy_gradient)
            self.accelerator.backward(loss(said, rows.of_rows(piece)))
        norm = self.accelerator.clip_grad_norm_(self.parameters.values(), self.settings.max_gradient_norm)
        if math.isfinite(norm):
            self.optimizer.step()
            self.updates += 1
        self.optimizer.zero_grad()
        return float(norm)

    def _forward(
        self, rows: TokenRows, piece: Sequence[int], *, reference: bool = False, entropy_gradient: bool = False
    ) -> TokenOutputs:
        ids, mask = padded(rows, piece, self.device)
        with self.accelerator.autocast():
            if not reference:
                said: TokenOutputs = self.network(ids, mask, entropy_gradient)
            elif self._reference is not None:
                said = self._reference(ids, mask)
            else:
                with self.accelerator.unwrap_model(self.network).model.disable_adapter():
                    said = self.network(ids, mask)
        return said

    def save(self, directory: Path, facts: dict[str, Any]) -> None:
        """Write everything that changes while training; `facts` must be the same when it is loaded."""
        import torch

        state = {
            "parameters": {name: one.detach().cpu() for name, one in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        counters = {"updates": self.updates, "version": self.version}
        with placed(directory) as work:
            torch.save(state, work / STATE)
            (work / FACTS).write_text(json.dumps({"facts": _plain(facts), "counters": counters}, indent=1) + "\n")

    def load(self, directory: Path, facts: dict[str, Any]) -> None:
        """Go on from what was saved; the schedule of the learning rate and what bounds memory may be others.

        Raises:
            ConfigurationError: there is nothing, or it was saved with other facts.
        """
        import torch

        directory = complete(directory)
        if not (directory / FACTS).is_file():
            raise ConfigurationError(f"there is no trainer's state in {directory}")
        told = json.loads((directory / FACTS).read_text())
        mine = _plain(facts)
        theirs = told["facts"]
        for side in (theirs, mine):
            side.get("settings", {}).pop("gradient_checkpointing", None)
            for name in FREE:
                side.get("settings", {}).get("optimiser", {}).pop(name, None)
        differing = sorted(name for name in {*theirs, *mine} if theirs.get(name) != mine.get(name))
        if differing:
            raise ConfigurationError(f"{directory} was saved with other settings: {', '.join(differing)}")
        state = torch.load(directory / STATE, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.updates, self.version = told["counters"]["updates"], told["counters"]["version"]

    def publish(self, directory: Path, tokenizer: PreTrainedTokenizerBase | None) -> WeightsUpdate:
        """Write the model (or adapter) in bfloat16, with its tokenizer, as transformers and vLLM load it."""
        model = self.accelerator.unwrap_model(self.network).model
        lora = self.shape.lora is not None
        state = model.state_dict()
        if lora:  # a cast copy of a large base model, of which nothing is written, may not fit into memory
            trained = {name for name, one in model.named_parameters() if one.requires_grad}
            state = {name: one for name, one in state.items() if name in trained}
        with placed(directory) as work:
            model.save_pretrained(str(work), state_dict=_cast(state))
            if not lora:  # save_pretrained tells the type of the trained weights, not of those it was given
                config = work / "config.json"
                told = json.loads(config.read_text())
                config.write_text(json.dumps({**told, "dtype": "bfloat16"}, indent=1) + "\n")
            if tokenizer is not None:
                tokenizer.save_pretrained(str(work))
        return WeightsUpdate(version=self.version, path=directory, kind="lora" if lora else "full")


def _cast(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A copy in bfloat16; what shared memory (tied embeddings) shares it again."""
    import torch

    made: dict[int, torch.Tensor] = {}
    cast = {}
    for name, tensor in state.items():
        cast[name] = made.setdefault(tensor.data_ptr(), tensor.detach().to("cpu", torch.bfloat16))
    return cast


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=asdict))
    return plain
