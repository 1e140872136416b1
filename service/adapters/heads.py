"""An encoder's trained head: its manifest, its verification, and its proof on an engine.

With other tokenisation, pooling or weights a head may still classify easy examples correctly, but
its logits differ. So the proof also compares the logits of the first golden examples with the
packed ones: it divides their root mean square difference by the spread of the packed logits over
the examples, so that one limit suits heads with large and with small logits.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, JsonValue, model_validator

from service.adapters.formats import GuardBound, InputReference, Strict
from service.adapters.golden import ClassificationExample, read_labelled_examples
from service.adapters.golden_score import GoldenResult
from service.adapters.manifest import (
    BaseReference,
    CalibrationRecord,
    ClassificationGolden,
    License,
    Name,
    Version,
    check_calibrated,
)
from service.adapters.questions import ask_all, check_accuracy, refuse_unanswered, score_classifier
from service.classification.calibration import Array
from service.classification.encoder import HeadClassifier
from service.common.files import write_atomically
from service.context import internal_request
from service.engine.pooling import ConformalSets, Pooler
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
    """The manifest in a folder, None if there is none; HeadRefused names the wrong field."""
    return read_document(folder, MANIFEST_FILE, HeadManifest, HeadRefused)


def verify_head(folder: Path, model: EncoderModel, pin: str | None = None) -> HeadManifest | None:
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
        expected = "the digests that finetune wrote"
        raise HeadRefused(head.name, LIST_FILE, "is missing", expected, "nothing")
    if listed.digest != pin:
        check_files(folder, listed)
    refuse = partial(HeadRefused, head.name, MANIFEST_FILE)
    if (head.labels, head.multi_label) != (model.labels, model.multi_label):
        raise refuse(
            "labels are not those of config.json",
            _describe_labels(model.labels, multi_label=model.multi_label),
            _describe_labels(head.labels, multi_label=head.multi_label),
        )
    if head.golden.file not in listed.files:
        raise refuse("golden.file", f"a file of {LIST_FILE}", head.golden.file)
    if len(read_golden_examples(folder, head)) < len(head.fingerprint):
        raise refuse("fingerprint", "a golden example for each row", "fewer")
    return head


def read_golden_examples(folder: Path, head: HeadManifest) -> tuple[ClassificationExample, ...]:
    """The golden examples of a head; HeadRefused for one that cannot be asked."""
    file = head.golden.file
    refuse = partial(HeadRefused, head.name, file)
    return read_labelled_examples(folder / file, refuse, head.labels, multi_label=head.multi_label)


def _describe_labels(labels: tuple[str, ...], *, multi_label: bool) -> str:
    return f"{', '.join(labels) or 'none'}{' (multi_label)' if multi_label else ''}"


TOLERANCE = 0.1
"""Largest distance that other processors and dtypes may cause (docs/decisions, heads)."""


@dataclass(frozen=True, slots=True)
class HeadProof:
    """Result of the golden examples, distance from the packed values, and time of the proof."""

    result: GoldenResult
    distance: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.result.passed} of {self.result.total} golden examples right, "
            f"{self.distance:.3f} from the packed values, {self.seconds:.1f} s"
        )


async def prove_head(engine: Pooler, folder: Path, timeout_s: float) -> HeadProof | None:
    """Run the golden examples of a head that `finetune` packed; None for any other encoder.

    Raises HeadRefused if the head passes too few examples, if its logits differ from the packed
    ones, and if the proof takes longer than `timeout_s`; EngineDead when the engine ends.
    """
    head = await asyncio.to_thread(load_manifest, folder)
    if head is None:
        return None
    started = time.monotonic()
    refuse = partial(HeadRefused, head.name, head.golden.file)
    examples = await asyncio.to_thread(read_golden_examples, folder, head)
    async with internal_request(f"proof-{head.name}", timeout_s):
        with refuse_unanswered(refuse, timeout_s):
            most = engine.info.max_num_seqs
            result = await score_classifier(HeadClassifier(engine), examples, most)
            values = await golden_logits(engine, examples[: len(head.fingerprint)])
    check_accuracy(refuse, result, head.golden.min_accuracy)
    distance = _distance(head, values)
    if not distance <= TOLERANCE:
        expected, found = f"values within {TOLERANCE:g} of those packed", f"{distance:.2f} apart"
        raise HeadRefused(head.name, MANIFEST_FILE, "proof", expected, found)
    return HeadProof(result, distance, time.monotonic() - started)


async def golden_logits(engine: Pooler, examples: Sequence[ClassificationExample]) -> Array:
    """The head's logits for these golden examples: a row for each."""
    classifier, most = HeadClassifier(engine), engine.info.max_num_seqs

    async def ask(example: ClassificationExample) -> Array:
        pooled = await classifier.ask(example.input, asyncio.Semaphore(most))
        return pooled.values.astype(np.float64)

    return np.stack(await ask_all(most, examples, ask))


def _distance(head: HeadManifest, found: Array) -> float:
    packed = np.array(head.fingerprint)
    spread = float(np.sqrt(np.mean((packed - packed.mean(axis=0)) ** 2)))
    if spread < TOLERANCE:
        raise HeadRefused(
            head.name,
            MANIFEST_FILE,
            "proof",
            f"packed values that differ by {TOLERANCE:g} or more among the golden examples",
            f"{spread:.2f}: the head tells them apart too little",
        )
    return float(np.sqrt(np.mean((found - packed) ** 2))) / spread
