"""Files as an artifact in an OCI registry: a manifest that names one blob for each file.

Follows the OCI distribution and image specifications, 1.1. A file's name is its layer's title, as
`oras push` writes it. Tokens and credentials are those of docker and oras: the client is oras-py.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import requests
from oras.auth import get_auth_backend
from oras.container import Container
from oras.provider import Registry
from pydantic import BaseModel, Field
from requests.adapters import HTTPAdapter

from service.common.files import FILE_NAME, Digest
from service.sources import redirects
from service.sources.reference import MAX_DOCUMENT_BYTES, FileRefused, Reference, parse_document

MANIFEST_TYPE: Literal["application/vnd.oci.image.manifest.v1+json"] = (
    "application/vnd.oci.image.manifest.v1+json"
)
TITLE = "org.opencontainers.image.title"
_FILE_TYPE = "application/octet-stream"
_UNPACK = "io.deis.oras.content.unpack"
_TIMEOUT_SECONDS = (5.0, 30.0)
"""Seconds to connect, and between two packets."""
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


class _Layer(BaseModel):
    media_type: str = Field(alias="mediaType")
    digest: Digest
    size: int = Field(ge=0)
    annotations: dict[str, str] = {}


class _Manifest(BaseModel):
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"] = Field(
        MANIFEST_TYPE, alias="mediaType"
    )
    layers: list[_Layer] = Field(min_length=1, max_length=1000)


class Artifact:
    """The files of one artifact, whose manifest is read at construction.

    The constructor raises `refused` if the manifest is not a plain list of files or does not match
    its digest; OSError, requests' exceptions or ValueError if the registry does not answer.
    """

    def __init__(self, reference: Reference, refused: type[FileRefused]) -> None:
        self._reference = reference
        self._refused = refused
        self._registry = _Client(reference.host)
        self._files = self._read_manifest()

    @property
    def listing(self) -> dict[str, tuple[int, str]]:
        """Size and digest of each file."""
        return {name: (layer.size, layer.digest) for name, layer in self._files.items()}

    def open(self, name: str) -> "Blob":
        """Open one file; FileNotFoundError if the artifact does not hold it."""
        layer = self._files.get(name)
        if layer is None:
            raise FileNotFoundError(name)
        return Blob(self, name, layer)

    def fetch(self, path: str, **headers: str) -> requests.Response:
        """GET a path of the repository as a stream; raises requests' HTTPError for an error."""
        url = f"{self._registry.base}/v2/{self._reference.repository}/{path}"
        response: requests.Response = self._registry.do_request(
            url, "GET", headers=headers, stream=True
        )
        response.raise_for_status()
        return response

    def refused(self, file: str, reason: str, expected: object, found: object) -> FileRefused:
        """The error for a file of this artifact that breaks a rule."""
        return self._refused(self._reference.name, file, reason, expected, found)

    def _read_manifest(self) -> dict[str, _Layer]:
        version = self._reference.version
        with self.fetch(f"manifests/{version}", Accept=MANIFEST_TYPE) as response:
            raw = response.raw.read(MAX_DOCUMENT_BYTES + 1, decode_content=True)
            declared = response.headers.get("Content-Type", "none").partition(";")[0]
        found = _sha256(raw)
        if version.startswith("sha256:") and found != version:
            raise self.refused("manifest", "is not the one of its digest", version, found)
        if declared != MANIFEST_TYPE:
            raise self.refused("manifest", "media type", MANIFEST_TYPE, declared)
        name, refused = self._reference.name, self._refused
        return self._titled(parse_document(raw, name, "manifest", _Manifest, refused))

    def _titled(self, manifest: _Manifest) -> dict[str, _Layer]:
        files: dict[str, _Layer] = {}
        for layer in manifest.layers:
            title = layer.annotations.get(TITLE, "")
            if not re.fullmatch(FILE_NAME, title):
                raise self.refused("manifest", f"a layer's {TITLE}", "a plain file name", title)
            if title in files:
                raise self.refused(title, "its title is given twice", "one layer", "two")
            if _UNPACK in layer.annotations or layer.media_type.endswith(("+gzip", "+zstd")):
                raise self.refused(title, "is packed", "the file as it is", layer.media_type)
            files[title] = layer
        return files


def push(folder: Path, reference: Reference, files: Iterable[str]) -> str:
    """Push files of a folder as an artifact under a tag; returns its manifest's digest.

    Raises OSError, requests' exceptions or ValueError when the registry refuses the files.
    """
    client = _Client(reference.host)
    target = Container("any", registry=reference.host)
    target.namespace, _, target.repository = reference.repository.rpartition("/")
    target.tag = reference.version
    response = client.push(
        target,
        files=[f"{folder / name}:{_FILE_TYPE}" for name in files],
        disable_path_validation=True,
        quiet=True,
    )
    return str(response.headers["Docker-Content-Digest"])


class Blob:
    """A file of an artifact as a stream; a caller that seeks has to check the digest itself."""

    def __init__(self, artifact: Artifact, name: str, layer: _Layer) -> None:
        self._artifact = artifact
        self._name = name
        self._layer = layer
        self._response: requests.Response | None = None
        self._at_start = True

    @property
    def size(self) -> int:
        """Size in bytes, as the artifact states it."""
        return self._layer.size

    def __enter__(self) -> "Blob":
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()

    def seek(self, offset: int) -> int:
        """Begin at a later offset; OSError if the registry does not support it."""
        if offset >= self.size:
            raise OSError(f"offset {offset} is not within {self.size} bytes")
        response = self._artifact.fetch(self._path, Range=f"bytes={offset}-")
        self._response = response
        if response.status_code != requests.codes.partial_content:
            raise OSError("the registry sends whole blobs only")
        self._at_start = False
        return offset

    def read(self, size: int) -> bytes:
        """Return at most so many bytes, b"" at the end.

        Raises FileRefused if a single call returns the whole file and the digest does not match.
        """
        if self._response is None:
            self._response = self._artifact.fetch(self._path)
        chunk: bytes = self._response.raw.read(size)
        if self._at_start and size > self.size:
            self._check(chunk)
        self._at_start = False
        return chunk

    @property
    def _path(self) -> str:
        return f"blobs/{self._layer.digest}"

    def _check(self, whole: bytes) -> None:
        found = _sha256(whole)
        if found != self._layer.digest:
            raise self._artifact.refused(
                self._name, "is not the artifact's blob", self._layer.digest, found
            )


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Client(Registry):  # type: ignore[misc]
    """oras' client, which tries once instead of for two minutes."""

    def __init__(self, host: str) -> None:
        plain = _LOOPBACK.fullmatch(host) is not None  # as docker and oras do
        super().__init__(host, insecure=plain)
        self.base = f"{self.prefix}://{host}"
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Guarded(self.base))
        with self.session.get(f"{self.base}/v2/", stream=True) as answer:
            challenge = answer.headers.get("WWW-Authenticate", "")
        if challenge.lower().startswith("basic"):
            self.auth = get_auth_backend("basic", self.session, plain)
        # oras itself looks for docker's credentials in the home folder only.
        folder = os.environ.get("DOCKER_CONFIG")
        configs = [str(Path(folder) / "config.json")] if folder else []
        self.auth.load_configs(Container("any", registry=host), configs)

    def do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request, and authenticate if asked to; PermissionError without credentials."""
        try:
            response = self._once(*arguments, **options)
            if response.status_code == requests.codes.unauthorized and self._forget_token():
                response = self._once(*arguments, **options)
        except (ValueError, AttributeError) as error:  # oras raises these if it has no credentials
            raise PermissionError(f"{self.hostname} wants credentials") from error
        return response

    def _once(self, *arguments: Any, **options: Any) -> requests.Response:
        response: requests.Response = Registry.do_request.__wrapped__(self, *arguments, **options)
        return response

    def _forget_token(self) -> bool:
        # oras answers a refused token, an expired one for instance, with the same token.
        held = getattr(self.auth, "token", None)
        if held:
            self.auth.token = None
        return bool(held)


class _Guarded(HTTPAdapter):  # type: ignore[misc]
    """An HTTP adapter with a timeout, which sends only to allowed hosts and login servers."""

    def __init__(self, registry: str) -> None:
        super().__init__()
        self._registry = registry

    def send(
        self, request: requests.PreparedRequest, *arguments: Any, **options: Any
    ) -> requests.Response:
        redirects.check(self._registry, str(request.url))
        return super().send(request, *arguments, **options | {"timeout": _TIMEOUT_SECONDS})
