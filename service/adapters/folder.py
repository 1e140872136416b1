"""Rules for the content of an adapter's folder."""

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from service.adapters.formats import AdapterRefused
from service.adapters.manifest import MANIFEST_FILE, SIGNATURE_FILE
from service.common.files import file_digest
from service.errors import ConfigurationError
from service.sources.reference import Refuse

MAX_FOLDER_BYTES = 4 << 30
# Formats that run code when they are read.
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_MAX_ENTRIES = 1000


def list_files(adapter: str, folder: Path) -> dict[str, int]:
    """Return the size of every file beside the manifest and its signature.

    Raises AdapterRefused for a symlink, a folder or special file, and for a pickle by its name.
    Symlinks are refused wherever they point, because their target can change after this check.
    """
    refuse = partial(AdapterRefused, adapter)
    sizes: dict[str, int] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                _check_entry(refuse, entry)
                if entry.name not in (MANIFEST_FILE, SIGNATURE_FILE):
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
                if len(sizes) > _MAX_ENTRIES:
                    raise refuse(".", "too many files", f"at most {_MAX_ENTRIES}", "more")
    except OSError as error:
        raise refuse(".", "cannot be listed", "a folder", error.strerror) from error
    return sizes


def _check_entry(refuse: Callable[..., AdapterRefused], entry: "os.DirEntry[str]") -> None:
    name = entry.name
    if entry.is_symlink():
        raise refuse(name, "is a symlink", "a regular file", f"-> {os.readlink(entry.path)}")
    if not entry.is_file(follow_symlinks=False):
        kind = "a folder" if entry.is_dir(follow_symlinks=False) else "a special file"
        raise refuse(name, "is not a file", "a regular file", kind)
    if name.lower().endswith(_PICKLES):
        suffix = Path(name).suffix
        raise refuse(name, "may hold a pickle", "weights in safetensors only", suffix)


def check_listing(adapter: str, folder: Path, files: Mapping[str, str]) -> None:
    """Refuse a folder that does not hold exactly the listed files; raises AdapterRefused."""
    refuse, sizes = partial(AdapterRefused, adapter), list_files(adapter, folder)
    for name in sorted(sizes.keys() | files.keys()):
        if name not in files:
            raise refuse(name, "is not listed", f"only files of {MANIFEST_FILE}", "an extra file")
        if name not in sizes:
            raise refuse(name, "is missing", "a file", "nothing")
        if sizes[name] == 0:
            raise refuse(name, "is empty", "at least 1 byte", "0 bytes")
    total = sum(sizes.values())
    if total > MAX_FOLDER_BYTES:
        raise refuse(".", "is too large", f"at most {MAX_FOLDER_BYTES} bytes", f"{total} bytes")


def check_digests(adapter: str, folder: Path, files: Mapping[str, str]) -> None:
    """Refuse a file whose bytes are not those listed; raises AdapterRefused."""
    for name, expected in files.items():
        found = file_digest(folder / name)
        if found != expected:
            raise AdapterRefused(adapter, name, "digest differs", expected, found)


MAX_SIGNATURE_BYTES = 1 << 20


def trusted_keys(path: Path) -> list[Path]:
    """The public keys at a path, a file or a folder of `*.pem`.

    Raises ConfigurationError if there is none or one cannot be read.
    """
    keys = sorted(path.glob("*.pem")) if path.is_dir() else [path]
    if not keys:
        raise ConfigurationError(f"adapter_trust.keys: {path}: expected *.pem files, found none")
    verifying = signing_library().verifying
    for key in keys:
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=key)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"adapter_trust.keys: {key}: expected a public key in PEM (P-256, P-384 or P-521): "
                f"{error}"
            ) from error
    return keys


def check_signature(
    adapter: str, folder: Path, signature: Path | None, keys: Sequence[Path], *, require: bool
) -> str | None:
    """The name of the key, its file's stem, that signed the folder; None if nobody did.

    Reads every byte of the folder. Raises AdapterRefused for a signature by another key or of other
    bytes, and if there is none though one is required.
    """
    refuse = partial(AdapterRefused, adapter, SIGNATURE_FILE)
    if signature is None:
        if require:
            raise refuse("is missing", "a signature by a trusted key", "nothing")
        return None
    reasons = []
    for key in keys:
        try:
            config = signing_library().verifying.Config().use_elliptic_key_verifier(public_key=key)
            config.verify(folder, signature)
        except Exception as error:  # the library has many, of its own and its parsers'
            reasons.append(f"{key.stem}: {type(error).__name__} {error}".strip()[:200])
        else:
            _check_coverage(refuse, signature)
            return key.stem
    raise refuse("is not trusted", "a signature by a trusted key", "; ".join(reasons))


def _check_coverage(refuse: Refuse, signature: Path) -> None:
    """Refuse a signature, already found to be genuine, that leaves the manifest out."""
    bundle = json.loads(signature.read_bytes())
    signed = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    names = [each["name"] for each in signed["predicate"]["resources"]]
    if MANIFEST_FILE not in names:
        raise refuse("does not cover the manifest", MANIFEST_FILE, names[:5])


def signing_library() -> Any:
    """The package that signs and verifies; ConfigurationError if it is not installed."""
    try:
        import model_signing
    except ImportError as error:
        raise ConfigurationError(
            "signatures need the package model-signing: pip install model-signing"
        ) from error
    return model_signing
