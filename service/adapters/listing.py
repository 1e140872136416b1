"""The adapters in a folder of adapters, without verifying them."""

from dataclasses import dataclass
from pathlib import Path

from service.adapters.manifest import MANIFEST_FILE, Manifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.refusal import AdapterRefused


@dataclass(frozen=True, slots=True)
class ListedAdapter:
    """One folder: its manifest, or the error of reading it."""

    folder: Path
    manifest: Manifest | None
    error: str | None


def list_adapters(root: Path) -> list[ListedAdapter]:
    """Return every folder directly below `root` that holds an adapter.yaml, by folder name."""
    return [_read(path.parent) for path in sorted(root.glob(f"*/{MANIFEST_FILE}"))]


def _read(folder: Path) -> ListedAdapter:
    try:
        return ListedAdapter(folder, load_manifest(folder), None)
    except AdapterRefused as error:
        return ListedAdapter(folder, None, str(error))
