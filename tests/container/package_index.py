"""Package indexes over HTTP, of wheels in folders, and wheels to put there."""

import hashlib
import ssl
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote, unquote

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
    """An index of a folder's wheels, and the names of the wheels that were downloaded.

    As a proxy of TLS it is every host that a client asks for, with a certificate that `authority`
    signs.
    """

    folder: Path
    authority: Path
    url: str = ""
    downloaded: list[str] = field(default_factory=list)


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
        name = unquote(self.path.rstrip("/").rsplit("/", 1)[-1])
        wheel = self.state.folder / name
        if wheel.suffix == ".whl" and wheel.is_file():
            content, kind = wheel.read_bytes(), "application/zip"
            if with_body:
                self.state.downloaded.append(name)
        else:
            links = [
                f'<a href="{quote(each.name)}">{each.name}</a>'
                for each in self.state.folder.glob(f"{name.replace('-', '_')}-*.whl")
            ]
            content, kind = "".join(links).encode(), "text/html"
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)


@contextmanager
def package_index(folder: Path, authority: Path) -> Iterator[PackageIndex]:
    """Serve the wheels of a folder."""
    index = PackageIndex(folder, authority)
    with listening(_Handler, index) as host:
        index.url = f"http://{host}"
        yield index
