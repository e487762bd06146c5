"""Starts a tiny model with induction heads in place, instead of waiting for them to emerge.

In: a freshly made Qwen2 (a Llama with biases on queries and keys). Out: the same model, two of its layers changed.

An induction head (Olsson et al. 2022, arXiv 2209.11895) finds an earlier place where the present token stood and reads
what followed. It needs two layers that only pay together: one that tells every position which token stood before it,
and one that looks for the present token among those. Trained from scratch, small models take millions of tokens until
both are there. Both can be written down:

- Layer 0, head h (h = 0, 1) attends to the token D = h + 1 places back. Its keys and queries are biases alone. Rotary
  pair i of frequency t_i holds k = (a, 0) and q = (a cos D t_i, -a sin D t_i): the score at distance d is
  a^2 sum_i cos((d - D) t_i), greatest at d = D. Its value is a projection P of the token, written into the
  residual stream through directions Q_h; embeddings leave these directions free.
- Layer 1, head 0 matches the present token with the token before each place: q = P x, k = Q_0^T x. Head 1 matches two
  tokens, for names of two words: q = (P x, Q_0^T x), k = (Q_0^T x, Q_1^T x). Both use only the
  rotary pairs that hardly turn within a prompt, and copy what they attend to.

Always: everything stays trainable. All other blocks begin with zero output, so that the heads are not drowned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dreamsim.errors import ConfigurationError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PLACE_SHARPNESS = 7.0
"""Logits by which the wanted distance stands out from its neighbours."""
MATCH_SHARPNESS = 12.0
"""Logits by which the same token stands out from another one."""
STILL_TURNS = 0.25
"""Rotary pairs that turn less than this (radians) within `REACH` tokens carry content."""
REACH = 400
"""Tokens over which content is matched."""


def install_induction(model: PreTrainedModel, *, seed: int) -> None:
    """Write the heads described above into layers 0 and 1.

    Raises:
        ConfigurationError: the model has fewer than two layers or three heads, or shared key-value heads.
    """
    import torch

    config: Any = model.config
    if config.num_hidden_layers < 2 or config.num_attention_heads < 3:
        raise ConfigurationError("induction heads need two layers of three heads or more")
    if config.num_key_value_heads != config.num_attention_heads:
        raise ConfigurationError("induction heads need as many key-value heads as heads")
    width: int = config.hidden_size
    size: int = width // config.num_attention_heads
    generator = torch.Generator().manual_seed(seed)
    frequencies = 1.0 / (_rope_theta(config) ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
    still = [i for i, frequency in enumerate(frequencies.tolist()) if frequency * REACH < STILL_TURNS]
    content = torch.tensor(still + [i + size // 2 for i in still])
    basis, _ = torch.linalg.qr(torch.randn(width, 3 * size, generator=generator))
    read, *written = basis.T.reshape(3, size, width)  # P, Q_0^T, Q_1^T: orthonormal, so they do not disturb each other
    with torch.no_grad():
        layers: Any = model.model.layers
        embeddings = model.get_input_embeddings().weight
        for code in written:
            embeddings -= embeddings @ code.T @ code  # directions kept free for the codes
        embedding = float(embeddings.norm(dim=1).mean()) / math.sqrt(width)
        for layer in layers:  # nothing but the installed heads speaks at first
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for head in (0, 1):
            _look_back(layers[0].self_attn, head, head + 1, frequencies, size)
            rows = slice(head * size, (head + 1) * size)
            layers[0].self_attn.v_proj.weight[rows] = read * math.sqrt(width / size)
            layers[0].self_attn.v_proj.bias[rows] = 0
            layers[0].self_attn.o_proj.weight[:, rows] = written[head].T * embedding
        _match(layers[1].self_attn, content, read, written, size, generator)


def _rope_theta(config: Any) -> float:
    parameters = getattr(config, "rope_parameters", None) or {}
    return float(parameters.get("rope_theta", getattr(config, "rope_theta", 10_000.0)))


def _look_back(attention: Any, head: int, distance: int, frequencies: torch.Tensor, size: int) -> None:
    import torch

    rows = slice(head * size, (head + 1) * size)
    turning = frequencies > 0.05
    apart = float((1 - torch.cos(frequencies[turning])).sum()) / math.sqrt(size)
    strength = math.sqrt(PLACE_SHARPNESS / apart)
    key, query = torch.zeros(size), torch.zeros(size)
    half = size // 2
    key[:half][turning] = strength
    query[:half][turning] = strength * torch.cos(distance * frequencies[turning])
    query[half:][turning] = -strength * torch.sin(distance * frequencies[turning])
    for projection, bias in ((attention.k_proj, key), (attention.q_proj, query)):
        projection.weight[rows] = 0
        projection.bias[rows] = bias


def _match(
    attention: Any,
    content: torch.Tensor,
    read: torch.Tensor,
    written: Sequence[torch.Tensor],
    size: int,
    generator: torch.Generator,
) -> None:
    import torch

    width = read.shape[1]
    # the stream holds the token and two codes, each with a third of the power; a read of one has variance 1/3 a row
    strength = math.sqrt(3 * MATCH_SHARPNESS * math.sqrt(size) / len(content))
    split = len(content) // 2
    for head in (0, 1):
        rows = slice(head * size, (head + 1) * size)
        query, key = torch.zeros(size, width), torch.zeros(size, width)
        if head == 0:
            query[content] = strength * read[content]
            key[content] = strength * written[0][content]
        else:
            first, second = content[:split], content[split : 2 * split]
            query[first] = strength * read[first]
            key[first] = strength * written[0][first]
            query[second] = strength * written[0][first]
            key[second] = strength * written[1][first]
        attention.q_proj.weight[rows] = query
        attention.k_proj.weight[rows] = key
        attention.q_proj.bias[rows] = 0
        attention.k_proj.bias[rows] = 0
        copied, _ = torch.linalg.qr(torch.randn(width, size, generator=generator))
        attention.v_proj.weight[rows] = copied.T
        attention.v_proj.bias[rows] = 0
        attention.o_proj.weight[:, rows] = copied * 0.5
