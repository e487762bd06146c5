"""Encoders: vectors of length 1, and near each other when they should be."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsim.errors import ConfigurationError, MissingExtraError, RetrievalError
from dreamsim.records.experience import embedding_text
from dreamsim.store.encoders import EndpointEncoder, encoder_from_name
from dreamsim.store.lexical import LexicalEncoder
from dreamsim.testing.model_contracts import check_encoder
from dreamsim.testing.strategies import states, texts


@given(state=states(), action=texts(), others=st.lists(texts(), max_size=3))
@settings(max_examples=60)
def test_a_vector_has_length_one_and_depends_on_its_text_alone(state: Any, action: str, others: list[str]) -> None:
    text = embedding_text(state.lines, action)
    encoder = LexicalEncoder()
    (alone,) = encoder.encode([text])
    assert alone.dtype == np.float32
    assert np.linalg.norm(alone) == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(encoder.encode([*others, text])[-1], alone)


def test_the_default_encoder_keeps_the_contract() -> None:
    check_encoder(LexicalEncoder(), ["take key\nkey: in box", "open box"])


def test_the_default_encoder_gives_these_vectors_for_ever() -> None:
    vector = LexicalEncoder(8).encode(["take key\nat: hall\nkey: in box"])[0]
    # A change here needs a new name in LexicalEncoder.name, or old indexes would be searched with new vectors.
    expected = [0.4093266, 0.2363248, 0.0, 0.0845501, 0.0, -0.4726496, -0.0845501, 0.734103]
    assert vector.tolist() == pytest.approx(expected, abs=1e-6)


STATE = ("at: kitchen", "apple: in fridge", "fridge: open", "pear: in fridge", "knife: held", "oven: closed")


@pytest.mark.parametrize(
    ("alike", "other"),
    [
        # the same verb on a thing of the same status, rather than the very thing with another verb
        (("take lemon", ("at: pantry", "lemon: in fridge", "fridge: open")), ("eat apple", STATE)),
        # where the thing is decides, not how much else the states share
        (("take plum", ("at: garden", "plum: in fridge")), ("take knife", STATE)),
        # a thing that is not there fails like another thing that is not there
        (("take lemon", ("at: pantry", "lemon: in fridge")), ("take unicorn", STATE)),
    ],
)
def test_what_decides_the_effect_counts_more_than_what_looks_alike(
    alike: tuple[str, tuple[str, ...]], other: tuple[str, tuple[str, ...]]
) -> None:
    asked, near, far = LexicalEncoder().encode(
        [embedding_text(STATE, "take apple"), embedding_text(alike[1], alike[0]), embedding_text(other[1], other[0])]
    )
    assert asked @ near > asked @ far


def test_encoders_are_found_by_name() -> None:
    assert encoder_from_name("lexical").name == LexicalEncoder().name
    assert encoder_from_name("http://localhost:1/v1#small").name == "http://localhost:1/v1#small"


@pytest.mark.parametrize("name", ["", "bert", "sentence-transformers:", "https://host/v1"])
def test_a_name_that_no_encoder_has_is_refused_with_advice(name: str) -> None:
    with pytest.raises(ConfigurationError, match="encoder"):
        encoder_from_name(name)


def test_a_missing_package_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match="pip install 'dreamsim-rl"):
        encoder_from_name("sentence-transformers:all-MiniLM-L6-v2")


class Endpoint(HTTPServer):
    """Answers /embeddings; `answers` makes the body from the texts."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []

    def answer(self, texts: list[str]) -> Any:
        vectors = [[float(len(text)), 1.0, 0.0] for text in texts]
        data = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
        return {"data": data[::-1]}  # the order is said by `index`

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Endpoint)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append(body | {"path": self.path, "key": self.headers["Authorization"]})
        answer = json.dumps(server.answer(body["input"])).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_endpoint_is_asked_in_batches_and_its_answers_put_in_order(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    encoder = EndpointEncoder(endpoint.url, "small")
    vectors = encoder.encode(["x" * length for length in range(1, 301)])
    assert vectors.shape == (300, 3)
    assert encoder.dimension == 3
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[:, 0] / vectors[:, 1], np.arange(1, 301))
    assert {request["path"] for request in endpoint.requests} == {"/v1/embeddings"}
    assert {request["model"] for request in endpoint.requests} == {"small"}
    assert {request["key"] for request in endpoint.requests} == {"Bearer secret"}
    assert max(len(request["input"]) for request in endpoint.requests) == EndpointEncoder.MAX_BATCH
    assert "secret" not in encoder.name


@pytest.mark.parametrize("answer", [{}, {"data": []}, {"data": [{"index": 0, "embedding": ["x"]}]}, []])
def test_an_answer_without_embeddings_is_a_retrieval_error(
    endpoint: Endpoint, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "answer", lambda texts: answer)
    with pytest.raises(RetrievalError):
        EndpointEncoder(endpoint.url, "small", dimension=3).encode(["a"])


def test_a_refusal_is_a_retrieval_error_with_what_was_said(endpoint: Endpoint) -> None:
    endpoint.status = 429
    with pytest.raises(RetrievalError, match="429"):
        EndpointEncoder(endpoint.url, "small", dimension=3).encode(["a"])


def test_an_endpoint_that_is_not_there_is_a_retrieval_error() -> None:
    with pytest.raises(RetrievalError, match="no embeddings"):
        EndpointEncoder("http://127.0.0.1:9/v1", "small", dimension=3).encode(["a"])
