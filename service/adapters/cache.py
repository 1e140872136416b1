"""Shared locks on cache entries, so that no entry is removed while a service may read it."""

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from service.adapters.folder import MAX_FOLDER_BYTES, MAX_SIGNATURE_BYTES, check_listing
from service.adapters.formats import AdapterRefused
from service.adapters.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest
from service.adapters.manifest_yaml import (
    MAX_MANIFEST_BYTES,
    load_manifest,
    parse_manifest,
    read_manifest,
)
from service.adapters.proof_record import FOLDER
from service.common.files import file_digest, sync, write_atomically
from service.errors import ConfigurationError
from service.sources.download import PART, Download, read_bounded
from service.sources.source import Source, SourceMissing, SourceUnreachable, parse_source


class Holds:
    """Shared locks of this process on cache entries, with one lock file per entry.

    An entry stays locked until `keep` is called without its name, or until this process and its
    forks have ended. A lock file's mtime is when its entry was last locked or released.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}
        self._guard = threading.Lock()

    def take(self, digest: str) -> None:
        """Lock an entry, even before it exists; waits while another process removes it.

        Does nothing if no lock file can be made: no process prunes such a cache.
        """
        with self._guard, suppress(OSError):
            if digest not in self._held:
                self._folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._file(digest), os.O_RDONLY | os.O_CREAT, 0o644)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                self._held[digest] = descriptor
            os.utime(self._held[digest])

    def keep(self, digests: Collection[str]) -> None:
        """Release the locks of all other entries."""
        with self._guard:
            for digest in self._held.keys() - set(digests):
                descriptor = self._held.pop(digest)
                with suppress(OSError):
                    os.utime(descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    @contextmanager
    def unheld(self, digest: str, seconds: float) -> Iterator[bool]:
        """Yield True if no process has locked the entry for `seconds`; during the block none can.

        Raises OSError if this process may not write the lock file.
        """
        descriptor = os.open(self._file(digest), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            age = time.time() - os.fstat(descriptor).st_mtime
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield age >= seconds
        finally:
            os.close(descriptor)

    def _file(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")


_LOG = logging.getLogger(__name__)
_BLOCK_BYTES = 8 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CachedAdapter:
    """An entry of the cache: its folder, and the manifest in it."""

    folder: Path
    manifest: Manifest


class AdapterCache:
    """A content-addressed cache of adapters below one folder.

    The files of one adapter may take `max_bytes` in total. A process waits up to `lock_timeout`
    seconds for another process that fetches the same adapter.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int = MAX_FOLDER_BYTES,
        lock_timeout: float = 600.0,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._lock_timeout = lock_timeout
        self._block_bytes = block_bytes
        self._holds = Holds(root / "uses")

    def resolve(
        self, uri: str, *, digest: str | None = None, offline: bool = False
    ) -> CachedAdapter:
        """Return the adapter at an address as a folder on this machine, fetching what is missing.

        With `digest`, an entry of that digest is taken without contacting the source, and a source
        that now holds another digest is refused. With `offline` the source is never contacted, and
        neither is the Hub for an address with a commit, whose files cannot change. If a source does
        not answer, the version last fetched from the address is used, with a warning in the log.
        Raises ConfigurationError: AdapterRefused, SourceMissing, SourceUnreachable, if another
        process holds the lock for too long, or if the cache cannot be written. Blocks. Checks
        digests only; `verify` does the rest. No process prunes the entry until this process
        releases it.
        """
        source = parse_source(uri, AdapterRefused)
        if digest and not _DIGEST.fullmatch(digest):
            raise ConfigurationError(f"{uri}: expected digest sha256:<64 hex>, found {digest}")
        held = self._entry(digest) if digest else self._last(source)
        if held and (digest or source.immutable or offline):
            return held
        if offline:
            raise SourceUnreachable(f"{uri}: offline, and the cache does not hold it")
        try:
            raw = _read_manifest(source)
        except SourceUnreachable as error:
            if held is None:
                raise
            _LOG.warning("%s; using what it held last", error)
            return held
        manifest = parse_manifest(raw, source=source.name)
        if digest and manifest.digest != digest:
            raise AdapterRefused(
                manifest.name, MANIFEST_FILE, "is not the pinned one", digest, manifest.digest
            )
        try:
            folder = self._fetch(source, manifest, raw)
            self._remember(source, manifest.digest)
        except OSError as error:
            raise ConfigurationError(
                f"adapter {manifest.name}: adapter_cache.path {self._root} cannot be used: {error}"
            ) from error
        return CachedAdapter(folder, manifest)

    def signature(self, uri: str, digest: str, *, offline: bool = False) -> Path | None:
        """Return the path of the signature of an adapter at an address; None if it has none.

        If `offline`, or if the source does not answer, this is the last known signature of the
        digest. Raises ConfigurationError when the cache cannot be written.
        """
        kept = self._path("signatures", digest)
        try:
            if not offline:
                self._keep_signature(parse_source(uri, AdapterRefused), kept)
        except SourceUnreachable as error:
            _LOG.warning("%s; using the signature that it held last", error)
        except OSError as error:
            raise ConfigurationError(f"adapter_cache.path {self._root}: {error}") from error
        return kept if kept.is_file() else None

    def entries(self) -> list[Path]:
        """Return the folders of all entries."""
        return sorted(self._root.glob("entries/*/"))

    def prune(self, keep: Collection[str], unused_s: float) -> None:
        """Unlock all digests but `keep`; delete entries unlocked for `unused_s` seconds."""
        self._holds.keep(keep)
        for kind in ("entries", "partial"):
            for folder in self._root.glob(f"{kind}/*/"):
                try:
                    with self._holds.unheld(folder.name, unused_s) as unused:
                        if unused:
                            shutil.rmtree(folder)
                            self._path("signatures", folder.name).unlink(missing_ok=True)
                            (self._root / FOLDER / f"{folder.name}.json").unlink(missing_ok=True)
                            _LOG.info("adapter cache: removed %s/%s", kind, folder.name)
                except OSError as error:
                    _LOG.warning("adapter cache: %s/%s stays: %s", kind, folder.name, error)

    def _path(self, kind: str, digest: str) -> Path:
        return self._root / kind / digest.removeprefix("sha256:")

    def _entry(self, digest: str) -> CachedAdapter | None:
        """The entry of a digest, if it holds exactly its files and every byte is right."""
        self._holds.take(digest)
        folder = self._path("entries", digest)
        try:
            manifest = load_manifest(folder)
            check_listing(manifest.name, folder, manifest.files)
            whole = manifest.digest == digest and all(
                file_digest(folder / name) == expected for name, expected in manifest.files.items()
            )
        except (AdapterRefused, OSError):
            return None
        return CachedAdapter(folder, manifest) if whole else None

    def _fetch(self, source: Source, manifest: Manifest, raw: bytes) -> Path:
        digest = manifest.digest
        entry, partial = self._path("entries", digest), self._path("partial", digest)
        lock = self._path("locks", digest).with_suffix(".lock")
        for folder in (entry.parent, partial.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(lock, timeout=self._lock_timeout):
                if self._entry(digest) is None:
                    self._fill(source, manifest, raw, partial)
                    # The present entry is damaged: only complete ones are renamed into place.
                    shutil.rmtree(entry, ignore_errors=True)
                    partial.rename(entry)
                    sync(entry.parent)
        except Timeout as error:
            raise ConfigurationError(
                f"adapter {manifest.name}: another process has been fetching it for "
                f"{self._lock_timeout:g} s"
            ) from error
        return entry

    def _fill(self, source: Source, manifest: Manifest, raw: bytes, partial: Path) -> None:
        if source.local_folder is not None:
            check_listing(manifest.name, source.local_folder, manifest.files)
        partial.mkdir(exist_ok=True)
        wanted = {each + end for each in manifest.files for end in ("", PART)}
        for stray in partial.iterdir():
            if stray.name not in wanted:
                stray.unlink()  # left by a write that a kill interrupted
        fetch = Download(source, manifest.name, partial, self._block_bytes)
        left = self._max_bytes
        for name, expected in manifest.files.items():
            left -= fetch.file(name, expected, left)
        write_atomically(partial / MANIFEST_FILE, raw)
        sync(partial)

    def _keep_signature(self, source: Source, kept: Path) -> None:
        """Copy the source's signature to the file `kept`, or delete this file if there is none."""
        try:
            raw = read_bounded(source, SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
        except SourceMissing:
            kept.unlink(missing_ok=True)
            return
        if len(raw) > MAX_SIGNATURE_BYTES:
            limit = f"at most {MAX_SIGNATURE_BYTES} bytes"
            raise AdapterRefused(source.name, SIGNATURE_FILE, "is too large", limit, "more")
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, raw)

    def _ref(self, source: Source) -> Path:
        key = f"{source.protocol} {source.root}"
        return self._root / "refs" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _remember(self, source: Source, digest: str) -> None:
        ref = self._ref(source)
        ref.parent.mkdir(exist_ok=True)
        write_atomically(ref, json.dumps({"uri": source.uri, "digest": digest}).encode())

    def _last(self, source: Source) -> CachedAdapter | None:
        """The entry that an address held last, if it is still whole."""
        try:
            digest = str(json.loads(self._ref(source).read_bytes())["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self._entry(digest)


def _read_manifest(source: Source) -> bytes:
    if source.local_folder is not None:
        return read_manifest(source.local_folder)
    return read_bounded(source, MANIFEST_FILE, MAX_MANIFEST_BYTES)
