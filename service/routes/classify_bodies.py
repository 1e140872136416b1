"""Bodies of POST /v1/classify."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from service.classification.classifier import DEFAULT_INSTRUCTION, Question
from service.classification.encoder import (
    DEFAULT_HYPOTHESIS,
    InferenceClassifier,
    Verdicts,
)
from service.common.error_messages import quote
from service.engine.pooling import ConformalSets, Pooler
from service.engine.texts import size_of
from service.errors import InvalidRequest
from service.http.bodies import (
    AnswerBody,
    EngineBody,
    ErrorDetail,
    Many,
    TimingBody,
)
from service.settings.limits import LimitSettings

_QUESTION = ("candidate_labels", "hypothesis_template", "instruction", "template", "calibrate")
_MOST_TAIL = 256
"""The most characters of a template after the input, which are read again with every label."""


class ClassifyRequest(EngineBody):
    """Texts to classify, and the labels to choose among."""

    model: str = Field(
        description="The base model, or an adapter or an encoder with labels of its own."
    )
    input: str | Annotated[list[str], Many] = Field(description="One text or a list of them.")
    candidate_labels: Annotated[list[str], Many] | None = Field(
        None,
        description="Labels to choose from; the base model, or an encoder trained for inference.",
    )
    instruction: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description=f"What to ask; the base model only, default {DEFAULT_INSTRUCTION!r}",
    )
    template: str | None = Field(
        None,
        max_length=4096,
        description="Plain text around `{input}`, up to the label, at most 256 characters after "
        "it, in place of chat template and instruction; the base model only.",
        examples=["Review: {input}\nSentiment:"],
    )
    hypothesis_template: str | None = Field(
        None,
        max_length=1024,
        description="Sentence that holds `{}` once, for a label; encoders for inference (NLI) "
        f"only, default {DEFAULT_HYPOTHESIS!r}",
    )
    multi_label: bool = Field(False, description="Ask of every label by itself whether it applies.")
    calibrate: bool | None = Field(
        None,
        description="Divide by what the base favours before it reads anything; default true.",
    )
    top_k: int | None = Field(None, ge=1, description="List at most so many scores, the best.")
    threshold: float | None = Field(
        None, ge=0, le=1, description="Abstain when no label scores so much."
    )
    truncate: bool | None = Field(
        None,
        description="Cut a longer input; encoders only, whose setting is the default.",
    )

    def inputs(self, limits: LimitSettings) -> list[str]:
        """The texts as a list; InvalidRequest for none or too many."""
        inputs = [self.input] if isinstance(self.input, str) else self.input
        if not 1 <= len(inputs) <= limits.classify_inputs:
            raise InvalidRequest.at(
                "input", f"1..{limits.classify_inputs} texts, got {len(inputs)}"
            )
        return inputs

    def question(self, limits: LimitSettings, *, of_base: bool) -> Question | None:
        """The question to the base model; None for an adapter, which has its own.

        Raises InvalidRequest for invalid labels, and for a question to an adapter.
        """
        if self.truncate:
            raise InvalidRequest.at("truncate", "only for encoders, got true")
        if not of_base:
            self.refuse_question("adapter")
            return None
        by_inference = "only for encoders that were trained for inference (NLI)"
        self._refuse(("hypothesis_template",), by_inference)
        instruction = DEFAULT_INSTRUCTION if self.instruction is None else self.instruction.strip()
        if not instruction:
            raise InvalidRequest.at("instruction", "must not be blank")
        labels = tuple(self._labels(limits))
        return Question(instruction, labels, self.multi_label, self._template())

    def hypotheses(
        self, pooler: Pooler, verdicts: Verdicts, limits: LimitSettings
    ) -> InferenceClassifier | None:
        """The zero-shot classifier of the request's labels, for an encoder trained for inference.

        Without labels it is None, and the encoder's head answers with its own labels. Raises
        InvalidRequest for labels or a template that cannot be read, and for fields of other models.
        """
        if self.candidate_labels is None:
            return None
        of_base = ("instruction", "template", "calibrate")
        self._refuse(of_base, "not for encoders; set hypothesis_template")
        stated = self.hypothesis_template
        template = DEFAULT_HYPOTHESIS if stated is None else stated
        if (times := template.count("{}")) != 1:
            raise InvalidRequest.at(
                "hypothesis_template", f"needs {{}} exactly once, got it {times} times"
            )
        labels = tuple(self._labels(limits))
        return InferenceClassifier(
            pooler, verdicts, labels, template, self.multi_label, self.truncate
        )

    def refuse_question(self, kind: str) -> None:
        """Raise InvalidRequest for fields of a question: a model of this kind takes none."""
        self._refuse(_QUESTION, f"the {kind} {quote(self.model)} brings its own")

    def _refuse(self, names: Sequence[str], reason: str) -> None:
        """Raise InvalidRequest for the first of these fields that is set."""
        for name in names:
            if (value := getattr(self, name)) != ClassifyRequest.model_fields[name].default:
                raise InvalidRequest.at(name, f"{reason}, got {quote(value)}")

    def _template(self) -> tuple[str, str] | None:
        if self.template is None:
            return None
        self._refuse(("instruction", "multi_label"), "not beside a template")
        before, *after = self.template.split("{input}")
        if len(after) != 1:
            raise InvalidRequest.at(
                "template", f"needs {{input}} exactly once, got it {len(after)} times"
            )
        if len(after[0]) > _MOST_TAIL:
            raise InvalidRequest.at(
                "template", f"at most {_MOST_TAIL} characters after {{input}}, got {len(after[0])}"
            )
        return before, after[0]

    def _labels(self, limits: LimitSettings) -> list[str]:
        labels = self.candidate_labels
        if labels is None:
            raise InvalidRequest.at("candidate_labels", "required for the base model")
        least = 1 if self.multi_label else 2
        if not least <= len(labels) <= limits.candidate_labels:
            raise InvalidRequest.at(
                "candidate_labels", f"{least}..{limits.candidate_labels} labels, got {len(labels)}"
            )
        seen: set[str] = set()
        for index, label in enumerate(labels):
            size = size_of(label)
            if not label.strip() or size > limits.label_bytes:
                raise InvalidRequest(
                    f"candidate_labels[{index}]: 1..{limits.label_bytes} bytes and not blank, "
                    f"got {size} bytes",
                    param="candidate_labels",
                )
            if label in seen:
                raise InvalidRequest(
                    f"candidate_labels[{index}]: {quote(label)} is given twice",
                    param="candidate_labels",
                )
            seen.add(label)
        return labels


class LabelScoreBody(AnswerBody):
    """A label and its probability."""

    label: str
    score: float


class ClassificationBody(AnswerBody):
    """One input's result.

    `label` is null when `abstained`; `score` is the best label's in both cases. `scores` begin with
    the most likely label; `probs` holds the probabilities of all `num_classes` labels in the order
    of the label set. With `multi_label`, `label_set` holds the labels that apply, and
    `conformal_set` those that the conformal calibration does not rule out. Otherwise `label_set`
    holds the labels that the calibration does not rule out, or is null without one.
    """

    index: int
    label: str | None
    score: float
    scores: list[LabelScoreBody]
    probs: list[float]
    num_classes: int
    label_set: list[str] | None
    conformal_set: list[str] | None
    abstained: bool


class FailureBody(AnswerBody):
    """An input that could not be classified, unlike other inputs of the request."""

    index: int
    error: ErrorDetail


class ClassifyUsage(AnswerBody):
    """Tokens of all reads; a prompt read for several labels counts each time, mostly as cached."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


class ConformalBody(AnswerBody):
    """The conformal guarantee of label sets, which hold the labels of at least `threshold`.

    At least a share `coverage` of the sets holds the true label. `level` is the share that may miss
    it: 1 - coverage after calibration, later adjusted by feedback. With `multi_label` there is a
    threshold for each label, in the order of `probs`, and the guarantee holds for each label
    separately.
    """

    coverage: float
    level: float
    threshold: float | list[float]

    @classmethod
    def of(cls, sets: ConformalSets) -> "ConformalBody":
        """The guarantee in the answer's form."""
        least = list(sets.least) if isinstance(sets.least, tuple) else sets.least
        return cls(coverage=sets.coverage, level=sets.level, threshold=least)


class ClassifySummary(AnswerBody):
    """Last line of a streamed answer."""

    id: str
    object: Literal["summary"] = "summary"
    created: int
    model: str
    usage: ClassifyUsage
    conformal: ConformalBody | None
    timing: TimingBody


class ClassifyAnswer(AnswerBody):
    """Results in the order of the inputs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ClassificationBody | FailureBody]
    usage: ClassifyUsage
    conformal: ConformalBody | None
    timing: TimingBody
