"""A tiny model that is given another environment's words keeps what it knew."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from dreamsim.errors import ConfigurationError
from dreamsim_trainers.causal_lm import TinyShape, TrainSettings
from dreamsim_trainers.experience_model import load_pretrained_tokenizer, model_and_tokenizer
from dreamsim_trainers.vocabulary import extend_vocabulary
from tests.trainers.played import several

TEXTS = [
    "<action> open sinkbasin 12\n<state>\nfork 12: in sinkbasin 12",
    "<action> clean fork 12 with sinkbasin 12\n<state>\n",
    "<state>",
]
SHAPE = TinyShape(hidden_size=16, layers=2, heads=2, intermediate_size=32, induction=False)


def test_frequent_words_that_were_spelled_become_one_token(tmp_path: Path) -> None:
    model, tokenizer = model_and_tokenizer(several(3), "tiny", SHAPE, TrainSettings(output=tmp_path, steps=1))
    assert extend_vocabulary(model, tokenizer, TEXTS, seed=0) == ("12", "sinkbasin")
    assert [len(tokenizer.encode(word)) for word in ("12", "sinkbasin")] == [1, 1]
    assert len(tokenizer.encode("sinkbasins")) > 1
    assert tokenizer.decode(tokenizer.encode(TEXTS[0])).split() == TEXTS[0].split()
    tokenizer.save_pretrained(str(tmp_path))
    assert load_pretrained_tokenizer(str(tmp_path)).encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


def test_what_was_known_is_read_and_foretold_as_before(tmp_path: Path) -> None:
    model, tokenizer = model_and_tokenizer(several(3), "tiny", SHAPE, TrainSettings(output=tmp_path, steps=1))
    known = copy.deepcopy(model)
    before = tokenizer.encode("<action> take the key\n", return_tensors="pt")
    extend_vocabulary(model, tokenizer, TEXTS, seed=0)
    assert torch.equal(tokenizer.encode("<action> take the key\n", return_tensors="pt"), before)
    size = known.get_input_embeddings().weight.shape[0]
    with torch.no_grad():
        assert torch.allclose(model(before).logits[..., :size], known(before).logits)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert len(tokenizer) % 16 == 0


def test_new_words_can_be_told_apart_and_hang_on_the_seed(tmp_path: Path) -> None:
    rows = []
    for seed in (0, 0, 1):
        model, tokenizer = model_and_tokenizer(several(3), "tiny", SHAPE, TrainSettings(output=tmp_path, steps=1))
        (tmp_path / "tokenizer.json").unlink()
        extend_vocabulary(model, tokenizer, TEXTS, seed=seed)
        ids = tokenizer.convert_tokens_to_ids(["12", "sinkbasin"])
        rows.append(model.get_input_embeddings().weight[ids].detach())
    assert torch.equal(rows[0], rows[1])
    assert not torch.allclose(rows[0], rows[2])
    assert not torch.allclose(rows[0][0], rows[0][1], atol=1e-3)


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    model, _ = model_and_tokenizer(several(3), "tiny", SHAPE, TrainSettings(output=tmp_path, steps=1))
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0, "?": 1}, unk_token="?")))
    with pytest.raises(ConfigurationError, match="new-words"):
        extend_vocabulary(model, other, TEXTS, seed=0)
