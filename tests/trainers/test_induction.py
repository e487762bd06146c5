"""Induction heads that are written down rather than waited for."""

import pytest

from dreamsim.errors import ConfigurationError

torch = pytest.importorskip("torch")


def test_heads_find_what_followed_the_same_token_before() -> None:
    from dreamsim_trainers.causal_lm import TinyShape, tiny_model

    model = tiny_model(500, TinyShape(), pad_token_id=0, end_token_id=1, seed=3)
    model.set_attn_implementation("eager")
    ids = torch.randint(2, 500, (1, 120), generator=torch.Generator().manual_seed(0))
    ids[0, 100] = ids[0, 20]  # seen at 20: what followed stands at 21
    with torch.no_grad():
        attention = model(input_ids=ids, output_attentions=True).attentions
    assert attention[0][0, 0, 50, 49] > 0.95  # one back
    assert attention[0][0, 1, 50, 48] > 0.95  # two back
    assert attention[1][0, 0, 100, 21] > 0.9


def test_a_model_without_room_for_them_is_refused() -> None:
    from dreamsim_trainers.causal_lm import TinyShape, tiny_model

    with pytest.raises(ConfigurationError, match="two layers"):
        tiny_model(50, TinyShape(layers=1), pad_token_id=0, end_token_id=1, seed=0)
