"""Verification of a trained head's folder before an engine reads it."""

from pathlib import Path

from service.adapters.golden import ClassificationExample, GoldenRefusal, labelled_examples
from service.adapters.head_manifest import MANIFEST_FILE, HeadManifest, load_manifest
from service.adapters.head_refusal import HeadRefused
from service.models.encoder import EncoderModel
from service.models.file_list import LIST_FILE, check_files, read_file_list


def verified_head(folder: Path, model: EncoderModel, pin: str | None = None) -> HeadManifest | None:
    """The manifest of a head that `finetune` packed; None for an encoder without a manifest.

    `model` is read from config.json and the weights. The digest of every file is checked, unless
    the list of files has the digest `pin`, whose files were checked before. Raises HeadRefused or
    ModelRefused for a file that is not the packed one, labels that are not those of config.json,
    and golden examples that cannot be asked.
    """
    head = load_manifest(folder)
    if head is None:
        return None
    listed = read_file_list(folder)
    if listed is None:
        raise HeadRefused(
            head.name, LIST_FILE, "is missing", "the digests that finetune wrote", "nothing"
        )
    if listed.digest != pin:
        check_files(folder, listed)
    if (head.labels, head.multi_label) != (model.labels, model.multi_label):
        raise HeadRefused(
            head.name,
            MANIFEST_FILE,
            "labels are not those of config.json",
            _told(model.labels, multi_label=model.multi_label),
            _told(head.labels, multi_label=head.multi_label),
        )
    if head.golden.file not in listed.files:
        raise HeadRefused(
            head.name, MANIFEST_FILE, "golden.file", f"a file of {LIST_FILE}", head.golden.file
        )
    if len(golden_examples(folder, head)) < len(head.fingerprint):
        raise HeadRefused(
            head.name, MANIFEST_FILE, "fingerprint", "a golden example for each row", "fewer"
        )
    return head


def golden_examples(folder: Path, head: HeadManifest) -> tuple[ClassificationExample, ...]:
    """The golden examples of a head; HeadRefused for one that cannot be asked."""
    refuse = GoldenRefusal(head.name, head.golden.file, HeadRefused)
    return labelled_examples(folder, refuse, head.labels, multi_label=head.multi_label)


def _told(labels: tuple[str, ...], *, multi_label: bool) -> str:
    return f"{', '.join(labels) or 'none'}{' (multi_label)' if multi_label else ''}"
