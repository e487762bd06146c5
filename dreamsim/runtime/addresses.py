"""Addresses of servers and the keys for them: what may be written into settings, and what is shown of it.

In: text from flags, files and the environment. Out: the same text, or a refusal that does not repeat it. Always: a key
stands in an environment variable and nowhere else, because settings are written to a run's directory, shown by
`--dry-run` and kept as provenance.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from dreamsim.errors import ConfigurationError

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,127}\Z")
"""Names of environment variables as they are written; hardly any key looks so."""
_SECRET_NAME: Final = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_|$)", re.IGNORECASE)
_SECRETS: Final = re.compile(r"(?<=//)[^/@\s]*@|[?][^#\s]*")


def checked_address(url: str) -> str:
    """`url`, if it names a server and no secret.

    Raises:
        ValueError: it does not; the message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("not the address of a server") from None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise ValueError("not the address of a server: write it as http://host:8000/v1")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError("holds a name or password, which would be stored: put the key into an environment variable")
    if parts.query:
        raise ValueError("has a part after '?', which may hold a key and would be stored: leave it out")
    return url


def checked_variable(name: str) -> str:
    """`name`, if it can be that of an environment variable.

    Raises:
        ValueError: it cannot; the message does not repeat it, for it may be the key itself.
    """
    if not VARIABLE.match(name):
        raise ValueError("must be the NAME of an environment variable, in capitals, and not the key itself")
    return name


def check_server(url: str, api_key_variable: str) -> None:
    """Raises: ConfigurationError: one of them is not what it must be, and may hold a secret."""
    try:
        checked_address(url)
    except ValueError as problem:
        raise ConfigurationError(f"the server's url: {problem}") from None
    try:
        checked_variable(api_key_variable)
    except ValueError as problem:
        raise ConfigurationError(f"api_key_variable: {problem}") from None


def without_secrets(text: str) -> str:
    """`text` as messages show it: what may be a password or key in an address is taken out."""
    return _SECRETS.sub("***", text)


def without_keys(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for a process that plays somebody else's game: no keys, tokens and passwords."""
    return {name: value for name, value in variables.items() if not _SECRET_NAME.search(name)}


def is_near(url: str) -> bool:
    """Whether the server is this machine."""
    return urlsplit(url).hostname in LOOPBACK


def key_of(variable: str) -> SecretStr | None:
    """The key that an environment variable holds; None where it is not set.

    Raises:
        ConfigurationError: it is no key: no header could carry it.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError(f"environment variable {variable}: what it holds cannot be a key")
    return SecretStr(key)
