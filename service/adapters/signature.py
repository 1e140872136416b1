"""Signatures of adapters, in the format of OpenSSF Model Signing 1.0.

A signature is a Sigstore bundle beside the adapter's files. It holds the digest of each file, the
manifest's too, signed by an elliptic-curve key; the manifest itself lists the digests of all other
files. The package `model-signing` writes and checks them, and so does its own program:

    model_signing verify key FOLDER --signature FOLDER/adapter.sig --public_key release.pem
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.adapters.manifest import MANIFEST_FILE, SIGNATURE_FILE
from service.adapters.manifest_yaml import load_manifest
from service.adapters.refusal import AdapterRefused
from service.errors import ConfigurationError

MAX_SIGNATURE_BYTES = 1 << 20
_MISSING = "signatures need the package model-signing: pip install 'llm-service[signing]'"


def sign(folder: Path, key: Path, password: str | None = None) -> Path:
    """Sign an adapter's folder by a private key in PEM (P-256, P-384 or P-521); returns the file.

    Raises ConfigurationError if the key cannot be used, AdapterRefused without a manifest.
    """
    load_manifest(folder)
    library = _library()
    target = folder / SIGNATURE_FILE
    try:
        config = library.signing.Config().use_elliptic_key_signer(
            private_key=key, password=password and password.encode()
        )
        hashing = library.hashing.Config().set_ignored_paths(
            paths=[SIGNATURE_FILE], ignore_git_paths=False
        )
        config.set_hashing_config(hashing).sign(folder, target)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{key}: cannot sign: {error}") from error
    return target


def trusted_keys(path: Path) -> list[Path]:
    """The public keys at a path, a file or a folder of `*.pem`.

    Raises ConfigurationError if there is none or one cannot be read.
    """
    keys = sorted(path.glob("*.pem")) if path.is_dir() else [path]
    if not keys:
        raise ConfigurationError(f"adapter_trust.keys: {path}: expected *.pem files, found none")
    verifying = _library().verifying
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
    if signature is None:
        if require:
            raise AdapterRefused(
                adapter, SIGNATURE_FILE, "is missing", "a signature by a trusted key", "nothing"
            )
        return None
    reasons = []
    for key in keys:
        try:
            config = _library().verifying.Config().use_elliptic_key_verifier(public_key=key)
            config.verify(folder, signature)
        except Exception as error:  # the library has many, of its own and its parsers'
            reasons.append(f"{key.stem}: {type(error).__name__} {error}".strip()[:200])
        else:
            _check_coverage(adapter, signature)
            return key.stem
    raise AdapterRefused(
        adapter,
        SIGNATURE_FILE,
        "is not trusted",
        "a signature by a trusted key",
        "; ".join(reasons),
    )


def _check_coverage(adapter: str, signature: Path) -> None:
    """Refuse a signature, already found to be genuine, that leaves the manifest out."""
    bundle = json.loads(signature.read_bytes())
    signed = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    names = [each["name"] for each in signed["predicate"]["resources"]]
    if MANIFEST_FILE not in names:
        raise AdapterRefused(
            adapter, SIGNATURE_FILE, "does not cover the manifest", MANIFEST_FILE, names[:5]
        )


def _library() -> Any:
    try:
        import model_signing
    except ImportError as error:
        raise ConfigurationError(_MISSING) from error
    return model_signing
