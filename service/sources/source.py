"""Sources: an address names a folder of files, read through fsspec or oras.

    /models/sentiment, file:///models/sentiment    a local folder
    hf://org/name@revision[/folder]                the Hugging Face Hub; the revision is required
    s3://bucket/folder, gs://..., az://...         object stores
    https://host/folder                            any web server
    oci://host/repository:tag, ...@sha256:<64 hex> an artifact in an OCI registry

Credentials come from each client's own environment, never from the address. Redirects must keep the
rules of `redirects`.
"""

import re
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast
from urllib.parse import quote, urlsplit

import aiohttp
import fsspec
from fsspec.implementations.local import LocalFileSystem

from service.errors import ConfigurationError
from service.sources import redirects
from service.sources.reference import FileRefused, parse_reference

if TYPE_CHECKING:
    from service.sources.artifact import Artifact

PROTOCOLS = ("file", "hf", "s3", "gs", "az", "https", "oci")
_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[^/@]+)(?P<folder>(?:/[^/@]+)*)/?")
_QUERY = re.compile(r"\?[^\s'\"]*=[^\s'\"]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_VERSIONS = ("blob_id", "ETag", "etag", "md5Hash", "content_md5", "Last-Modified", "mtime")
"""Names under which the clients give a file's version."""
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 30,
            "retries": {"max_attempts": 3, "mode": "standard"},
        }
    },
    "gs": {"requests_timeout": 30},
    "az": {"connection_timeout": 5, "read_timeout": 30},
}
"""Client options by protocol: an unreachable store must not delay the start for minutes."""


class SourceMissing(ConfigurationError):
    """The source answered that the file does not exist or may not be read."""


class SourceUnreachable(ConfigurationError):
    """The source did not answer, or its client is not installed."""


class Listed(NamedTuple):
    """A file at a source: its size in bytes, and its digest if the source states one.

    `version`, if the source has one, is a text that changes whenever the bytes change.
    """

    size: int | None
    digest: str | None
    version: str | None


@dataclass(frozen=True)
class Source:
    """A folder somewhere. `immutable` means that its bytes cannot change.

    `refused` is the error class for a file that breaks a rule; each kind of files has its own.
    """

    uri: str
    protocol: str
    root: str
    immutable: bool
    refused: type[FileRefused]

    @property
    def local_folder(self) -> Path | None:
        """The folder's path, if it is on this machine."""
        return Path(self.root) if self.protocol == "file" else None

    @property
    def name(self) -> str:
        """A name to show while the owner's own is not known: without tag, revision or digest."""
        if self.protocol == "oci":
            return parse_reference(self.uri, self.refused.kind).name
        last = self.root.rpartition("/")[2]
        return last.partition("@")[0] if self.protocol == "hf" else last

    def open(self, name: str, block_bytes: int) -> AbstractContextManager[BinaryIO]:
        """Open one file for reading; `explain` translates its errors."""
        if self.protocol == "oci":
            return cast(AbstractContextManager[BinaryIO], self._artifact.open(name))
        file = self._filesystem.open(f"{self.root}/{name}", "rb", block_size=block_bytes)
        return cast(AbstractContextManager[BinaryIO], file)

    def require_client(self) -> None:
        """Raise SourceUnreachable if the client of its protocol is not installed."""
        try:
            fsspec.get_filesystem_class(self.protocol)
        except ImportError as error:
            raise SourceUnreachable(f"{self.uri}: {error}") from error

    def part(self, name: str, start: int, end: int) -> bytes:
        """The bytes of a file from `start` to before `end`; `explain` translates its errors."""
        return cast(bytes, self._filesystem.cat_file(f"{self.root}/{name}", start=start, end=end))

    def put(self, path: Path, name: str, block_bytes: int) -> None:
        """Upload one local file, a block at a time; `explain` translates its errors.

        An object store shows the file when it is complete, or not at all.
        """
        target = self._filesystem.open(f"{self.root}/{name}", "wb", block_size=block_bytes)
        with path.open("rb") as content, target:
            shutil.copyfileobj(content, target, block_bytes)

    def remove(self, name: str) -> None:
        """Remove one file if it is there; `explain` translates its errors."""
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(f"{self.root}/{name}")

    def listing(self) -> dict[str, Listed] | None:
        """Every file below the folder by relative path; None where the source cannot list.

        `explain` translates its errors.
        """
        if self.protocol == "https":
            return None
        if self.protocol == "oci":
            return {
                name: Listed(size, digest, digest)
                for name, (size, digest) in self._artifact.listing.items()
            }
        folder = self._filesystem._strip_protocol(self.root).rstrip("/")
        return {
            path.removeprefix(f"{folder}/"): _listed(entry)
            for path, entry in self._filesystem.find(folder, detail=True).items()
            if entry["type"] == "file"
        }

    def look(self, name: str) -> Listed | None:
        """The listing of one file, or None if it is not there; raises SourceUnreachable."""
        try:
            return _listed(self._filesystem.info(f"{self.root}/{name}"))
        except Exception as error:  # each client has exceptions of its own
            explained = self.explain(name, error)
            if isinstance(explained, SourceMissing):
                return None
            raise explained from error

    @cached_property
    def _artifact(self) -> "Artifact":
        from service.sources.artifact import Artifact

        return Artifact(parse_reference(self.uri, self.refused.kind), self.refused)

    @cached_property
    def _filesystem(self) -> Any:
        if self.protocol == "file":
            return LocalFileSystem()
        return redirects.filesystem(self.protocol, OPTIONS.get(self.protocol, {}))

    def explain(self, name: str, error: Exception) -> ConfigurationError:
        """Translate an error of a client into SourceMissing or SourceUnreachable.

        A ConfigurationError is returned unchanged.
        """
        if (redirect := redirects.refused_in(error)) is not None:
            return SourceUnreachable(f"{self.uri}: {name}: {redirect}")
        if isinstance(error, ConfigurationError):
            return error
        if _is_absent(error):
            return SourceMissing(f"{self.uri}: expected {name}, found none that may be read")
        if isinstance(error, ImportError):
            return SourceUnreachable(f"{self.uri}: {error}")
        # A store's address may be signed, and its query gives access to the file.
        told = _QUERY.sub("?...", str(error))
        return SourceUnreachable(f"{self.uri}: {name}: {type(error).__name__}: {told}")


def parse_source(uri: str, refused: type[FileRefused]) -> Source:
    """Parse an address; raises ConfigurationError naming the part that is wrong.

    `refused` is the error class for files of this kind that break a rule.
    """
    kind = refused.kind
    if "://" not in uri:
        return _local(Path(uri), uri, refused)
    parts = urlsplit(uri)
    if parts.scheme not in PROTOCOLS:
        raise ConfigurationError(
            f"{kind} source {uri}: expected a folder or one of "
            f"{', '.join(f'{p}://' for p in PROTOCOLS)}, found {parts.scheme}://"
        )
    if ".." in parts.path.split("/"):
        raise ConfigurationError(f"{kind} source {uri}: expected no '..' in the path")
    if parts.scheme == "file":
        return _local(Path(parts.path), uri, refused)
    has_user = "@" in parts.netloc and parts.scheme != "hf"
    if parts.query or parts.fragment or has_user:
        # Not shown, because it may be a secret.
        raise ConfigurationError(
            f"{kind} source {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}: "
            "expected no user, query or fragment; credentials come from the environment"
        )
    if parts.scheme == "hf":
        return _hub(uri, refused)
    if parts.scheme == "oci":
        return Source(
            uri, "oci", uri, immutable=parse_reference(uri, kind).is_digest, refused=refused
        )
    if not parts.netloc:
        raise ConfigurationError(f"{kind} source {uri}: expected a bucket or host")
    return Source(uri, parts.scheme, uri.rstrip("/"), immutable=False, refused=refused)


def _local(folder: Path, uri: str, refused: type[FileRefused]) -> Source:
    root = str(folder.expanduser().resolve())
    return Source(uri, "file", root, immutable=False, refused=refused)


def _hub(uri: str, refused: type[FileRefused]) -> Source:
    found = _HUB.fullmatch(uri)
    if found is None:
        raise ConfigurationError(
            f"{refused.kind} source {uri}: expected hf://org/name@revision, "
            "the revision a commit, tag or branch"
        )
    revision = quote(found["revision"], safe="%")
    return Source(
        uri,
        "hf",
        f"hf://{found['repo']}@{revision}{found['folder']}",
        immutable=_COMMIT.fullmatch(revision) is not None,
        refused=refused,
    )


def _listed(entry: Mapping[str, Any]) -> Listed:
    lfs = entry.get("lfs")  # of the Hub, whose other files are small
    size, versions = entry.get("size"), [entry.get(name) for name in _VERSIONS]
    return Listed(
        None if size is None else int(size),
        None if lfs is None else f"sha256:{lfs['sha256']}",
        next((str(version) for version in versions if version), None),
    )


def _is_absent(error: Exception) -> bool:
    # fsspec's HTTP client says "not found" for every failure; the cause has the real error.
    status = _status(error) or _status(error.__cause__)
    if status is not None:
        return status in (401, 403, 404, 410)
    if isinstance(error.__cause__, aiohttp.ClientError | TimeoutError):
        return False
    return isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)


def _status(error: BaseException | None) -> int | None:
    """The HTTP status an aiohttp or httpx error carries."""
    status = getattr(error, "status", None)
    status = status or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
