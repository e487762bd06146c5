"""A causal language model as an actor, with or without a critic.

In: a Hugging Face causal LM. Out: a module that gives the log-probability, entropy and value of chosen tokens.
Always:
- logits exist for chosen tokens only: the agent's are few among what it reads, and a vocabulary is large;
- V of a token is the value of what stands before it, read from the same hidden state that predicts it;
- dropout is off: what the trainer says of a token must be what the engine says of it;
- rows are padded on the right and need no attention mask, because a causal model never looks to the right.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dreamsim.errors import ConfigurationError
from dreamsim_trainers.causal_lm import LoraShape
from dreamsim_trainers.divergence import entropy, token_logprobs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOGIT_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Settings of models that change logits after the last layer, which is not imitated here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOutputs:
    """What the network says of the chosen tokens, row after row."""

    logprobs: torch.Tensor
    """Shape [tokens]: log pi at the sampling temperature."""
    entropy: torch.Tensor
    """Shape [tokens], nats."""
    values: torch.Tensor | None
    """Shape [tokens]: V of what stands before each token; None without a critic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """What is made of a model."""

    lora: LoraShape | None = None
    """Train an adapter only."""
    critic: bool = False
    """Whether there is a value head."""
    detach_critic: bool = False
    """Whether the value head's gradient stops at the head."""
    gradient_checkpointing: bool = False
    """Recompute activations: less memory, more time."""
    temperature: float = 1.0
    """The temperature that the engine samples with; its log-probabilities are taken after it."""


def policy_network(model: PreTrainedModel, settings: NetworkSettings) -> torch.nn.Module:
    """The actor (and critic) over `model`, called as `network(input_ids, chosen, want_entropy_gradient)`.

    Raises:
        ConfigurationError: the model changes its logits after the last layer.
    """
    import torch

    changed = [name for name in LOGIT_CHANGES if getattr(model.config, name, None) not in (None, 1, 1.0)]
    if changed:
        raise ConfigurationError(f"a model with {', '.join(changed)} cannot be trained here yet: take another one")
    _without_dropout(model)
    if settings.lora is not None:
        model = with_lora(model, settings.lora)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    width: int = model.config.hidden_size

    class PolicyNetwork(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model: Any = model
            self.value_head = torch.nn.Linear(width, 1) if settings.critic else None
            if self.value_head is not None:  # V = 0 to begin with: the first advantages are plain returns
                torch.nn.init.zeros_(self.value_head.weight)
                torch.nn.init.zeros_(self.value_head.bias)

        def forward(
            self, input_ids: torch.Tensor, chosen: torch.Tensor, entropy_gradient: bool = False
        ) -> TokenOutputs:
            hidden = self.model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
            before = hidden[:, :-1][chosen[:, 1:]]  # [tokens, width]: the place before a token predicts it
            logits = self.model.get_output_embeddings()(before).float() / settings.temperature
            with torch.set_grad_enabled(torch.is_grad_enabled() and entropy_gradient):
                undecided = entropy(logits)
            values = None
            if self.value_head is not None:
                seen = before.detach() if settings.detach_critic else before
                values = self.value_head(seen.to(self.value_head.weight.dtype)).squeeze(-1).float()
            return TokenOutputs(
                logprobs=token_logprobs(logits, input_ids[:, 1:][chosen[:, 1:]]), entropy=undecided, values=values
            )

    return PolicyNetwork()


def frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that does not learn: the reference of a full fine-tune (an adapter is just switched off instead)."""
    copied = copy.deepcopy(model)
    copied.requires_grad_(False)
    return copied


def with_lora(model: PreTrainedModel, lora: LoraShape) -> PreTrainedModel:
    """`model` with a fresh adapter, which changes nothing yet (B = 0)."""
    from peft import LoraConfig, get_peft_model

    shape = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.target_modules, task_type="CAUSAL_LM")
    return get_peft_model(model, shape)


def _without_dropout(model: PreTrainedModel) -> None:
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # a plain number on the module
