"""Packing of a PEFT folder as an adapter: the manifest is filled in, checked and written."""

from collections.abc import Mapping
from pathlib import Path

from service.adapters.folder import list_files
from service.adapters.manifest import MANIFEST_FILE, Manifest
from service.adapters.manifest_yaml import build_manifest, dump_manifest
from service.adapters.refusal import AdapterRefused
from service.adapters.verify import VerifiedAdapter, verify_manifest
from service.common.files import file_digest, write_atomically
from service.models.base_model import ServedBase

_FILLED = ("schema", "base_model", "files", "fingerprint", "confidence", "guard", "reference")


def pack(
    folder: Path, base: ServedBase, draft: Mapping[str, object], *, overwrite: bool = False
) -> VerifiedAdapter:
    """Write `adapter.yaml` into a folder of PEFT files, without an engine and so unproven.

    See `check_draft`, which comes first, and `service.adapters.pack_proven`. The write is atomic.
    """
    checked = check_draft(folder, base, draft, overwrite=overwrite)
    write_manifest(folder, checked.manifest)
    return checked


def check_draft(
    folder: Path, base: ServedBase, draft: Mapping[str, object], *, overwrite: bool = False
) -> VerifiedAdapter:
    """The adapter that a folder of PEFT files and a draft make, verified; nothing is written.

    `draft` is the manifest without schema, base_model, files and fingerprint, which are filled in
    (every file in the folder is listed), and without confidence, guard and reference, which the
    `calibrate` commands write. Raises AdapterRefused; an existing manifest is refused unless
    `overwrite`.
    """
    adapter = str(draft.get("name", folder.name))
    for key in _FILLED:
        if key in draft:
            raise AdapterRefused(
                adapter,
                MANIFEST_FILE,
                f"field {key}",
                "no such field, because packing fills it in",
                "a value",
            )
    if (folder / MANIFEST_FILE).exists() and not overwrite:
        raise AdapterRefused(adapter, MANIFEST_FILE, "exists", "no file, or --overwrite", "a file")
    files = {name: file_digest(folder / name) for name in sorted(list_files(adapter, folder))}
    filled = {
        "schema": 1,
        "base_model": {"name": base.name, "digest": base.digest},
        "files": files,
    }
    manifest = build_manifest({**draft, **filled}, source=folder.name)
    return verify_manifest(folder, manifest, base)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `adapter.yaml`, whole or not at all."""
    write_atomically(folder / MANIFEST_FILE, dump_manifest(manifest).encode())
