"""JSON to and from an HTTP server that may be busy, restarting or far away.

In: a path and a body. Out: the answer's JSON, or a typed error.
Always:
- Tries are bounded; the waits between them grow, are spread by a named seed, and obey `Retry-After`.
- These waits, and the one for a free connection, are not the episode's own time (`runtime.own_time`).
- Cancelling a call closes its connection, which is how a server learns that nobody waits.
- The key comes from the environment, goes into one header, and into no message.
- Certificates are verified, redirections are not followed, and an answer has at most `limits.ANSWER_BYTES` bytes.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import anyio
import structlog
from anyio import to_thread
from pydantic import SecretStr

from dreamsim.errors import EngineError
from dreamsim.records import limits
from dreamsim.records.strict_json import parse_json
from dreamsim.runtime.addresses import is_near, key_of
from dreamsim.runtime.guard import guarded
from dreamsim.runtime.own_time import not_counted
from dreamsim.runtime.seeds import generator

AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that another try can turn into an answer."""
NEVER: Final = frozenset({401, 403, 404, 405})
"""Statuses that every later request will get too."""
SHOWN: Final = 300
PARSED_HERE: Final = 2**17
"""Bytes of JSON parsed on the event loop, in a millisecond; longer answers are parsed by a thread."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and how patiently to try."""

    tries: int = 6
    """Most tries of one request."""
    first_wait_s: float = 0.5
    """Wait after the first failure, before spreading; doubles each time."""
    longest_wait_s: float = 30.0
    """Longest of these waits."""
    longest_asked_s: float = 120.0
    """Longest `Retry-After` to obey; a server that asks for more has failed."""
    seed: int = 0
    """Root of the seeds that spread the waits."""

    def wait_s(self, request_id: str, failures: int) -> float:
        """Wait after the `failures`-th failure of a request: between half and all of the stated time."""
        longest = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (failures - 1))
        return longest * (0.5 + 0.5 * float(generator(self.seed, "retry", request_id, failures).random()))


class StatusError(EngineError):
    """The server refused: `status` and the beginning of what it said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"the server answered {status}: {said}", recoverable=status not in NEVER)
        self.status = status
        self.said = said


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    error: EngineError
    asked_s: float | None = None


class JsonClient:
    """Posts to one server. Made by `open_json_client`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        key: SecretStr | None,
        retries: Retries,
        on_retry: Callable[[], None] | None,
        *,
        connections: int,
    ) -> None:
        self._session = session
        # The session has a queue of its own, but nobody could tell a wait in it from an answer that takes long.
        self._places = anyio.Semaphore(connections, fast_acquire=True)
        self._url = url.rstrip("/")
        self._key = key
        self._retries = retries
        self._on_retry = on_retry

    async def call(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        request_id: str = "",
        tries: int | None = None,
        as_text: bool = False,
    ) -> Any:
        """Post `body` to `path` (get, without one), as often as it takes; `as_text` takes the answer as it is.

        Raises:
            EngineError: no answer; a `StatusError` where the server said why.
        """
        tries = self._retries.tries if tries is None else tries
        for failures in range(1, tries + 1):
            answer = await self._placed(path, body, request_id, as_text)
            if not isinstance(answer, _Failure):
                return answer
            if failures == tries:
                raise answer.error
            wait = self._retries.wait_s(request_id, failures)
            if answer.asked_s is not None:
                if answer.asked_s > self._retries.longest_asked_s:
                    raise answer.error
                wait = max(wait, answer.asked_s)
            if self._on_retry is not None:
                self._on_retry()
            with not_counted():
                await anyio.sleep(wait)
        raise AssertionError("at least one try is made")

    async def _placed(self, path: str, body: Mapping[str, Any] | None, request_id: str, as_text: bool) -> Any:
        """`_once`, when there is a connection for it."""
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            with not_counted():
                await self._places.acquire()
        try:
            return await self._once(path, body, request_id, as_text)
        finally:
            self._places.release()

    async def _once(self, path: str, body: Mapping[str, Any] | None, request_id: str, as_text: bool) -> Any:
        """The answer's JSON, or why another try may help. Raises where it cannot."""
        url = f"{self._url}/{path}"
        try:
            return await guarded(self._exchange(url, body, as_text), waiting_for=f"{url} {request_id}".rstrip())
        except _RefusedError as refused:
            error = StatusError(refused.status, self._shown(refused.text))
            if refused.status in AGAIN:
                return _Failure(error=error, asked_s=asked_wait(refused.retry_after))
            raise error from None
        except aiohttp.ClientSSLError as problem:
            advice = "an authority of your own is named by SSL_CERT_FILE=FILE.pem"
            said = f"{url}: no secure connection: {self._shown(problem)}; {advice}"
            raise EngineError(said, recoverable=False) from None
        except aiohttp.InvalidURL:
            raise EngineError(f"{url} is not an address", recoverable=False) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            # Their chains hold the request, and so the key.
            what = f"{type(problem).__name__}: {self._shown(problem)}"
            return _Failure(error=EngineError(f"{url}: no answer ({what})"))

    async def _exchange(self, url: str, body: Mapping[str, Any] | None, as_text: bool) -> Any:
        method = "GET" if body is None else "POST"
        async with self._session.request(method, url, json=body, allow_redirects=False) as response:
            if response.status != 200:
                text = (await response.content.read(4096)).decode("utf-8", "replace")
                raise _RefusedError(response.status, text, response.headers.get("Retry-After"))
            raw = await _bounded(response, url)
        if as_text:
            return raw.decode("utf-8", "replace")
        try:
            return parse_json(raw) if len(raw) <= PARSED_HERE else await to_thread.run_sync(parse_json, raw)
        except ValueError as problem:
            shown = self._shown(raw[:SHOWN].decode("utf-8", "replace"))
            raise EngineError(f"{url} answered with something that {problem}: {shown!r}") from None

    def _shown(self, said: object) -> str:
        text = " ".join(str(said).split())
        if self._key is not None:
            text = text.replace(self._key.get_secret_value(), "[key]")
        return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:SHOWN])


async def _bounded(response: aiohttp.ClientResponse, url: str) -> bytes:
    """The whole answer, decompressed.

    Raises:
        EngineError: it is too long.
    """
    parts: list[bytes] = []
    left = limits.ANSWER_BYTES
    async for part in response.content.iter_any():
        left -= len(part)
        if left < 0:
            raise EngineError(f"{url} answered with more than {limits.ANSWER_BYTES:,} bytes")
        parts.append(part)
    return b"".join(parts)


class _RefusedError(Exception):
    def __init__(self, status: int, text: str, retry_after: str | None) -> None:
        super().__init__(status)
        self.status = status
        self.text = text
        self.retry_after = retry_after


def asked_wait(retry_after: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, a number or a date; None where it says neither."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(retry_after)
        # A date of the server's clock: the real time of day, which no test clock moves.
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):  # the parser lets all of them out
        return None


@asynccontextmanager
async def open_json_client(
    url: str,
    *,
    connections: int,
    key_variable: str,
    retries: Retries,
    connect_timeout_s: float,
    on_retry: Callable[[], None] | None = None,
) -> AsyncIterator[JsonClient]:
    """A client with at most `connections` connections, closed when the context is left.

    Reading has no time limit: an answer takes as long as the server's queue is, and the episode has its own.
    Certificates are verified against those of the system, or of the file that SSL_CERT_FILE names.

    Raises:
        ConfigurationError: the variable holds something that is no key.
    """
    key = key_of(key_variable)
    if key is not None and url.startswith("http:") and not is_near(url):
        log.warning("engine.key_unencrypted", url=url, advice=f"use https, or unset {key_variable}")
    connector = aiohttp.TCPConnector(limit=connections, ttl_dns_cache=300)
    timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=connect_timeout_s, sock_read=None)
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {}
    # Proxies of the environment are for servers elsewhere.
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers, trust_env=not is_near(url)
    ) as session:
        yield JsonClient(session, url, key, retries, on_retry, connections=connections)
