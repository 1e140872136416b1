"""The schema of adapter.yaml: an adapter's base, prompt, labels, golden examples and files.

    Manifest
    +- ClassificationManifest    task: classification; needs prompt and classification
    +- GenerationManifest        task: generation; the prompt is optional

Everything is strict (no unknown key, no coerced type) and frozen. `service.adapters.manifest_yaml`
reads and writes it; the published JSON Schema is docs/schemas/adapter.schema.json.
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    field_validator,
    model_validator,
)

from service.adapters.confidence import ConfidenceMap
from service.adapters.decisions import DecisionsRecord
from service.adapters.formats import GuardBound, InputReference, Strict
from service.common.files import FILE_NAME, Digest
from service.engine.contract import MAX_LABELS
from service.settings.limits import SamplingDefaults

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
MANIFEST_FILE = "adapter.yaml"
SIGNATURE_FILE = "adapter.sig"
INPUT = "{input}"
MAX_FILES = 64
MAX_READS = 16
MAX_READ_TOKENS = 16
_MAX_SUFFIX = 256
_MAX_TEMPLATE = 16_384

# semver.org, section "Is there a suggested regular expression", without its named groups.
_SEMVER = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$"
)

# No "@", ":" or "/": an adapter answers under name and name@version.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
Version = Annotated[str, Field(pattern=_SEMVER, max_length=64)]
FileName = Annotated[str, Field(pattern=FILE_NAME)]
Share = Annotated[float, Field(gt=0, le=1)]
_Threshold = Annotated[float, Field(ge=0, le=1)]
# An SPDX expression where there is one, else a sentence.
License = Annotated[str, Field(min_length=1, max_length=512)]
TokenIds = tuple[Annotated[int, Field(ge=0)], ...]


class BaseReference(Strict):
    """The base model the adapter was trained on, by name and `base_model_digest`."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    digest: Digest


class PromptTemplate(Strict):
    """The text around an input. Only `{input}` is replaced; other braces stay as they are.

    `{input}` appears once and near the end: all requests share the text before it and its cached
    blocks; the text after it (the cue for the answer, the end of a chat turn) is computed anew for
    each and has at most 256 characters.
    """

    template: Annotated[str, Field(max_length=_MAX_TEMPLATE)]

    @field_validator("template")
    @classmethod
    def _has_input_at_its_end(cls, template: str) -> str:
        count = template.count(INPUT)
        if count != 1:
            raise ValueError(f"must hold {INPUT} exactly once, got it {count} times")
        suffix = len(template) - template.index(INPUT) - len(INPUT)
        if suffix > _MAX_SUFFIX:
            raise ValueError(
                f"must have at most {_MAX_SUFFIX} characters after {INPUT} (instruction first, "
                f"input last, so that requests share the cached prefix), got {suffix}"
            )
        return template

    def render(self, text: str) -> str:
        """Return the prompt for one input."""
        prefix, suffix = self.template.split(INPUT)
        return f"{prefix}{text}{suffix}"


class Conformal(Strict):
    """Held-out quantiles: labels of score at least 1 - threshold form the prediction set.

    If labels exclude each other, there is one threshold for all of them; with `multi_label` there
    is one for each label, in their order.
    """

    coverage: Annotated[float, Field(gt=0, lt=1)]
    threshold: _Threshold | tuple[_Threshold, ...]

    @classmethod
    def from_least(cls, coverage: float, least: float | tuple[float, ...]) -> "Conformal":
        """A calibration from the least probability with which a label belongs to the set."""
        if isinstance(least, tuple):
            return cls(coverage=coverage, threshold=tuple(map(_threshold, least)))
        return cls(coverage=coverage, threshold=_threshold(least))

    @property
    def least(self) -> float | tuple[float, ...]:
        """The least probability of a label in the set: one for all labels, or one for each."""
        if isinstance(self.threshold, tuple):
            return tuple(1 - each for each in self.threshold)
        return 1 - self.threshold

    def fits(self, labels: int, *, multi_label: bool) -> bool:
        """True for one threshold for all labels, or with `multi_label` one for each of `labels`."""
        found = self.threshold
        if isinstance(found, tuple):
            return multi_label and len(found) == labels
        return not multi_label


def _threshold(least: float) -> float:
    """1 - least, rounded up where needed, so that 1 - threshold is at most `least`."""
    threshold = 1 - least
    return math.nextafter(threshold, 1) if 1 - threshold > least else threshold


class CalibrationRecord(Strict):
    """Calibration: divide by the content-free prior, then apply the temperature.

    The prior has one value for each label, in the labels' order.
    """

    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    prior: tuple[Share, ...] | None = None
    conformal: Conformal | None = None


class LabelSet(Strict):
    """The closed label set: public name -> the words of the answer, and their calibration."""

    labels: Annotated[
        Mapping[
            Annotated[str, Field(min_length=1, max_length=128)],
            Annotated[str, Field(min_length=1, max_length=256)],
        ],
        Field(min_length=1, max_length=MAX_LABELS),
    ]
    multi_label: bool = False
    calibration: CalibrationRecord = CalibrationRecord()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(self.labels) < 2 and not self.multi_label:
            raise ValueError("labels: must be at least 2 unless multi_label is true, got 1")
        if len(set(self.labels.values())) != len(self.labels):
            raise ValueError("labels: must have different words, got the same words twice")
        prior, conformal = self.calibration.prior, self.calibration.conformal
        if conformal and not conformal.fits(len(self.labels), multi_label=self.multi_label):
            raise ValueError(
                "calibration.conformal.threshold: must be one value a label with multi_label, "
                "else one"
            )
        if prior is None:
            return self
        if len(prior) != len(self.labels):
            raise ValueError(
                f"calibration.prior: must be {len(self.labels)} values, one a label, in the "
                f"labels' order, got {len(prior)} values"
            )
        if not self.multi_label and not math.isclose(sum(prior), 1, abs_tol=1e-3):
            raise ValueError(f"calibration.prior: must sum to 1, got a sum of {sum(prior):g}")
        return self


class ClassificationGolden(Strict):
    """Examples that must reach an accuracy on the engine before the adapter serves."""

    file: FileName
    min_accuracy: Share


class GenerationGolden(Strict):
    """Prompts whose greedy answers must match; see service.adapters.golden for each match."""

    file: FileName
    match: Literal["exact", "regex", "json", "tool_calls", "token", "words"]
    min_accuracy: Share = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 128
    min_token_f1: Share = 0.8


class FingerprintRead(Strict):
    """One read of a packed adapter: next-token log-probabilities (nats) after a golden prompt.

    The prompt is that of the golden example at `line` (from 1), followed by the answer's tokens
    `after`. Under multi_label it includes the first label's question. `adapter` and `base` hold one
    value for each of `tokens`, as the adapter and the bare base gave them at packing.
    """

    line: Annotated[int, Field(ge=1)]
    after: Annotated[TokenIds, Field(max_length=64)] = ()
    tokens: Annotated[TokenIds, Field(min_length=1, max_length=MAX_READ_TOKENS)]
    adapter: tuple[float, ...]
    base: tuple[float, ...]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for field in ("adapter", "base"):
            found = len(getattr(self, field))
            if found != len(self.tokens):
                raise ValueError(
                    f"{field}: must be {len(self.tokens)} values, one a token, got {found}"
                )
        return self


Fingerprint = Annotated[tuple[FingerprintRead, ...], Field(min_length=1, max_length=MAX_READS)]


class _Manifest(Strict):
    model_config = ConfigDict(populate_by_name=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: Name
    version: Version
    base_model: BaseReference
    files: Annotated[Mapping[FileName, Digest], Field(min_length=2, max_length=MAX_FILES)]
    license: License | None = None
    base_license: License | None = None
    evaluation: Mapping[str, JsonValue] = Field(default_factory=dict)
    fingerprint: Fingerprint | None = None

    @field_validator("files")
    @classmethod
    def _lists_the_adapter(cls, files: Mapping[str, str]) -> Mapping[str, str]:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if name not in files:
                raise ValueError(f"must have an entry for {name}, got only {', '.join(files)}")
        if MANIFEST_FILE in files:
            raise ValueError(f"must have no entry for {MANIFEST_FILE} itself")
        return files

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the manifest's content and, through `files`, of every other file.

        The hash is taken over canonical JSON (sorted keys, no spaces, ASCII, fields equal to
        their default left out, labels as a list because their order pairs them with the prior),
        not over the YAML's bytes: a comment or a re-wrapped line must not make a running server
        load the same weights again under a new id, and a default added by a later version of
        this schema must not rename every adapter packed before it.
        """
        document = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        if "classification" in document:
            labels = document["classification"]["labels"]
            document["classification"]["labels"] = list(labels.items())
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


class ClassificationManifest(_Manifest):
    """An adapter that chooses among labels.

    `guard` and `reference` are what `llm-service calibrate-guard` and
    `calibrate-drift` wrote for these files.
    """

    task: Literal["classification"]
    prompt: PromptTemplate
    classification: LabelSet
    golden: ClassificationGolden | None = None
    guard: GuardBound | None = None
    reference: InputReference | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _check_golden(self.golden, self)
        check_calibrated(self.guard, self.reference, self.classification.labels)
        return self


class GenerationManifest(_Manifest):
    """An adapter that writes text; without a prompt template the caller's prompt is used as it is.

    `confidence` is the map that `llm-service calibrate` fitted for these files. `sampling` holds
    defaults for requests; it precedes the base model's defaults. `decisions` says how closed
    questions are asked.
    """

    task: Literal["generation"]
    prompt: PromptTemplate | None = None
    golden: GenerationGolden | None = None
    confidence: ConfidenceMap | None = None
    sampling: SamplingDefaults = SamplingDefaults()
    decisions: DecisionsRecord = DecisionsRecord()

    @model_validator(mode="after")
    def _lists_golden(self) -> Self:
        _check_golden(self.golden, self)
        return self


Manifest = ClassificationManifest | GenerationManifest
MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Field(discriminator="task")])


def manifest_json_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of adapter.yaml."""
    schema = MANIFEST.json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "adapter.yaml, schema 1",
        **schema,
    }


def _check_golden(
    golden: ClassificationGolden | GenerationGolden | None, manifest: _Manifest
) -> None:
    if golden is not None and golden.file not in manifest.files:
        raise ValueError(f"golden.file: must be a file listed in files, got {golden.file}")
    if golden is None and manifest.fingerprint is not None:
        raise ValueError("fingerprint: needs golden examples, whose prompts it reads")


def check_calibrated(
    guard: GuardBound | None, reference: InputReference | None, labels: Collection[str]
) -> None:
    """Raise ValueError for a guard or a reference of other labels than the model's."""
    for label in () if guard is None else guard.labels:
        if label not in labels:
            raise ValueError(f"guard.labels: must be labels of the model, got {label}")
    if reference is not None and set(reference.labels) != set(labels):
        raise ValueError("reference.labels: must be the labels of the model")
