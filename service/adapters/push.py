"""Publishing of a packed adapter to an OCI registry."""

from pathlib import Path

from service.adapters.folder import check_digests, check_listing
from service.adapters.manifest import MANIFEST_FILE, SIGNATURE_FILE
from service.adapters.manifest_yaml import load_manifest
from service.adapters.refusal import AdapterRefused
from service.errors import ConfigurationError
from service.sources.reference import parse_reference


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
