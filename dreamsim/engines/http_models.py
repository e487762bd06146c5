"""What a server says about the model it is to be asked for.

In: a client of the server, a model's name. Out: the model's card from the server's list. Always: asked for once, when
the server is opened, and within a stated time; what is wrong is a `ConfigurationError` that says what to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from dreamsim.engines.http_client import JsonClient, StatusError
from dreamsim.errors import ConfigurationError, EngineError


class RefusedKeyError(ConfigurationError):
    """The server does not take the key, or wants one."""


class UnknownModelError(ConfigurationError):
    """The server does not have the model; the message says which it has."""


async def model_card(
    client: JsonClient, *, url: str, model: str, key_variable: str, tries: int, within_s: float
) -> Mapping[str, Any]:
    """What the server says about the model; nothing where it keeps no list.

    Args:
        client: asks it.
        url: the server's, for messages.
        model: what it has to have.
        key_variable: where the key comes from, for messages.
        tries: most tries.
        within_s: most time for all of them and the waits between them, seconds.

    Raises:
        RefusedKeyError: it answered 401 or 403.
        UnknownModelError: its list does not have the model.
        ConfigurationError: it cannot be reached, hangs, or refuses for another reason.
    """
    try:
        with anyio.fail_after(within_s):
            answer = await client.call("models", request_id="models", tries=tries)
    except TimeoutError:
        raise ConfigurationError(
            f"{url} did not say within {within_s:g} s what models it has: it hangs, or is not ready yet; "
            f"look at its log, and try curl {url.rstrip('/')}/models"
        ) from None
    except StatusError as error:
        if error.status in (404, 405):
            return {}
        if error.status in (401, 403):
            raise RefusedKeyError(f"{url}: {error} (the key is read from {key_variable})") from error
        raise ConfigurationError(f"{url}: {error}") from error
    except EngineError as error:
        raise ConfigurationError(f"{url} cannot be reached: {error}") from error
    cards = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(cards, list):
        return {}
    by_name = {card["id"]: card for card in cards if isinstance(card, dict) and isinstance(card.get("id"), str)}
    if by_name and model not in by_name:
        known = ", ".join(name[:100] for name in sorted(by_name)[:8])
        raise UnknownModelError(f"{url} has no model '{model}'; it has {known}")
    return by_name.get(model, {})
