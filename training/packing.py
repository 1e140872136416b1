"""Adapters as packages: the manifest that is written into a folder, its signature, and the push."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from service.adapters.folder import check_digests, check_listing, list_files, signing_library
from service.adapters.formats import AdapterRefused
from service.adapters.manifest import MANIFEST_FILE, SIGNATURE_FILE
from service.adapters.manifest_yaml import build_manifest, load_manifest, write_manifest
from service.adapters.verify import VerifiedAdapter, verify_manifest
from service.common.files import file_digest
from service.errors import ConfigurationError
from service.models.base_model import ServedBase
from service.sources.reference import parse_reference

_FILLED = ("schema", "base_model", "files", "fingerprint", "confidence", "guard", "reference")


def pack(
    folder: Path, base: ServedBase, draft: Mapping[str, object], *, overwrite: bool = False
) -> VerifiedAdapter:
    """Write `adapter.yaml` into a folder of PEFT files, without an engine that proves the adapter.

    Verifies the folder by `check_draft`; `OfflineModel.pack` also proves the adapter. The write is
    atomic.
    """
    checked = check_draft(folder, base, draft, overwrite=overwrite)
    write_manifest(folder, checked.manifest)
    return checked


def check_draft(
    folder: Path, base: ServedBase, draft: Mapping[str, object], *, overwrite: bool = False
) -> VerifiedAdapter:
    """Verify the adapter that a draft and a folder of PEFT files would make; nothing is written.

    `draft` is a manifest without schema, base_model, files and fingerprint, which are filled in
    (`files` lists every file of the folder), and without confidence, guard and reference, which the
    `calibrate` commands write later. Raises AdapterRefused, also for an existing manifest unless
    `overwrite`.
    """
    adapter = str(draft.get("name", folder.name))
    refuse = partial(AdapterRefused, adapter, MANIFEST_FILE)
    for key in _FILLED:
        if key in draft:
            raise refuse(f"field {key}", "no such field, because packing fills it in", "a value")
    if (folder / MANIFEST_FILE).exists() and not overwrite:
        raise refuse("exists", "no file, or --overwrite", "a file")
    files = {name: file_digest(folder / name) for name in sorted(list_files(adapter, folder))}
    base_model = {"name": base.name, "digest": base.digest}
    filled = {**draft, "schema": 1, "base_model": base_model, "files": files}
    manifest = build_manifest(filled, source=folder.name)
    return verify_manifest(folder, manifest, base)


def sign(folder: Path, key: Path, password: str | None = None) -> Path:
    """Sign an adapter's folder by a private key in PEM (P-256, P-384 or P-521); returns the file.

    Raises ConfigurationError if the key cannot be used, AdapterRefused without a manifest.
    """
    load_manifest(folder)
    library = signing_library()
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


def push(folder: Path, address: str) -> str:
    """Push a folder's files, and its signature, to an oci:// tag; returns the address by digest.

    Raises AdapterRefused if the folder differs from its manifest, ConfigurationError for an invalid
    address or one by digest, and when the registry refuses the files.
    """
    reference = parse_reference(address, AdapterRefused.kind)
    if reference.is_digest:
        raise ConfigurationError(f"{address}: expected a tag to push to, found a digest")
    manifest = load_manifest(folder)
    check_listing(manifest.name, folder, manifest.files)
    check_digests(manifest.name, folder, manifest.files)
    names = [MANIFEST_FILE, *manifest.files]
    if (folder / SIGNATURE_FILE).exists():
        names.append(SIGNATURE_FILE)
    try:
        from service.sources import artifact

        digest = artifact.push(folder, reference, names)
    except Exception as error:  # the client has exceptions of its own
        raise ConfigurationError(f"{address}: {type(error).__name__}: {error}") from error
    return f"oci://{reference.host}/{reference.repository}@{digest}"
