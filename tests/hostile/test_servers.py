"""Model servers that are broken, hostile, or somebody else: what they answer, and what they are told."""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from dreamsim.engines.http_client import asked_wait
from dreamsim.engines.openai_http import HttpSettings, open_http_engine
from dreamsim.engines.scripted import ByteTokenizer
from dreamsim.errors import ConfigurationError, EngineError, RetrievalError
from dreamsim.records import limits
from dreamsim.records.completion import GenerationRequest, Sampling
from dreamsim.store.encoders import EndpointEncoder, encoder_from_name
from tests.engines.server import IMPATIENT, Server, serving
from tests.hostile.garbage import odd_texts

KEY = "sk-very-secret-0123456789"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


def request(max_tokens: int = 8) -> GenerationRequest:
    prompt = np.arange(4, dtype=np.int32)
    return GenerationRequest(
        request_id="r", prompt_token_ids=prompt, sampling=Sampling(max_tokens=max_tokens), seed=1, role="policy"
    )


def raw(body: bytes, **headers: str) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers=headers)


BAD_CHOICES: list[dict[str, Any]] = [
    {"token_ids": [1, 2**40]},
    {"token_ids": [-1]},
    {"token_ids": [1.5]},
    {"token_ids": [[1, 2]]},
    {"token_ids": "abc"},
    {"token_ids": [True, False]},
    {"token_ids": {"a": 1}},
    {"token_ids": list(range(9))},
    {"token_ids": [5000]},
    {"logprobs": {"token_logprobs": [[1], [2], [3]]}},
    {"logprobs": {"token_logprobs": [3.0, -1, -1]}},
    {"logprobs": {"token_logprobs": "abc"}},
    {"finish_reason": []},
    {"finish_reason": {"a": 1}},
    {"token_ids": None, "text": {"a": 1}},
    {"token_ids": None, "text": "x" * 5000},
]


@pytest.mark.parametrize("change", BAD_CHOICES, ids=range(len(BAD_CHOICES)))
async def test_tokens_that_no_model_can_have_said_fail_the_request(server: Server, change: dict[str, Any]) -> None:
    server.choice = {**server.choice, **change}
    settings = server.settings(require_token_ids=False)
    async with open_http_engine(settings, tokenizer=ByteTokenizer()) as engine:
        with pytest.raises(EngineError):
            await engine.generate(request())


@pytest.mark.parametrize("content", [[1], {"a": 1}, 7, "x" * 5000])
async def test_a_chat_that_answers_with_no_text_fails_the_request(server: Server, content: Any) -> None:
    server.choice["text"] = content
    async with open_http_engine(server.settings()) as engine:
        with pytest.raises(EngineError):
            await engine.chat([{"role": "user", "content": "?"}], max_tokens=8)


@pytest.mark.parametrize("number", [-1, 2**70, "7", [1], True, 1.5])
async def test_counts_that_are_none_fail_the_request(server: Server, number: Any) -> None:
    server.usage = {"prompt_tokens": number, "prompt_tokens_details": {"cached_tokens": number}}
    async with open_http_engine(server.settings()) as engine:
        with pytest.raises(EngineError):
            await engine.generate(request())
        with pytest.raises(EngineError):
            await engine.chat([{"role": "user", "content": "?"}], max_tokens=8)


@pytest.mark.parametrize(
    "body", [b"[" * 5000, b'{"choices": NaN}', b"\xff", b"9" * 5000, b"[]", b"null", b'"x"', b'{"choices": {}}']
)
async def test_an_answer_that_is_no_answer_fails_the_request(server: Server, body: bytes) -> None:
    async with open_http_engine(server.settings()) as engine:
        server.first = [raw(body)]
        with pytest.raises(EngineError):
            await engine.generate(request())


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_is_bounded(server: Server, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_BYTES", 2**20)
    body = b" " * 2**23
    bomb = raw(gzip.compress(body), **{"Content-Encoding": "gzip"}) if packed else raw(body)
    async with open_http_engine(server.settings()) as engine:
        server.first = [bomb]
        with pytest.raises(EngineError, match="more than 1,048,576 bytes"):
            await engine.generate(request())
        assert (await engine.generate(request())).token_ids.tolist() == [5, 6, 7]


@pytest.mark.parametrize("card", [{"id": ["x"]}, {"id": {"a": 1}}, 3, {"id": None}])
async def test_a_list_of_models_may_hold_anything(server: Server, card: Any) -> None:
    server.card = card
    async with open_http_engine(server.settings()) as engine:
        await engine.generate(request())


@pytest.mark.parametrize("length", [True, 0, -5, "64", 1.5, None])
async def test_a_length_that_is_none_is_not_believed(server: Server, length: Any) -> None:
    server.card["max_model_len"] = length
    async with open_http_engine(server.settings()) as engine:
        assert engine.max_model_len > 10**9


async def test_what_a_server_says_commands_no_terminal(server: Server) -> None:
    server.first = [web.Response(status=403, text="\x1b[2Jgone\x07 \u202eevil")]
    with pytest.raises(ConfigurationError) as caught:
        async with open_http_engine(server.settings()):
            pass
    assert "gone" in str(caught.value)
    assert all(char.isprintable() for char in str(caught.value))


@given(st.one_of(st.text(max_size=40), odd_texts(), st.sampled_from(("inf", "nan", "-1", "1e400", "Mon, 99 Foo 2020"))))
def test_a_wait_asked_for_is_a_number_or_nothing(header: str) -> None:
    wait = asked_wait(header)
    assert wait is None or wait >= 0


SECRET_ADDRESSES = [
    f"https://user:{KEY}@host/v1",
    f"https://{KEY}@host/v1",
    f"https://host/v1?api_key={KEY}",
    f"https://host:port{KEY}/v1",
    f"ftp://host/{KEY}",
    f"file:///{KEY}",
]


@pytest.mark.parametrize("url", SECRET_ADDRESSES)
def test_an_address_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HttpSettings(url=url, model="m")
    assert KEY not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        EndpointEncoder(url, "m")
    assert KEY not in str(caught.value)


def test_a_key_in_place_of_its_variable_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="NAME of an environment variable") as caught:
        HttpSettings(url="https://host/v1", model="m", api_key_variable=KEY)
    assert KEY not in str(caught.value)


async def test_a_key_that_no_header_can_carry_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", f"{KEY}\r\nX-Evil: 1")
    with pytest.raises(ConfigurationError, match="TEST_KEY") as caught:
        async with open_http_engine(server.settings()):
            pass
    assert KEY not in str(caught.value)


async def test_the_key_is_in_no_repr_and_no_chain_of_errors(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    async with open_http_engine(server.settings()) as engine:
        assert KEY not in repr(vars(engine._client))
        for answer in (web.Response(status=401, text=KEY), raw(f'{{"key": "{KEY}"'.encode())):
            server.first = [answer]
            with pytest.raises(EngineError) as caught:
                await engine.generate(request())
            error: BaseException | None = caught.value
            while error is not None:
                assert KEY not in f"{error} {error!r}"
                error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# TLS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody vouches for, with its key, in one PEM file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(made.public_bytes(pem) + secret)
    return path


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Recording)
        self.server.headers.append(dict(self.headers))
        self.send_response(self.server.status)
        for name, value in self.server.extra.items():
            self.send_header(name, value)
        body = json.dumps(self.server.body).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Recording(HTTPServer):
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.headers: list[dict[str, str]] = []
        self.extra: dict[str, str] = {}
        self.body: Any = {"data": [{"id": "m"}]}

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""


@contextmanager
def recording(certificate: Path | None = None) -> Iterator[_Recording]:
    """A server in a thread, over TLS if there is a certificate."""
    with _Recording() as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


async def test_a_server_that_nobody_vouches_for_is_refused(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with recording(certificate) as server:
        url = f"https://127.0.0.1:{server.server_port}/v1"
        settings = HttpSettings(url=url, model="m", api_key_variable="TEST_KEY", retries=IMPATIENT)
        with pytest.raises(ConfigurationError, match=r"no secure connection.*certificate.*SSL_CERT_FILE") as caught:
            async with open_http_engine(settings):
                pass
    assert server.headers == []
    assert KEY not in str(caught.value)


def test_an_encoder_that_nobody_vouches_for_is_refused(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with recording(certificate) as server:
        encoder = EndpointEncoder(f"https://127.0.0.1:{server.server_port}/v1", "m", dimension=2)
        with pytest.raises(RetrievalError, match="certificate"):
            encoder.encode(["a"])
    assert server.headers == []


def test_an_own_authority_is_named_by_ssl_cert_file(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with recording(certificate) as server:
        server.body = {"data": [{"index": 0, "embedding": [3, 4]}]}
        encoder = EndpointEncoder(f"https://127.0.0.1:{server.server_port}/v1", "m", dimension=2)
        assert encoder.encode(["a"]).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def test_the_http_client_verifies_certificates_unless_told_otherwise_which_nobody_does() -> None:
    root = Path(__file__).parents[2]
    packages = [root / "dreamsim", root / "adapters" / "dreamsim_adapters", root / "trainers" / "dreamsim_trainers"]
    sources = {path: path.read_text(encoding="utf-8") for package in packages for path in package.rglob("*.py")}
    words = ("ssl=False", "verify=False", "CERT_NONE", "_create_unverified_context", "check_hostname = False")
    assert [str(path) for path, source in sources.items() for word in words if word in source] == []


# redirections ---------------------------------------------------------------------------------------------------------


def test_an_encoders_key_follows_no_redirection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with recording() as elsewhere, recording() as server:
        server.status, server.extra = 302, {"Location": f"http://127.0.0.1:{elsewhere.server_port}/v1/embeddings"}
        encoder = EndpointEncoder(f"http://127.0.0.1:{server.server_port}/v1", "m", dimension=2)
        with pytest.raises(RetrievalError, match="302"):
            encoder.encode(["a"])
    assert elsewhere.headers == []


async def test_an_engines_key_follows_no_redirection(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with recording() as elsewhere:
        async with open_http_engine(server.settings()) as engine:
            server.first = [
                web.Response(status=307, headers={"Location": f"http://127.0.0.1:{elsewhere.server_port}/"})
            ]
            with pytest.raises(EngineError, match="307"):
                await engine.generate(request())
    assert elsewhere.headers == []


BAD_EMBEDDINGS: list[Any] = [
    {"data": [{"index": 0, "embedding": [1e999, 1]}]},
    {"data": [{"index": 0, "embedding": ["1", "2"]}]},
    {"data": [{"index": 0, "embedding": [True, 2]}]},
    {"data": [{"index": 0, "embedding": 7}]},
    {"data": [{"index": [], "embedding": [1, 2]}, {"index": 1}]},
    {"data": 7},
    {"data": [7]},
    7,
    None,
]


@pytest.mark.parametrize("body", BAD_EMBEDDINGS, ids=range(len(BAD_EMBEDDINGS)))
def test_vectors_that_are_none_are_a_retrieval_error(body: Any) -> None:
    with recording() as server:
        server.body = body
        with pytest.raises(RetrievalError):
            EndpointEncoder(f"http://127.0.0.1:{server.server_port}/v1", "m", dimension=2).encode(["a"])


def test_an_encoders_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EMBEDDINGS_BYTES", 1000)
    with recording() as server:
        server.body = {"data": [{"index": 0, "embedding": [1] * 1000}]}
        with pytest.raises(RetrievalError, match="more than 1,000 bytes"):
            EndpointEncoder(f"http://127.0.0.1:{server.server_port}/v1", "m", dimension=1000).encode(["a"])


def test_an_encoders_key_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with recording() as server:
        server.status, server.body = 401, f"wrong key {KEY}\x1b[2J"
        with pytest.raises(RetrievalError, match=r"wrong key \[key\]") as caught:
            EndpointEncoder(f"http://127.0.0.1:{server.server_port}/v1", "m", dimension=2).encode(["a"])
    assert "\x1b" not in str(caught.value)


def test_an_encoder_by_name_holds_no_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        encoder_from_name(f"https://user:{KEY}@host/v1#m")
    assert KEY not in str(caught.value)
