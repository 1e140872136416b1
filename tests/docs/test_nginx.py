"""The nginx configuration of docs/howto/proxies.md, in a real nginx before the service."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from loadtests.processes import PATIENCE_S, free_port, running, wait_until
from tests.docs.pages import DOCS, blocks
from tests.live_service import MODEL, LiveService
from tools.programs import environment, program

NAME = "llm.example.com"
CONFIGURATION = next(
    block.text for block in blocks(DOCS / "howto/proxies.md") if block.title == "nginx.conf"
)


def certificate(folder: Path) -> None:
    """A certificate for the name of the page, signed by itself, as llm.crt and llm.key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "llm.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "llm.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[int]:
    """The page's configuration with other ports and paths; yields the port of TLS."""
    port = free_port()
    text = CONFIGURATION.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}").replace(
        "/etc/nginx/", f"{folder}/"
    )
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/errors.log;\nevents {{}}\n"
        # The service asks nginx by a header not to buffer; the page's own line must do as well.
        f"http {{\naccess_log off;\nproxy_ignore_headers X-Accel-Buffering;\n{temporary}{text}}}\n"
    )
    command = [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with running([*command, "-e", "errors.log"], env=environment()):
        yield port


@pytest.fixture(scope="module")
def service() -> Iterator[LiveService]:
    with LiveService(http={"allowed_hosts": [NAME]}) as live:
        yield live


@pytest.fixture(scope="module")
def through(
    service: LiveService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("nginx")
    certificate(folder)
    trusted = ssl.create_default_context(cafile=str(folder / "llm.crt"))
    trusted.check_hostname = False
    with (
        nginx(folder, service.port) as port,
        httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            verify=trusted,
            headers={"Host": NAME},
            timeout=PATIENCE_S,
        ) as client,
    ):
        wait_until(lambda: answers(client), PATIENCE_S, "nginx")
        yield client


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_a_stream_passes_as_it_comes(service: LiveService, through: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": "one two three", "max_tokens": 6, "stream": True}
    service.engine.frozen, service.engine.spared = True, 2
    with through.stream("POST", "/v1/generate", json=body) as answer:
        assert answer.status_code == 200, answer.read()
        lines = answer.iter_lines()
        assert next(lines).startswith("data: "), "what the engine has made waits for the rest"
        service.engine.frozen = False
        came = [line for line in lines if line.startswith("data: ")]
    assert came[-1] == "data: [DONE]"
    assert len(came) > 4


def test_a_body_above_the_limit_is_refused_by_the_proxy(through: httpx.Client) -> None:
    answer = through.post("/v1/generate", content=b"x" * (1 << 20) + b"x" * 4096)
    assert answer.status_code == 413
