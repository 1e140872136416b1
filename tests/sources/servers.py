"""Real servers to fetch adapters from: S3 (moto), HTTPS with byte ranges, and the Hub's routes."""

import datetime
import hashlib
import ipaddress
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from loadtests.processes import free_port
from service.sources.source import OPTIONS

_POLL_SECONDS = 0.02
"""Time between two looks of a server whether it is to end."""


@dataclass
class FileServer:
    """Contents of a running server, and the requests that it saw.

    `fetched` holds (file name, first byte) of each GET answered with content. A GET at or past
    `broken_from` of a file is cut off after its headers while that is set. `chunked` answers come
    in two pieces and do not say how long they are.
    """

    folder: Path
    url: str = ""
    fetched: list[tuple[str, int]] = field(default_factory=list)
    broken_from: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    chunked: bool = False
    status: int | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FileServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _path(self) -> Path:
        return self.state.folder / unquote(self.path.lstrip("/"))

    def _answer(self, with_body: bool) -> None:
        path = self._path()
        if self.state.status or not path.is_file():
            self._send(self.state.status or 404, b"", with_body)
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or not self.state.ranges:
            (self._send_chunks if self.state.chunked else self._send)(
                200, content, with_body, path.name
            )
            return
        start = int(asked[1])
        end = min(int(asked[2] or len(content)) + 1, len(content))
        if start >= len(content):
            self._send(416, b"", with_body)
            return
        self._send(206, content[start:end], with_body, path.name, start, len(content))

    def _send(
        self,
        status: int,
        content: bytes,
        with_body: bool,
        name: str = "",
        start: int = 0,
        total: int = 0,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes" if self.state.ranges else "none")
        if status == 206:
            last = start + len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
        self.end_headers()
        if not with_body or not content:
            return
        if start + len(content) > self.state.broken_from.get(name, 1 << 62):
            self.close_connection = True
            return
        self.state.fetched.append((name, start))
        self.wfile.write(content)

    def _send_chunks(self, status: int, content: bytes, with_body: bool, name: str) -> None:
        self.send_response(status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if not with_body:
            return
        self.state.fetched.append((name, 0))
        middle = len(content) // 2
        for piece in (content[:middle], content[middle:]):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.1)
        self.wfile.write(b"0\r\n\r\n")


class _HubHandler(_Handler):
    """The routes of the Hub that reads and snapshots need, for one repository."""

    REVISIONS = ("v1", "c" * 40)

    def _path(self) -> Path:
        return self.state.folder / self.path.rpartition("/")[2]

    def do_GET(self) -> None:
        route = self.path.split("?")[0].removeprefix("/api/models/acme/tone")
        if route in (f"/tree/{revision}" for revision in self.REVISIONS):
            self._json(200, [self._entry(path) for path in self.state.folder.iterdir()])
        elif route in ("", *(f"/revision/{revision}" for revision in self.REVISIONS)):
            files = [{"rfilename": path.name} for path in self.state.folder.iterdir()]
            self._json(200, {"id": "acme/tone", "_id": "1", "sha": "c" * 40, "siblings": files})
        elif self.path.startswith("/api/"):
            self._json(404, {"error": "Repository not found"})
        else:
            super().do_GET()

    def end_headers(self) -> None:
        name = self._path().name
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("ETag", f'"{hashlib.sha1(name.encode()).hexdigest()}"')
        super().end_headers()

    def _entry(self, path: Path) -> dict[str, object]:
        return {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}

    def _json(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def serve_https(folder: Path, certificate: Path) -> Iterator[FileServer]:
    """Serve a folder over TLS with the key and certificate in one PEM file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with _serve(folder, _Handler, "https", context) as server:
        yield server


@dataclass
class Redirection:
    """Where a server sends each client on to, with the path, and the paths that were asked for.

    With `login` it asks for a login there, as a registry does, in place of redirecting.
    """

    target: str
    login: bool = False
    asked: list[str] = field(default_factory=list)


class _Redirecting(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Redirection

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.state.asked.append(self.path)
        self.send_response(401 if self.state.login else 302)
        if self.state.login:
            realm = f'Bearer realm="{self.state.target}/token",service="tests",scope="pull"'
            self.send_header("WWW-Authenticate", realm)
        else:
            self.send_header("Location", f"{self.state.target}{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET


@contextmanager
def redirecting(state: Redirection, certificate: Path | None) -> Iterator[str]:
    """Run a server on 127.0.0.2, over TLS if it has a certificate; yields its address."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with listening(_Redirecting, state, context, address="127.0.0.2") as host:
        yield f"http{'s' if certificate else ''}://{host}"


@contextmanager
def serve_hub(folder: Path) -> Iterator[FileServer]:
    """Serve a folder as the Hub's repository acme/tone, revision v1."""
    with _serve(folder, _HubHandler, "http", None) as server:
        yield server


@contextmanager
def _serve(
    folder: Path, handler: type[_Handler], scheme: str, context: ssl.SSLContext | None
) -> Iterator[FileServer]:
    state = FileServer(folder)
    with listening(handler, state, context) as host:
        state.url = f"{scheme}://{host}"
        yield state


@contextmanager
def listening(
    handler: type[BaseHTTPRequestHandler],
    state: Any,
    context: ssl.SSLContext | None = None,
    *,
    address: str = "127.0.0.1",
) -> Iterator[str]:
    """Run a server in a thread, whose handlers have this `state`; yields its host and port."""
    server = ThreadingHTTPServer((address, 0), type("Handler", (handler,), {"state": state}))
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,))
    thread.start()
    try:
        yield f"{address}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class S3:
    """S3 with an empty bucket `models`; what it holds stays while it is down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._port = free_port()
        self.up()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{self._port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # The pauses between a client's tries are up to seven seconds long.
        monkeypatch.setitem(OPTIONS["s3"]["config_kwargs"]["retries"], "max_attempts", 0)
        self.client: Any = boto3.client("s3")
        self.client.create_bucket(Bucket="models")

    def up(self) -> None:
        """Answer requests."""
        app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", self._port, app, threaded=True, request_handler=MotoRequestHandler
        )
        # moto's own thread looks every half second whether it is to end.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,))
        self._thread.start()

    def down(self) -> None:
        """Refuse connections."""
        self._server.shutdown()
        self._thread.join()

    def names(self) -> list[str]:
        """The name of each object."""
        listed = self.client.list_objects_v2(Bucket="models").get("Contents", [])
        return [entry["Key"] for entry in listed]

    def holds(self) -> dict[str, bytes]:
        """The content of each object."""
        return {
            name: self.client.get_object(Bucket="models", Key=name)["Body"].read()
            for name in self.names()
        }


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """Run S3 in a thread."""
    server = S3(monkeypatch)
    try:
        yield server
    finally:
        for key in server.names():
            server.client.delete_object(Bucket="models", Key=key)
        server.client.close()
        server.down()


@contextmanager
def s3_bucket(folder: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run S3 with the files of a folder below s3://models/`place`; yields a client of it."""
    with s3_server(monkeypatch) as server:
        for path in folder.iterdir():
            server.client.upload_file(str(path), "models", f"{place}/{path.name}")
        yield server.client


def write_certificate(path: Path, host: str | None = None, signer: Path | None = None) -> Path:
    """Write a fresh key and certificate as one PEM file, for a host or for 127.0.0.1 and .2;

    signed by that of another such file, or by itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host or "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    loopback = [x509.IPAddress(ipaddress.ip_address(f"127.0.0.{last}")) for last in (1, 2)]
    issuer, signing = name, key
    if signer is not None:
        issuer = x509.load_pem_x509_certificate(signer.read_bytes()).subject
        loaded = serialization.load_pem_private_key(signer.read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signing = loaded
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)] if host else loopback),
            False,
        )
        .sign(signing, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
