"""OCI registries: Debian's docker-registry as a process, and one whose every answer is scripted."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import yaml

from loadtests.processes import free_port, running, served, wait_until
from service.sources.artifact import MANIFEST_TYPE, TITLE
from tests.sources.servers import listening
from tools.programs import program

# What `htpasswd -B` writes for the password "secret".
HTPASSWD = "tester:$2b$05$aaaaaaaaaaaaaaaaaaaaaOjOHCcGZ1ZydhnG2lX11qSmiRJbsbsA.\n"


@dataclass(frozen=True)
class Registry:
    """A running docker-registry; `host` is its address, `blobs` where it keeps what it was sent."""

    host: str
    blobs: Path

    def blob(self, digest: str) -> Path:
        """The file of a blob."""
        hexadecimal = digest.removeprefix("sha256:")
        return self.blobs / "sha256" / hexadecimal[:2] / hexadecimal / "data"


@contextmanager
def docker_registry(folder: Path, *, with_password: bool = False) -> Iterator[Registry]:
    """Run a registry over an empty folder; with a password, for the user `tester`."""
    host = f"127.0.0.1:{free_port()}"
    storage = folder / "storage"
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": host},
    }
    if with_password:
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "registry.yml").write_text(yaml.safe_dump(config))
    log, url = folder / "registry.log", f"http://{host}/v2/"
    command = [program("docker-registry"), "serve", str(folder / "registry.yml")]
    with running(command, log) as process:
        wait_until(lambda: served(url, process, log), 30, url, every=0.02)
        yield Registry(host, storage / "docker/registry/v2/blobs")


@dataclass
class ScriptedRegistry:
    """A registry of one repository, `tone`, that can serve wrong content.

    `blobs` are served under their names in a path; `fetched` holds (digest, first byte) of each
    blob that was fetched; with `tokens` each request needs the next token, which is valid twice.
    """

    host: str = ""
    manifest: bytes = b""
    manifest_type: str = MANIFEST_TYPE
    blobs: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    status: int | None = None
    fetched: list[tuple[str, int]] = field(default_factory=list)
    tokens: bool = False
    issued: list[int] = field(default_factory=list)

    def hold(self, files: Mapping[str, bytes], **changes: Any) -> None:
        """Hold an artifact of these files; `changes` replace keys of its manifest."""
        layers = []
        for name, content in files.items():
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            self.blobs[digest] = content
            layers.append(
                {
                    "mediaType": "application/octet-stream",
                    "digest": digest,
                    "size": len(content),
                    "annotations": {TITLE: name},
                }
            )
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": layers} | changes
        self.manifest = json.dumps(manifest).encode()

    @property
    def layers(self) -> Any:
        """The layers of the artifact that is held."""
        return json.loads(self.manifest)["layers"]

    @property
    def digest(self) -> str:
        """The digest of the manifest that is held."""
        return f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ScriptedRegistry

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        state = self.state
        if self.path.startswith("/token"):
            state.issued.append(0)
            self._send(200, json.dumps({"token": f"t{len(state.issued)}"}).encode())
        elif state.tokens and not self._paid():
            realm = f'Bearer realm="http://{state.host}/token",service="tests",scope="pull"'
            self._send(401, b"{}", {"WWW-Authenticate": realm})
        elif state.status:
            self._send(state.status, b"{}")
        elif self.path == "/v2/":
            self._send(200, b"{}")
        elif self.path.startswith("/v2/tone/manifests/"):
            self._send(200, state.manifest, {"Content-Type": state.manifest_type})
        else:
            self._blob(self.path.removeprefix("/v2/tone/blobs/"))

    def _paid(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer t")
        if not token.isdecimal() or self.state.issued[int(token) - 1] >= 2:
            return False
        self.state.issued[int(token) - 1] += 1
        return True

    def _blob(self, digest: str) -> None:
        content = self.state.blobs.get(digest)
        if content is None:
            return self._send(404, b"{}")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.state.ranges else 0
        self.state.fetched.append((digest, start))
        self._send(206 if start else 200, content[start:])

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def scripted_registry() -> Iterator[ScriptedRegistry]:
    """Run a scripted registry in a thread."""
    state = ScriptedRegistry()
    with listening(_Handler, state) as host:
        state.host = host
        yield state
