"""Tiny models with random weights, for tests on the real vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

VOCABULARY = 256
CONTEXT = 256


def random_llama(
    path: Path, *, seed: int = 0, vocabulary: int = VOCABULARY, context: int = CONTEXT, end: int = 1
) -> Path:
    """A Llama of two layers, in float32, so that it can be compared; saved at `path`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=128,
        vocab_size=vocabulary,
        max_position_embeddings=context,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=end,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def random_chat_qwen2(path: Path, *, seed: int = 0, context: int = 8192) -> Path:
    """A Qwen2 of two layers in float32 with random weights, and a byte tokenizer with ChatML's template."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=272,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=context,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=256,
        pad_token_id=256,
    )
    Qwen2ForCausalLM(config).save_pretrained(path)
    return byte_tokenizer(path, end="<|im_end|>", more=("<|im_start|>",), template=CHATML)


def byte_tokenizer(path: Path, *, end: str | None = None, more: Sequence[str] = (), template: str = "") -> Path:
    """A tokenizer.json at `path` with one token per byte, 0 to 255 in some order; `end` is token 256, if given, and
    the special tokens `more` come after it."""
    import json

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if end is not None:
        tokenizer.add_special_tokens([end, *more])
        settings["eos_token"] = end
    if template:
        settings["chat_template"] = template
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path
