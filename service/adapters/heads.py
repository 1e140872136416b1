"""The manifest of an encoder's trained head: schema, reading and verification."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from service.adapters.formats import GuardBound, InputReference, Strict
from service.adapters.golden import ClassificationExample, labelled_examples
from service.adapters.manifest import (
    BaseReference,
    CalibrationRecord,
    ClassificationGolden,
    License,
    Name,
    Version,
    check_calibrated,
)
from service.common.files import write_atomically
from service.engine.pooling import ConformalSets
from service.models.encoder import EncoderModel
from service.models.file_list import LIST_FILE, check_files, read_file_list
from service.sources.reference import FileRefused, read_document


class HeadRefused(FileRefused):
    """A file of a trained head breaks a rule; the owner is the manifest's name, or the folder's."""

    kind: ClassVar[str] = "head"


MANIFEST_FILE = "head.json"
MAX_FINGERPRINT_LINES = 16

Values = Annotated[
    tuple[tuple[float, ...], ...], Field(min_length=1, max_length=MAX_FINGERPRINT_LINES)
]
"""Logits of the head for the first golden lines: a row for each line, a column for each label."""


class HeadManifest(Strict):
    """A head's name, its calibration, and the data of its proof.

    `fingerprint` has the logits that the engine gave at packing.
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    name: Name
    version: Version
    license: License | None = None
    base_model: BaseReference
    base_license: License | None = None
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    multi_label: bool = False
    calibration: CalibrationRecord
    golden: ClassificationGolden
    fingerprint: Values
    evaluation: Mapping[str, JsonValue] = Field(default_factory=dict)
    guard: GuardBound | None = None
    reference: InputReference | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        conformal = self.calibration.conformal
        if conformal and not conformal.fits(len(self.labels), multi_label=self.multi_label):
            raise ValueError(
                "calibration.conformal.threshold: one value a label with multi_label, else one"
            )
        if self.calibration.prior is not None:
            raise ValueError("calibration.prior: must be left out, since a head reads no prompt")
        check_calibrated(self.guard, self.reference, self.labels)
        for row in self.fingerprint:
            if len(row) != len(self.labels):
                raise ValueError(
                    f"fingerprint: {len(self.labels)} values in each row, got {len(row)}"
                )
        return self

    @property
    def conformal(self) -> ConformalSets | None:
        """The label sets of the promised coverage; None without a promise."""
        found = self.calibration.conformal
        return None if found is None else ConformalSets.fitted(found.coverage, found.least)

    @property
    def guard_threshold(self) -> tuple[tuple[str, ...], float] | None:
        """The guard's labels and threshold; None if `calibrate-guard` has not written any."""
        return None if self.guard is None else self.guard.of_labels

    def write(self, folder: Path) -> None:
        """Write the manifest into the head's folder, atomically."""
        document = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        write_atomically(folder / MANIFEST_FILE, (json.dumps(document, indent=1) + "\n").encode())


def load_manifest(folder: Path) -> HeadManifest | None:
    """The manifest in a folder, None if there is none; HeadRefused names the field at fault."""
    return read_document(folder, MANIFEST_FILE, HeadManifest, HeadRefused)


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
    file = head.golden.file
    refuse = partial(HeadRefused, head.name, file)
    return labelled_examples(folder / file, refuse, head.labels, multi_label=head.multi_label)


def _told(labels: tuple[str, ...], *, multi_label: bool) -> str:
    return f"{', '.join(labels) or 'none'}{' (multi_label)' if multi_label else ''}"
