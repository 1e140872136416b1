"""Adapters as packages: the manifest and the model card that are written, and the push of both."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from service.adapters.folder import check_digests, check_listing, list_files
from service.adapters.formats import AdapterRefused
from service.adapters.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest
from service.adapters.manifest_yaml import build_manifest, dump_manifest, load_manifest
from service.adapters.verify import VerifiedAdapter, verify_manifest
from service.common.files import file_digest, write_atomically
from service.errors import ConfigurationError
from service.models.base_model import ServedBase
from service.sources.reference import parse_reference

CARD_FILE = "README.md"


def with_section(folder: Path, manifest: Manifest, title: str, body: str) -> dict[str, str]:
    """Write a section in place of the one with this title, else at the end of the card.

    Returns the manifest's `files` with the card's new digest, which the caller has to write. `body`
    holds no heading. Raises ConfigurationError for a card that cannot be read or written.
    """
    file = folder / CARD_FILE
    try:
        card = file.read_text(encoding="utf-8") if file.exists() else f"# {manifest.name}\n"
        write_atomically(file, section_in(card, title, body).encode())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: the card cannot be read or written") from error
    return {**manifest.files, CARD_FILE: file_digest(file)}


def section_in(card: str, title: str, body: str) -> str:
    """The card with a level-2 section of this title, in place of an earlier one or at the end."""
    section = f"## {title}\n\n{body.strip()}\n"
    there = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if there.search(card) is None:
        return f"{card.rstrip()}\n\n{section}"
    return there.sub(lambda found: section if found.end() == len(card) else f"{section}\n", card)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_FILLED = ("schema", "base_model", "files", "fingerprint", "confidence", "guard", "reference")


def pack(
    folder: Path, base: ServedBase, draft: Mapping[str, object], *, overwrite: bool = False
) -> VerifiedAdapter:
    """Write `adapter.yaml` into a folder of PEFT files, without an engine that proves the adapter.

    Verifies the folder by `check_draft`; `pack_proven` also proves the adapter. The write is
    atomic.
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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `adapter.yaml` atomically."""
    write_atomically(folder / MANIFEST_FILE, dump_manifest(manifest).encode())


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
