"""Package indexes over HTTP, of wheels in folders, and wheels to put there.

    python -m tests.container.package_index {cpu,cuda,alone} FOLDER COMMAND ...

runs a command on a machine whose pip has one index, that of this machine with other pages for torch
and torchvision: `cpu` lists their builds for CPUs, which FOLDER holds, beside those for CUDA;
`cuda` only the latter, with PyTorch's own index in reach of uv; `alone` without. Says what came
down.
"""

import hashlib
import html
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote, unquote

import httpx

from tests.sources.servers import listening, write_certificate


def write_wheel(folder: Path, version: str, name: str = "torch") -> str:
    """A wheel that pip can install, for CUDA or (+cpu) not; returns its sha256."""
    cuda = None if version.endswith("+cpu") else "13.0"
    wheel, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{name}/version.py", f"__version__ = {version!r}\ncuda = {cuda!r}\n")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@dataclass
class PackageIndex:
    """An index of a folder's wheels, and the names and bytes of the wheels that were downloaded.

    As a proxy of TLS it is every host that a client asks for, with a certificate that `authority`
    signs. Packages that the folder lacks come from the index `upstream`, if there is one.
    """

    folder: Path
    authority: Path
    upstream: str = ""
    url: str = ""
    downloaded: list[str] = field(default_factory=list)
    bytes_sent: int = 0


_WRITING = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: PackageIndex

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        """Be the host that a client wants to reach through this proxy."""
        host = self.path.rsplit(":", 1)[0]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority = self.state.authority
        with _WRITING:  # a client opens several connections to a host at once
            context.load_cert_chain(write_certificate(authority.with_name(host), host, authority))
        self.send_response(200)
        self.end_headers()
        with context.wrap_socket(self.connection, server_side=True) as secure:
            self.rfile, self.wfile = secure.makefile("rb"), secure.makefile("wb", 0)  # type: ignore[assignment]
            self.close_connection = False
            while not self.close_connection:
                self.handle_one_request()

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        """A wheel, or the page of a package (.../NAME/) that links to its wheels."""
        place, _, name = unquote(self.path.rstrip("/")).rpartition("/")
        wheel = self.state.folder / name
        links = [
            f'<a href="{quote(each.name)}">{each.name}</a>'
            for each in self.state.folder.glob(f"{name.replace('-', '_')}-*.whl")
        ]
        if wheel.suffix == ".whl" and wheel.is_file():
            self._send(wheel.read_bytes(), "application/zip", with_body, name)
        elif links or not self.state.upstream:
            self._send("".join(links).encode(), "text/html", with_body)
        elif place.startswith("/of/"):
            address = bytes.fromhex(place.removeprefix("/of/")).decode()
            content = (
                httpx.get(address, timeout=60, follow_redirects=True).raise_for_status().content
            )
            self._send(content, "application/octet-stream", with_body, name)
        else:
            self._send(self._page(name), "text/html", with_body)

    def _page(self, package: str) -> bytes:
        """The upstream's page of a package, whose links lead here."""
        accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
        answer = httpx.get(
            f"{self.state.upstream}/{package}/", headers=accept, follow_redirects=True
        )
        files = answer.json()["files"] if answer.is_success else ()
        return "".join(
            f'<a href="/of/{each["url"].encode().hex()}/{quote(each["filename"])}"'
            f' data-requires-python="{html.escape(each.get("requires-python") or "")}">'
            f"{each['filename']}</a>\n"
            for each in files
        ).encode()

    def _send(self, content: bytes, kind: str, with_body: bool, name: str = "") -> None:
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)
            if name:
                self.state.downloaded.append(name)
                self.state.bytes_sent += len(content)


@contextmanager
def package_index(folder: Path, authority: Path, upstream: str = "") -> Iterator[PackageIndex]:
    """Serve the wheels of a folder."""
    index = PackageIndex(folder, authority, upstream)
    with listening(_Handler, index) as host:
        index.url = f"http://{host}"
        yield index


def _own_index() -> str:
    """The address of the index that pip has on this machine."""
    told = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    for command in (("-m", "pip", "config", "get", "global.index-url"), ("-c", told)):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip().rstrip("/")
    raise AssertionError(done.stderr)


def run_before_index(kind: str, wheels: Path, command: list[str]) -> int:
    """Run a command before an index of a kind; returns its exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = write_certificate(folder / "authority.pem")
        for place in ("pip", "pytorch"):
            (folder / place).mkdir()
        for wheel in wheels.glob("torch*+cpu-*.whl"):
            shutil.copy(wheel, folder / ("pip" if kind == "cpu" else "pytorch"))
            package, version = wheel.name.split("-")[:2]
            write_wheel(folder / "pip", version.removesuffix("+cpu"), package)
        with (
            package_index(folder / "pip", authority, _own_index()) as pip,
            package_index(folder / "pytorch", authority) as pytorch,
        ):
            machine = {
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_INDEX_URL": f"{pip.url}/simple",
                # On port 9, that nobody listens on, the way to PyTorch's ends.
                "HTTPS_PROXY": pytorch.url if kind == "cuda" else "http://127.0.0.1:9",
                "SSL_CERT_FILE": str(authority),
            }
            kept = {key: value for key, value in os.environ.items() if key != "PIP_FIND_LINKS"}
            status = subprocess.run(command, env=kept | machine).returncode
        for index, who in ((pip, "pip's index"), (pytorch, "PyTorch's")):
            count, size = len(index.downloaded), index.bytes_sent / 1e6
            sys.stdout.write(f"    {size:,.0f} MB of {count} files from {who}\n")
        built_for_cuda = [
            each for each in pip.downloaded if each.startswith("torch") and "+cpu" not in each
        ]
        assert not built_for_cuda, f"torch's build for CUDA was downloaded: {built_for_cuda}"
        return status


if __name__ == "__main__":
    sys.exit(run_before_index(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
