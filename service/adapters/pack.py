"""The model card of a packed adapter: sections that are measured after the packing."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from service.adapters.folder import check_digests, check_listing, list_files
from service.adapters.formats import AdapterRefused
from service.adapters.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest
from service.adapters.manifest_yaml import build_manifest, dump_manifest, load_manifest
from service.adapters.proof import Proof, fingerprint_of, prove
from service.adapters.verify import VerifiedAdapter, verify_manifest
from service.common.files import file_digest, write_atomically
from service.engine.protocol import Adapter
from service.errors import ConfigurationError
from service.generation.served_model import ServedModel
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
    """Write `adapter.yaml` atomically."""
    write_atomically(folder / MANIFEST_FILE, dump_manifest(manifest).encode())


async def pack_proven(
    engine: ServedModel,
    folder: Path,
    base: ServedBase,
    draft: Mapping[str, object],
    timeout_s: float,
    *,
    engine_id: int = 1,
    overwrite: bool = False,
) -> tuple[VerifiedAdapter, Proof]:
    """Write `adapter.yaml` with the fingerprint taken on this engine.

    Checks the draft as `check_draft` does; then fingerprint and proof may take `timeout_s` each.
    Raises AdapterRefused before it writes, and EngineDead when the engine ends.
    """
    checked = await asyncio.to_thread(check_draft, folder, base, draft, overwrite=overwrite)
    manifest = checked.manifest
    adapter = Adapter(manifest.name, engine_id, str(folder), manifest.digest)
    async with loaded(engine, adapter):
        fingerprint = await fingerprint_of(engine, adapter, manifest, timeout_s)
        manifest = manifest.model_copy(update={"fingerprint": fingerprint})
        proof = await prove(engine, adapter, manifest, timeout_s)
    assert proof is not None
    write_manifest(folder, manifest)
    return replace(checked, manifest=manifest), proof


@asynccontextmanager
async def loaded(engine: ServedModel, adapter: Adapter) -> AsyncIterator[None]:
    """Load an adapter for the time of a block."""
    await engine.load_adapter(adapter)
    try:
        yield
    finally:
        await engine.unload_adapter(adapter)


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
