"""Encoders other than the default one, and encoders by name.

In: texts. Out: vectors of length 1. Always: an encoder's name changes whenever its vectors do, so that a search
index made by another one is rebuilt; encoders block and are called off the event loop. An endpoint's certificate is
verified, it is not followed elsewhere, and its key is in no name and no message.
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dreamsim.errors import ConfigurationError, MissingExtraError, RetrievalError
from dreamsim.protocols import Encoder
from dreamsim.records import limits
from dreamsim.records.strict_json import parse_json
from dreamsim.runtime.addresses import check_server, key_of
from dreamsim.store.lexical import LexicalEncoder


def encoder_from_name(name: str) -> Encoder:
    """The encoder called `name`: `lexical`, `sentence-transformers:MODEL`, or a URL `http(s)://HOST/v1#MODEL`.

    Raises:
        ConfigurationError: there is no such encoder.
        MissingExtraError: its package is not installed.
    """
    if name == "lexical":
        return LexicalEncoder()
    kind, _, rest = name.partition(":")
    if kind == "sentence-transformers" and rest:
        return SentenceTransformerEncoder(rest)
    if kind in ("http", "https"):
        url, _, model = name.partition("#")
        if not model:
            raise ConfigurationError(f"encoder {name!r}: name the model after a '#', as in {url}#MODEL")
        return EndpointEncoder(url, model)
    raise ConfigurationError(
        f"encoder {name!r}: choose 'lexical', 'sentence-transformers:MODEL' or 'https://HOST/v1#MODEL'"
    )


def unit_rows(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Each row divided by its length; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float32] = (vectors / np.where(lengths == 0, 1.0, lengths)).astype(np.float32)
    return result


class SentenceTransformerEncoder:
    """A sentence-transformers model, run in this process."""

    __slots__ = ("_dimension", "_model", "_name")

    def __init__(self, model: str, *, device: str | None = None) -> None:
        """Load `model`, a name on the Hugging Face hub or a directory.

        Raises:
            MissingExtraError: sentence-transformers is not installed.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError(
                "sentence-transformers", extra="sentence-transformers", purpose=f"the encoder {model!r}"
            ) from error
        # Never code that comes with a model.
        self._model: Any = SentenceTransformer(model, device=device, trust_remote_code=False)
        self._name = model
        self._dimension = int(self._model.get_sentence_embedding_dimension())

    @property
    def name(self) -> str:
        """The model's name."""
        return f"sentence-transformers:{self._name}"

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape [len(texts), dimension]."""
        if not texts:
            return np.zeros((0, self._dimension), dtype=np.float32)
        return unit_rows(self._model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False))


class EndpointEncoder:
    """A model behind an OpenAI-compatible `/embeddings` endpoint."""

    __slots__ = ("_api_key_variable", "_dimension", "_model", "_timeout_s", "_url")

    MAX_BATCH = 128
    """Texts in one request."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        dimension: int | None = None,
        timeout_s: float = 60.0,
        api_key_variable: str = "OPENAI_API_KEY",
    ) -> None:
        """Use `model` at `url` (the part before `/embeddings`).

        Args:
            dimension: length of the vectors; found out by one request when not given.
            timeout_s: longest wait for one answer.
            api_key_variable: the environment variable that holds the key, if there is one.

        Raises:
            ConfigurationError: the address is none, or holds a secret.
        """
        check_server(url, api_key_variable)
        self._url = url.rstrip("/").removesuffix("/embeddings") + "/embeddings"
        self._model = model
        self._dimension = dimension
        self._timeout_s = timeout_s
        self._api_key_variable = api_key_variable

    @property
    def name(self) -> str:
        """The endpoint's address and the model's name."""
        return f"{self._url.removesuffix('/embeddings')}#{self._model}"

    @property
    def dimension(self) -> int:
        """Length of a vector. Blocks at the first call when the dimension was not given.

        Raises:
            RetrievalError: the endpoint does not answer.
        """
        if self._dimension is None:
            self._dimension = len(self._request(["dimension"])[0])
        return self._dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape [len(texts), dimension].

        Raises:
            RetrievalError: the endpoint does not answer, or not with vectors.
        """
        rows: list[list[float]] = []
        for start in range(0, len(texts), self.MAX_BATCH):
            rows += self._request(list(texts[start : start + self.MAX_BATCH]))
        if any(len(row) != self.dimension for row in rows):
            raise RetrievalError(f"{self._url} gave vectors of other lengths than {self.dimension}")
        return unit_rows(np.array(rows, dtype=np.float32).reshape(len(texts), self.dimension))

    def _request(self, texts: list[str]) -> list[list[float]]:
        headers = {"Content-Type": "application/json"}
        key = key_of(self._api_key_variable)
        if key is not None:
            headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        body = json.dumps({"model": self._model, "input": texts, "encoding_format": "float"}).encode()
        request = urllib.request.Request(self._url, data=body, headers=headers)
        try:
            with _OPENER.open(request, timeout=self._timeout_s) as response:
                raw = response.read(limits.EMBEDDINGS_BYTES + 1)
            if len(raw) > limits.EMBEDDINGS_BYTES:
                raise ValueError(f"more than {limits.EMBEDDINGS_BYTES:,} bytes")
            data = sorted(parse_json(raw)["data"], key=lambda item: item["index"])
            rows = [[_finite(value) for value in item["embedding"]] for item in data]
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read(500).decode(errors="replace")
            if key is not None:
                detail = detail.replace(key.get_secret_value(), "[key]")
            raise RetrievalError(f"{self._url} answered {error.code}: {detail!r}") from None
        except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
            raise RetrievalError(f"{self._url} gave no embeddings: {str(error)!r:.300}") from None
        if len(rows) != len(texts):
            raise RetrievalError(f"{self._url} gave {len(rows)} embeddings for {len(texts)} texts")
        return rows


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or isinstance(value, str | bool):
        raise ValueError("an embedding that is not made of finite numbers")
    return number


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirection would take the key to wherever it points."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)
