"""What a server says about the model that it is to be asked for.

In: a client, the model's name. Out: its card: version, owner, longest context, as far as the server tells.
Always: a server that keeps no list of models is believed; one that does not answer in time, refuses, or has other
models is an error that says what to change, before any episode begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import anyio

from dreamsim.engines.http_client import JsonClient, StatusError
from dreamsim.errors import ConfigurationError, EngineError

TRIES: Final = 3
"""Most tries: who starts a run is waiting."""


async def model_card(
    client: JsonClient, model: str, *, shown: str, key_variable: str, patience_s: float
) -> Mapping[str, Any]:
    """What the server says about `model`; nothing where it keeps no list.

    Args:
        client: to ask with.
        model: name that requests will ask for.
        shown: the server's address, for messages.
        key_variable: where the key is read from, for messages.
        patience_s: most seconds to wait, all tries together.

    Raises:
        ConfigurationError: no answer, a refusal, or no such model.
    """
    try:
        with anyio.fail_after(patience_s):
            answer = await client.call("models", request_id="models", tries=TRIES)
    except TimeoutError:
        raise ConfigurationError(
            f"{shown} did not say within {patience_s:g} s which models it has: it is still starting, or no server of "
            "the OpenAI protocol"
        ) from None
    except StatusError as error:
        if error.status in (404, 405):
            return {}
        hint = f" (the key is read from {key_variable})" if error.status in (401, 403) else ""
        raise ConfigurationError(f"{shown}: {error}{hint}") from error
    except EngineError as error:
        raise ConfigurationError(f"{shown} cannot be reached: {error}") from error
    cards = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(cards, list):
        return {}
    by_name = {card["id"]: card for card in cards if isinstance(card, dict) and isinstance(card.get("id"), str)}
    if by_name and model not in by_name:
        known = ", ".join(name[:100] for name in sorted(by_name)[:8])
        raise ConfigurationError(f"{shown} has no model '{model}'; it has {known}")
    return by_name.get(model, {})
