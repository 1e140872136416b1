"""The probability that an answer of POST /v1/generate is right, and answers that are withheld."""

from dataclasses import asdict, dataclass

from service.adapters.confidence import ConfidenceMap
from service.api.schemas.generate import ConfidenceBody, GenerateRequest, OutputBody, TextFormat
from service.context import RequestContext
from service.engine.protocol import FinishReason
from service.errors import InvalidRequest, UnsupportedFeature
from service.fleet.models import ChosenModel
from service.generation.confidence import Confidence
from service.generation.whole import Output
from service.quoting import quote
from service.telemetry.generation import GenerationMetrics

_FIELD = "min_confidence"


@dataclass(frozen=True, slots=True)
class Judge:
    """Renders confidence and withholds answers; `map` is None where no map holds."""

    map: ConfidenceMap | None
    least: float | None
    metrics: GenerationMetrics
    context: RequestContext

    @classmethod
    def of(
        cls,
        body: GenerateRequest,
        model: ChosenModel,
        context: RequestContext,
        metrics: GenerationMetrics,
    ) -> "Judge":
        """The judge of a request's answers; InvalidRequest if it cannot hold `min_confidence`."""
        found, other = model.confidence_map, _not_greedy(body)
        if body.min_confidence is not None:
            _check(body, found, other)
        return cls(None if other else found, body.min_confidence, metrics, context)

    def confidence(
        self, measures: Confidence | None, reason: FinishReason | None
    ) -> ConfidenceBody | None:
        """The measures, with `p_correct` for a whole answer that a map holds for."""
        if measures is None:
            return None
        named, map_ = asdict(measures), self.map if reason == "stop" else None
        return ConfidenceBody(**named, p_correct=None if map_ is None else map_.p_correct(named))

    def output(self, output: Output) -> OutputBody:
        """The answer, or none of its text where it is less sure than was asked for."""
        confidence = self.confidence(output.confidence, output.finish_reason)
        p_correct = None if confidence is None else confidence.p_correct
        withheld = self.least is not None and (p_correct is None or p_correct < self.least)
        if self.map is not None and confidence is not None:
            self.metrics.judged(self.context, p_correct, withheld=withheld)
        return OutputBody(
            index=output.index,
            text="" if withheld else output.text,
            finish_reason="abstained" if withheld else output.finish_reason or "stop",
            confidence=confidence,
        )


def _check(body: GenerateRequest, found: ConfidenceMap | None, other: str | None) -> None:
    if found is None:
        raise UnsupportedFeature(
            f"{_FIELD}: {quote(body.model)} has no confidence map; `llm-service calibrate` fits "
            "one for a generation adapter",
            param=_FIELD,
        )
    if body.stream:
        raise InvalidRequest(
            f"{_FIELD}: an answer is judged when it is whole; stream must be false, got true",
            param=_FIELD,
        )
    if other is not None:
        raise InvalidRequest(f"{_FIELD}: the map is for greedy answers; {other}", param=_FIELD)


def _not_greedy(body: GenerateRequest) -> str | None:
    """The field by which an answer is not the greedy one that a map was fitted on."""
    if body.temperature != 0:
        return f"temperature must be 0, got {body.temperature:g}"
    for name, neutral in (
        ("presence_penalty", 0),
        ("frequency_penalty", 0),
        ("repetition_penalty", 1),
    ):
        if (value := getattr(body, name)) != neutral:
            return f"{name} must be {neutral}, got {value:g}"
    if body.stop:
        return "stop must be empty"
    if body.response_format is not None and not isinstance(body.response_format, TextFormat):
        return f"response_format must be text, got {body.response_format.type}"
    return None
