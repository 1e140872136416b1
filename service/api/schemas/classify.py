"""Bodies of POST /v1/classify."""

from typing import Literal

from pydantic import Field

from service.api.schemas.base import AnswerBody, RequestBody, TimingBody
from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.quote import quote
from service.settings import LimitSettings


class ClassifyRequest(RequestBody):
    """What to classify, and among which labels."""

    model: str = Field(description="The base model.")
    input: str | list[str] = Field(description="One text or a list of them.")
    candidate_labels: list[str] | None = Field(None, description="Labels to choose from.")
    instruction: str | None = Field(None, min_length=1, max_length=4096)
    multi_label: bool = False
    top_k: int | None = Field(None, ge=1)
    threshold: float | None = Field(None, ge=0, le=1)
    timeout_ms: int | None = Field(None, ge=1, description="Deadline, waiting included.")

    def inputs(self, limits: LimitSettings) -> list[str]:
        """The texts as a list; InvalidRequest for none, too many or an empty one."""
        inputs = [self.input] if isinstance(self.input, str) else self.input
        if not 1 <= len(inputs) <= limits.classify_inputs:
            raise InvalidRequest(
                f"input: 1..{limits.classify_inputs} texts, got {len(inputs)}", param="input"
            )
        for index, text in enumerate(inputs):
            if not text.strip():
                raise InvalidRequest(f"input[{index}]: must not be empty", param="input")
        return inputs

    def labels(self, limits: LimitSettings) -> list[str]:
        """The candidate labels; InvalidRequest for a set that cannot be chosen from."""
        labels = self.candidate_labels
        if labels is None:
            raise InvalidRequest(
                "candidate_labels: required for the base model", param="candidate_labels"
            )
        if not 2 <= len(labels) <= limits.candidate_labels:
            raise InvalidRequest(
                f"candidate_labels: 2..{limits.candidate_labels} labels, got {len(labels)}",
                param="candidate_labels",
            )
        for index, label in enumerate(labels):
            size = len(label.encode(errors="surrogatepass"))
            if not label.strip() or size > limits.label_bytes:
                raise InvalidRequest(
                    f"candidate_labels[{index}]: 1..{limits.label_bytes} bytes, got {size}",
                    param="candidate_labels",
                )
            if label in labels[:index]:
                raise InvalidRequest(
                    f"candidate_labels[{index}]: {quote(label)} is given twice",
                    param="candidate_labels",
                )
        return labels

    def refuse_unsupported(self) -> None:
        """Name what the contract has and this version does not serve."""
        for name in ("multi_label", "threshold"):
            if getattr(self, name):
                raise UnsupportedFeature(f"{name}: not served yet", param=name)


class LabelScore(AnswerBody):
    """A label and its probability."""

    label: str
    score: float


class ClassificationBody(AnswerBody):
    """One input's result; `scores` from the most likely label down."""

    index: int
    label: str
    score: float
    scores: list[LabelScore]


class ClassifyUsage(AnswerBody):
    """Tokens used."""

    prompt_tokens: int
    cached_tokens: int


class ClassifyAnswer(AnswerBody):
    """Results in the order of the inputs."""

    id: str
    object: Literal["list"] = "list"
    model: str
    data: list[ClassificationBody]
    usage: ClassifyUsage
    timing: TimingBody
