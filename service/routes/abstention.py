"""Confidence of answers of POST /v1/generate, and the withholding of uncertain ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from service.adapters.choice import ChosenModel
from service.adapters.confidence import FittedMap, Match, Siblings
from service.adapters.golden_score import agreement
from service.common.error_messages import quote
from service.context import RequestContext
from service.context.answer import Guarded
from service.errors import InvalidRequest, UnsupportedFeature
from service.generation.fold import Confidence
from service.generation.served_model import ServedModel
from service.generation.text import (
    Answer,
    GenerationRequest,
    TokenCounts,
    answers,
    collect,
    siblings,
)
from service.routes.generate_bodies import ConfidenceBody, GenerateRequest, OutputBody, TextFormat
from service.runtime.parts import Runtime
from service.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Comparison:
    """Samples answers beside a request's greedy one to measure agreement; they are not sent."""

    drawn: Siblings
    match: Match
    context: RequestContext

    async def collect(
        self, engine: ServedModel, task: GenerationRequest
    ) -> tuple[Sequence[Answer], TokenCounts]:
        """The whole answer with its agreement, and the tokens of all; raises as `text.collect`.

        The gate admits the answer and its siblings as a whole. An answer that was cut has no
        agreement.
        """
        self.context.parts += self.drawn.samples
        job = await task.prepare(engine)
        (output,), usage = await answers(engine, job)
        if output.confidence is None or output.finish_reason != "stop":
            return [output], usage
        # The guard has read the answer; nobody gets the siblings.
        self.context.extended(Guarded).answer = None
        texts, more = await siblings(engine, job, self.drawn.samples, self.drawn.temperature)
        share = agreement(output.text, texts, self.match)
        measured = replace(output.confidence, agreement=share)
        return [replace(output, confidence=measured)], usage + more


_FITTED = {"min_confidence": ("", ""), "agreement": (" of agreement", " --agreement N")}
"""The kind of map that a field needs, in words, and the command-line option that fits it."""


@dataclass(frozen=True, slots=True)
class ConfidencePolicy:
    """Renders confidence and withholds answers that are less certain than `least`.

    `map` gives the probability that an answer is right, None if no map holds for the request. With
    a `comparison` it is the map with agreement.
    """

    map: FittedMap | None
    least: float | None
    comparison: Comparison | None
    metrics: Metrics
    context: RequestContext

    @classmethod
    def of(
        cls, body: GenerateRequest, model: ChosenModel, context: RequestContext, runtime: Runtime
    ) -> "ConfidencePolicy":
        """The policy of a request's answers.

        Raises InvalidRequest if no map holds for `min_confidence` or `agreement`.
        """
        found, unlike = model.confidence_map, _not_greedy(body)
        compared = found.agreement if found is not None and body.agreement else None
        if body.min_confidence is not None:
            _check("min_confidence", body, found, unlike)
        if body.agreement:
            _check("agreement", body, compared, unlike)
        comparison = None
        if found is not None and compared is not None:
            _check_samples(compared.siblings.samples, runtime.settings.limits.n)
            comparison = Comparison(compared.siblings, found.match, context)
        map_, metrics = None if unlike else compared or found, runtime.metrics
        return cls(map_, body.min_confidence, comparison, metrics, context)

    async def collect(
        self, engine: ServedModel, task: GenerationRequest
    ) -> tuple[Sequence[Answer], TokenCounts]:
        """The whole answers, before any is withheld; raises as `text.collect`."""
        return await (self.comparison.collect if self.comparison else collect)(engine, task)

    def confidence(self, measures: Confidence | None, reason: str | None) -> ConfidenceBody | None:
        """The measures, with `p_correct` if the answer is whole and the map applies to it."""
        if measures is None:
            return None
        named, map_ = asdict(measures), self.map if reason == "stop" else None
        return ConfidenceBody(**named, p_correct=None if map_ is None else map_.p_correct(named))

    def output(self, output: Answer) -> OutputBody:
        """The answer, without its text if it is less certain than the request asks for."""
        confidence = self.confidence(output.confidence, output.finish_reason)
        p_correct = None if confidence is None else confidence.p_correct
        withheld = self.least is not None and (p_correct is None or p_correct < self.least)
        if self.map is not None and confidence is not None:
            self.metrics.count_generation(self.context, p_correct, withheld=withheld)
        return OutputBody(
            index=output.index,
            text="" if withheld else output.text,
            finish_reason="abstained" if withheld else output.finish_reason or "stop",
            confidence=confidence,
        )


def _check(field: str, body: GenerateRequest, found: FittedMap | None, unlike: str | None) -> None:
    if found is None:
        wanted, option = _FITTED[field]
        raise UnsupportedFeature(
            f"{field}: {quote(body.model)} has no confidence map{wanted}; `llm-service "
            f"calibrate{option}` fits one for a generation adapter",
            param=field,
        )
    if body.stream:
        raise InvalidRequest(
            f"{field}: an answer is judged when it is whole; stream must be false, got true",
            param=field,
        )
    if unlike is not None:
        raise InvalidRequest(f"{field}: the map is for greedy answers; {unlike}", param=field)


def _check_samples(samples: int, most: int) -> None:
    if samples > most:
        raise InvalidRequest(
            f"agreement: the map needs {samples} sampled answers, limits.n allows {most}",
            param="agreement",
        )


def _not_greedy(body: GenerateRequest) -> str | None:
    """A sentence on the field that makes the request not greedy; None if it is greedy."""
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
