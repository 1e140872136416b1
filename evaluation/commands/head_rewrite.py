"""Changes of a packed head's manifest, and of its digest in the list of files."""

from pathlib import Path

from service.adapters.heads import MANIFEST_FILE, HeadManifest, HeadRefused
from service.common.files import file_digest
from service.models.file_list import LIST_FILE, FileList, read_file_list


def rewrite_manifest(folder: Path, head: HeadManifest) -> None:
    """Write another manifest and its digest; HeadRefused for a folder without a list of files."""
    listed = read_file_list(folder)
    if listed is None:
        raise HeadRefused(
            head.name, LIST_FILE, "is missing", "the digests that finetune wrote", "nothing"
        )
    head.write(folder)
    digest = file_digest(folder / MANIFEST_FILE)
    FileList(source=listed.source, files={**listed.files, MANIFEST_FILE: digest}).write(folder)
